"""The worker's side of the inbox: connections that the supervisor hands over."""

from __future__ import annotations

import asyncio
import socket
import time

from ..http.serving import Serving
from ..log import error_log
from . import inbox
from .arrivals import Arrivals
from .board import Seat

BEAT_SECONDS = 0.1

TAKING = 0
EXHAUSTED = 1  # there were no descriptors left, and not all that waited is taken
STOPPED = 2


class Intake:
    """Takes connections from an inbox, and keeps the numbers of a seat.

    The supervisor sees by ``beat`` that the event loop runs, and by ``ended`` how many
    connections there still are.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        box: socket.socket,
        seat: Seat,
        serving: Serving,
        arrivals: Arrivals,
    ) -> None:
        self._loop = loop
        self._box = box
        self._seat = seat
        self._serving = serving
        self._arrivals = arrivals
        serving.ended = arrivals.failed = self._on_end
        self._taken = 0
        self._ended = 0
        self._state = TAKING
        self._timer: asyncio.TimerHandle | None = None
        admission = serving.admission
        self._rate = None if admission is None else admission.rate  # the whole fleet's
        self._shares = 0

    def start(self) -> None:
        """Take connections from now on."""
        self._seat.takes = True
        self._loop.add_reader(self._box.fileno(), self._on_readable)
        self._on_beat()

    def stop(self) -> None:
        """Take the connections in the inbox, then no more; the seat is still kept up."""
        self._loop.remove_reader(self._box.fileno())
        self._state = STOPPED
        while self._take():
            pass
        self._seat.takes = False

    def close(self) -> None:
        """The worker ends: the seat is no longer kept up."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_readable(self) -> None:
        self._take()

    def _take(self) -> bool:
        """Take one message; return whether there was one."""
        try:
            sockets = inbox.take(self._box)
        except inbox.NoDescriptors:
            self._exhaust()
            return False
        self._taken += len(sockets)
        for sock in sockets:
            try:
                address = sock.getpeername()
            except OSError:
                sock.close()  # the peer has reset the connection
                self._on_end()
            else:
                self._arrivals.take(sock, address)
        return bool(sockets)

    def _on_end(self) -> None:
        """A connection has ended, or could not be set up."""
        self._ended += 1
        self._seat.ended = self._ended

    def _exhaust(self) -> None:
        """Out of descriptors: log it once, leave new connections to others, and try again."""
        if self._state == TAKING:
            error_log.error("Cannot take connections for now: no file descriptors are left")
            self._state = EXHAUSTED
        self._seat.takes = False
        self._loop.remove_reader(self._box.fileno())

    def _divide(self) -> None:
        """Set our share of the handshakes that the whole fleet admits."""
        admission = self._serving.admission
        if admission is not None and self._rate is not None and self._shares != self._seat.shares:
            self._shares = self._seat.shares
            admission.rate = self._rate / max(1, self._shares)

    def _on_beat(self) -> None:
        self._seat.beat = time.monotonic_ns()
        self._divide()
        if not len(self._arrivals):
            # A connection that ended without a call of _on_end is forgotten here.
            self._ended = self._taken - len(self._serving.connections)
            self._seat.ended = self._ended
        if self._state == EXHAUSTED:
            if self._seat.takes:
                error_log.info("Connections are taken again")
                self._state = TAKING
            else:
                self._seat.takes = True
                self._loop.add_reader(self._box.fileno(), self._on_readable)
        self._timer = self._loop.call_later(BEAT_SECONDS, self._on_beat)
