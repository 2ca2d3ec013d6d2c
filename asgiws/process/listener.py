"""Accepting: a bound socket goes in, arrivals come out.

We accept ourselves, and not by the event loop, so that running out of file descriptors is
handled in one place. uvloop's own servers would then accept and close without a message, and
asyncio's would call the exception handler at every attempt.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from ..errors import BindError, ConfigError
from ..log import error_log
from .arrivals import Arrivals
from .sockets import accepting

PAUSE_SECONDS = 0.25
ACCEPTS_AT_ONCE = 64
FILLED_TO_GROW = 8


class Listener:
    """Accepts on one listening socket until ``stop``, and gives to ``arrivals``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, arrivals: Arrivals
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._arrivals = arrivals
        self._accept_one = accepting(sock, arrivals.bare)
        self._backlog = 0
        # The number to accept at once is learnt from how many waited lately. If connections come
        # one by one, this saves the system call that only learns that none is left.
        self._most = 1
        self._filled = 0  # how often that number waited since it changed
        self._pause: asyncio.TimerHandle | None = None
        self._exhausted = False

    def start(self, backlog: int) -> None:
        """Begin to accept; raises BindError if another server was faster."""
        self._sock.setblocking(False)
        self._backlog = backlog
        try:
            self._sock.listen(backlog)
        except OSError as exc:
            raise BindError(
                f"cannot listen on {self._sock.getsockname()}: {exc.strerror}"
            ) from None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def stop(self) -> None:
        """Accept those that wait in the backlog, then no more; setting up goes on."""
        self._rest()
        self._accept(self._backlog + 1)  # as many as Linux lets wait
        self._rest()

    def _rest(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())

    def _on_readable(self) -> None:
        most = ACCEPTS_AT_ONCE if self._exhausted else self._most
        accepted = self._accept(most)
        if accepted < most:
            self._most = max(1, accepted)
            self._filled = 0
        elif (filled := self._filled + 1) < FILLED_TO_GROW:
            self._filled = filled
        else:
            self._most = min(2 * most, ACCEPTS_AT_ONCE)
            self._filled = 0

    def _accept(self, most: int) -> int:
        """Accept that number, or as many as wait; return how many were taken off the backlog."""
        for accepted in range(most):
            try:
                sock, address = self._accept_one()
            except (BlockingIOError, InterruptedError):
                self._recovered()
                return accepted
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                self._exhaust(exc)
                return accepted
            self._arrivals.take(sock, address)
        return most

    def _exhaust(self, exc: OSError) -> None:
        """Out of descriptors or memory: leave the others in the backlog, and log it once."""
        if not self._exhausted:
            self._exhausted = True
            error_log.error("Cannot accept connections for now: %s", exc.strerror)
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _recovered(self) -> None:
        if self._exhausted:
            self._exhausted = False
            error_log.info("All connections that waited are accepted")

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)


class Listeners:
    """All listeners of one server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        arrivals: Arrivals,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._sockets = sockets
        self._arrivals = arrivals
        self._backlog = backlog
        self._all: list[Listener] = []

    def start(self) -> None:
        """Accept on all sockets; raises BindError, and ConfigError if the loop cannot."""
        for sock in self._sockets:
            listener = Listener(self._loop, sock, self._arrivals)
            try:
                listener.start(self._backlog)
            except NotImplementedError:
                raise ConfigError(
                    "--loop: this event loop cannot watch sockets; use a selector event loop"
                ) from None
            self._all.append(listener)

    def stop(self) -> None:
        """Accept the connections in the backlogs, then no more."""
        for listener in self._all:
            listener.stop()
