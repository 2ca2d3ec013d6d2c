"""The channel between a supervisor and one worker: small messages, whole or not at all.

A message is a dict with a ``kind``, sent as JSON. Neither side ever waits for the other:
a message that finds no room is lost, which only happens if the other side hangs.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

LARGEST_TEXT = 8_192  # of a text in a message, in characters
LARGEST_BYTES = 200_000  # of a message: two such texts, twelve for a character outside of ASCII

# SEQPACKET keeps messages apart and tells of the other side's end; not all systems have it.
KIND = socket.SOCK_SEQPACKET if hasattr(socket, "SOCK_SEQPACKET") else socket.SOCK_STREAM


class Channel:
    """One end of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        #: whether the other side has ended
        self.over = False
        sock.setblocking(False)

    @classmethod
    def adopt(cls, fd: int) -> Channel:
        """The end with that descriptor."""
        return cls(socket.socket(socket.AF_UNIX, KIND, 0, fileno=fd))

    def fileno(self) -> int:
        """The descriptor that a selector or an event loop waits on."""
        return self.sock.fileno()

    def send(self, kind: str, fd: int | None = None, **values: Any) -> bool:
        """Send a message; return whether the other side will get it unless it ends before.

        With ``fd`` the other side gets a descriptor of its own for the same file.
        """
        data = json.dumps({"kind": kind, **values}).encode()
        try:
            if fd is None:
                self.sock.send(data)
            else:
                socket.send_fds(self.sock, [data], [fd])
        except OSError:
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None; no more will come if the other side is ``over``.

        A descriptor that came with it is its ``fd``, and the caller's.
        """
        data = b""
        fds: list[int] = []
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, LARGEST_BYTES, 1)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            pass  # reset: it is over as well
        if not data:
            self.over = True
            return None
        message: dict[str, Any] = json.loads(data)
        for fd in fds:
            os.set_inheritable(fd, False)
            message["fd"] = fd
        return message

    def close(self) -> None:
        """Close this end: the other side notices."""
        self.sock.close()


def pair() -> tuple[Channel, socket.socket]:
    """A channel's near end, and the socket of its far end."""
    near, far = socket.socketpair(socket.AF_UNIX, KIND)
    return Channel(near), far
