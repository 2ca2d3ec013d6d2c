"""The things that the WebSockets of one event loop share: a timer, a flush, a buffer to read into.

Deadlines are looked at every ``look`` seconds, which is a second at most. There are two clocks.
``now`` is the event loop's. ``fair`` stands still while a callback blocks the loop: between two
looks it moves on by PAUSE_SECONDS at most, so that no peer is blamed for a delay of ours, and it
always moves on. A look that comes late is put off until the loop has polled once more, because the
bytes that peers have sent meanwhile wait in the kernel.
A look at many members is cut into slices, between which the loop comes round.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from ..log import error_log
from ..transport.outbox import Flush
from .limits import Limits

PAUSE_SECONDS: Final = 1.0  # the most that a pause of the loop counts, however long it was
LATE_SECONDS: Final = 0.05  # a look that is later than that is put off ...
POLL_SECONDS: Final = 0.01  # ... for so long: a timer never comes round without a poll
SLICE: Final = 128  # members that are looked at before the loop comes round
BUFFER_BYTES: Final = 262_144


class Ticking(Protocol):
    """An object that a Pulse looks after."""

    def on_tick(self) -> None:
        """Look at all deadlines."""

    def abort(self) -> None:
        """End at once: ``on_tick`` has raised."""


class Pulse:
    """Calls ``on_tick`` of all its ``members``, and holds what they share."""

    __slots__ = (
        "_due",
        "_rest",
        "_seen",
        "_timer",
        "buffer",
        "buffer_view",
        "fair",
        "flush",
        "limits",
        "look",
        "loop",
        "members",
        "now",
        "step",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.loop = loop
        self.limits = limits
        self.flush = Flush(loop)
        self.members: set[Ticking] = set()
        #: the shared memory for reading: a member parses or copies it before the next one reads
        self.buffer = bytearray(BUFFER_BYTES)
        self.buffer_view = memoryview(self.buffer)
        self.look = limits.look_seconds()
        self.now = self._seen = loop.time()
        self.fair = 0.0
        self.step = 0.0  # by how much ``fair`` moved on at the last look
        self._timer: Any = None  # of the next look, or of the next slice of one
        self._due = 0.0
        self._rest: list[Ticking] = []  # the members that have not been looked at yet

    def add(self, member: Ticking) -> None:
        """Add a member, which the timer serves until it leaves ``members``."""
        self.members.add(member)
        if self._timer is None:
            self._seen = self.loop.time()
            self._schedule(self.look)

    def time(self) -> float:
        """The value that ``fair`` would have if a look came now."""
        if self._timer is None:
            return self.fair
        return self.fair + min(self.loop.time() - self._seen, PAUSE_SECONDS)

    def _schedule(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds
        self._timer = self.loop.call_at(self._due, self._on_timer)

    def _on_timer(self) -> None:
        if self.loop.time() - self._due > LATE_SECONDS:
            self._due = self.loop.time() + POLL_SECONDS
            self._timer = self.loop.call_at(self._due, self._look)
        else:
            self._look()

    def _look(self) -> None:
        self.now = self.loop.time()
        self.step = min(self.now - self._seen, PAUSE_SECONDS)
        self.fair += self.step
        self._seen = self.now
        self._rest = list(self.members)
        self._go_on()

    def _go_on(self) -> None:
        """Look at some members; a look at thousands must not keep a message waiting."""
        self._timer = None
        rest = self._rest
        members = self.members
        for _ in range(min(SLICE, len(rest))):
            member = rest.pop()
            if member in members:
                try:
                    member.on_tick()
                except Exception as exc:
                    self._fail(member, exc)
        if rest:
            self._timer = self.loop.call_soon(self._go_on)
        elif members:
            self._schedule(self.look)
        else:
            self._timer = None

    def _fail(self, member: Ticking, error: Exception) -> None:
        """A member raised, by a bug of ours or of a transport: end that one, and go on."""
        self.members.discard(member)
        try:
            member.abort()
        finally:
            error_log.error("Exception in a deadline: the connection is cut", exc_info=error)
