"""The output of a connection, whether the peer takes it, and how the connection ends."""
