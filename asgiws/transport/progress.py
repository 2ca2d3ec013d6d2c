"""The progress of a peer's reading, seen more finely than a transport can.

A transport learns that a peer has read when the kernel takes more from it, and the
kernel does so in large steps: of a send buffer of 2.5 MB about 800 kB must be empty
first. With a slow client this takes minutes. The number of bytes that the peer has not
acknowledged is known byte by byte from the kernel.
"""

from __future__ import annotations

import struct
from typing import Any

try:
    from fcntl import ioctl
    from termios import TIOCOUTQ
except ImportError:  # not on Windows: there a transport's steps must do
    TIOCOUTQ = 0  # type: ignore[misc]


def waiting(transport: Any) -> int:
    """Return how many bytes wait for the peer; 0 unless some of them wait in the transport itself.

    While nothing is written, any change means that the peer has taken some.
    """
    size: int = transport.get_write_buffer_size()
    return size + unacknowledged(transport) if size else 0


def unacknowledged(transport: Any) -> int:
    """Return how many bytes in the kernel are not acknowledged; 0 if the kernel does not tell."""
    if not TIOCOUTQ:
        return 0
    try:
        sock = transport.get_extra_info("socket")
        if sock is None:
            return 0
        answer: int = struct.unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))[0]
    except (OSError, RuntimeError, ValueError):
        return 0  # no such socket, or a closed one: it will be noticed elsewhere
    return answer
