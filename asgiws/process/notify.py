"""Messages to a service manager: systemd's sd_notify(3), without a library.

Nothing here waits or raises. If the manager's queue is full, ``beat`` sends the message again.
The event loop calls ``beat``, so it also is the sign of life of that loop, and the manager's
watchdog restarts a service whose loop hangs.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from ..log import error_log

AGAIN_SECONDS = 0.1


class Notifier:
    """Tells the service manager the state of the process; without one it does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """``environ`` says where the manager listens, and how often it wants a sign of life."""
        self._sock: socket.socket | None = None
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._waiting: list[bytes] = []
        self._complained = False
        self._interval: float | None = None
        self._due = 0.0
        if self._address[:1] not in ("/", "@"):
            return
        if self._address[0] == "@":
            self._address = "\0" + self._address[1:]
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        microseconds = environ.get("WATCHDOG_USEC", "")
        whose = environ.get("WATCHDOG_PID", "") or str(os.getpid())
        if microseconds.isdecimal() and int(microseconds) and whose == str(os.getpid()):
            self._interval = int(microseconds) / 2e6

    def ready(self, status: str) -> None:
        """The process serves, for the first time or again after ``reloading``."""
        # In a container the number 1 is not what the manager calls this process.
        main = [] if os.getpid() == 1 else [f"MAINPID={os.getpid()}"]
        self._tell("READY=1", f"STATUS={status}", *main)

    def reloading(self) -> None:
        """The configuration is read anew; ``ready`` says that it is done."""
        now = time.monotonic_ns() // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def stopping(self) -> None:
        """The process begins to end."""
        self._tell("STOPPING=1", "STATUS=Stopping")

    def status(self, words: str) -> None:
        """Set the line that the manager shows for the service."""
        self._tell(f"STATUS={words}")

    def beat(self) -> float | None:
        """Do what is due now; return the seconds after which to call again, or None for never.

        It must be called after each of the other calls, and when that time has come.
        """
        if self._sock is None:
            return None
        while self._waiting:
            if not self._send(self._waiting[0]):
                return AGAIN_SECONDS
            del self._waiting[0]
        if self._interval is None:
            return None
        now = time.monotonic()
        if now >= self._due:
            if not self._send(b"WATCHDOG=1"):
                return AGAIN_SECONDS
            self._due = now + self._interval
        return self._due - now

    def close(self) -> None:
        """Close the socket; nothing more is reported."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tell(self, *lines: str) -> None:
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        if self._sock is not None and (self._waiting or not self._send(message)):
            self._waiting.append(message)

    def _send(self, message: bytes) -> bool:
        """Return whether it need not be tried again: it was sent, or can never be."""
        assert self._sock is not None
        try:
            self._sock.sendto(message, self._address)
        except BlockingIOError:
            return False
        except OSError as exc:
            if not self._complained:
                self._complained = True
                error_log.warning("NOTIFY_SOCKET cannot be written to: %s", exc.strerror)
        return True
