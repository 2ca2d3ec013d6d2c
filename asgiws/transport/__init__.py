"""The output of a connection, whether the peer takes it, and how the connection ends."""

from typing import Final

# In place of the descriptor that a transport writes to.
NO_SOCKET: Final = -1  # there is none, or the transport changes the bytes (TLS)
NOT_LOOKED_AT: Final = -2
