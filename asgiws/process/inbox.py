"""An inbox of sockets, by which connections are handed from process to process.

A socket travels as a descriptor in the ancillary data of a message (SCM_RIGHTS, unix(7)),
before a byte of it is read. The supervisor keeps both ends of every inbox. So the sockets
in it outlive its worker, and can be taken back.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence

from .sockets import StreamSocket

MOST = 16  # sockets in one message

_SPACE = socket.CMSG_SPACE(MOST * array.array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_KIND = socket.SOCK_SEQPACKET if hasattr(socket, "SOCK_SEQPACKET") else socket.SOCK_DGRAM


class NoDescriptors(Exception):
    """The process has fewer descriptors left than the next message holds."""


def pair() -> tuple[socket.socket, socket.socket]:
    """An inbox: the end to put into, and the end to take from."""
    near, far = socket.socketpair(socket.AF_UNIX, _KIND)
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def adopt(fd: int) -> socket.socket:
    """The end of an inbox with that descriptor."""
    sock = socket.socket(socket.AF_UNIX, _KIND, 0, fileno=fd)
    sock.setblocking(False)
    return sock


def put(inbox: socket.socket, sockets: Sequence[socket.socket]) -> bool:
    """Put up to MOST sockets into it, all or none; return whether there was room.

    The caller still has to close its own descriptors of them.
    """
    families = bytes([sock.family for sock in sockets])
    fds = array.array("i", [sock.fileno() for sock in sockets])
    try:
        inbox.sendmsg([families], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    except OSError:
        # EAGAIN, or ETOOMANYREFS: more is on the way than the system allows.
        return False
    return True


def take(inbox: socket.socket) -> list[StreamSocket]:
    """Return the sockets of the next message, none if there is no message.

    Raises NoDescriptors. The message stays where it is then.
    """
    # Look at a message before taking it, because the system drops sockets for which no
    # descriptor is left.
    # The message that is taken may be another one, so the descriptors of the second look count.
    for flags in (socket.MSG_PEEK, 0):
        families, fds, whole = _read(inbox, flags)
        if flags or not whole:
            for fd in fds:
                socket.close(fd)
        if not whole:
            raise NoDescriptors
        if not families:
            return []
    return [
        StreamSocket(family, socket.SOCK_STREAM, 0, fileno=fd)
        for family, fd in zip(families, fds, strict=True)
    ]


def _read(inbox: socket.socket, flags: int) -> tuple[bytes, array.array[int], bool]:
    """A message: families, descriptors, and whether all of these have come."""
    fds = array.array("i")
    try:
        families, ancillary, got, _ = inbox.recvmsg(MOST, _SPACE, flags | _CLOSE_ON_EXEC)
    except (BlockingIOError, InterruptedError):
        return b"", fds, True
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return families, fds, not got & socket.MSG_CTRUNC and len(fds) == len(families)
