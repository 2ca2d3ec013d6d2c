"""The choice of a worker for a connection: the emptiest one that is ready and whose loop runs.

Only one place knows and decides. A worker's seat tells how many connections it has: those that it
was given less those that have ended. A worker that hangs gets no connections, and those that it has
not taken out of its inbox yet are taken back.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterable

from . import inbox
from .board import Seat

# Five beats. With less, bursts would be spread unevenly on a busy machine.
STALE_NANOSECONDS = 500_000_000
FULL_NANOSECONDS = 50_000_000  # a full inbox is left alone for so long


class Receiver:
    """The dispatcher's knowledge of one worker. ``open``: it is ready, and may get more."""

    def __init__(self, seat: Seat, near: socket.socket, far: socket.socket) -> None:
        """``near`` is the end of the inbox to put into, ``far`` the one to take from."""
        self.seat = seat
        self.near = near
        self.far = far
        self.open = False
        self._full_until = 0

    def runs(self, now: int) -> bool:
        """True if its event loop has run lately; ``now`` is CLOCK_MONOTONIC in nanoseconds."""
        return now - self.seat.beat <= STALE_NANOSECONDS

    def takes(self, now: int) -> bool:
        """Return whether it can be given more."""
        return (
            self.open and self._full_until <= now and self.seat.takes_since(now - STALE_NANOSECONDS)
        )

    def put(self, sockets: list[socket.socket], now: int) -> bool:
        """Put them into its inbox, all or none; return whether there was room."""
        if inbox.put(self.near, sockets):
            for sock in sockets:
                sock.close()
            return True
        self._full_until = now + FULL_NANOSECONDS
        return False

    def close(self) -> None:
        """Close both ends of the inbox."""
        self.near.close()
        self.far.close()


class Dispatcher:
    """Distributes connections among ``receivers``; ``waiting`` are those that none can take."""

    def __init__(self) -> None:
        self.receivers: list[Receiver] = []
        self.waiting: deque[socket.socket] = deque()
        self._dead: list[Receiver] = []  # whose inboxes are not empty yet
        self._last = 0

    def give(self, sockets: Iterable[socket.socket]) -> None:
        """Hand over connections, now or as soon as a worker takes them."""
        self.waiting.extend(sockets)
        self.flush()

    def flush(self) -> None:
        """Hand over the connections that wait."""
        while self.waiting:
            now = time.monotonic_ns()
            takers = [receiver for receiver in self.receivers if receiver.takes(now)]
            if not takers:
                return
            self._distribute(takers, now)

    def _distribute(self, takers: list[Receiver], now: int) -> None:
        """Hand over the waiting connections to workers with room; the others wait on."""
        loads = [taker.seat.load for taker in takers]
        shares: list[list[socket.socket]] = [[] for _ in takers]
        while self.waiting:
            # Equal workers take turns: otherwise one of them would serve all short connections.
            start = (self._last + 1) % len(takers)
            around = (*range(start, len(takers)), *range(start))
            turn = min(around, key=loads.__getitem__)
            self._last = turn
            loads[turn] += 1
            shares[turn].append(self.waiting.popleft())
        for taker, share in zip(takers, shares, strict=True):
            for first in range(0, len(share), inbox.MOST):
                batch = share[first : first + inbox.MOST]
                # Counted before they are put, because the worker may end one before we would count
                # it.
                taker.seat.given += len(batch)
                if not taker.put(batch, now):
                    taker.seat.given -= len(batch)
                    self.waiting.extendleft(reversed(share[first:]))
                    break

    def recover(self) -> None:
        """Take back the connections in the inboxes of workers that hang or are dead."""
        dead, self._dead = self._dead, []
        for receiver in dead:
            self.bury(receiver)
        now = time.monotonic_ns()
        for receiver in self.receivers:
            if not receiver.seat.takes_since(now - STALE_NANOSECONDS):
                self.take_back(receiver)

    def take_back(self, receiver: Receiver) -> None:
        """Take back the connections that a worker has left in its inbox; they wait again."""
        waited = len(self.waiting)
        self._empty(receiver)
        receiver.seat.given -= len(self.waiting) - waited

    def bury(self, receiver: Receiver) -> None:
        """Its worker has ended, and its seat may be another's: empty its inbox and close it."""
        if self._empty(receiver):
            receiver.close()
        else:
            self._dead.append(receiver)

    def _empty(self, receiver: Receiver) -> bool:
        """Let the connections in an inbox wait again; False if descriptors are short for now."""
        try:
            while sockets := inbox.take(receiver.far):
                self.waiting.extend(sockets)
        except inbox.NoDescriptors:
            return False
        return True
