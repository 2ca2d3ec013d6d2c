"""The one timer of all sessions."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

from ..toolkit.fake_transport import Clock, Session
from ..toolkit.running import NewLoop

LIMITS = (
    *("max_size", "max_queue", "ping_interval", "ping_timeout", "close_timeout"),
    *("accept_timeout", "write_timeout", "idle_timeout"),
)


class TestTimer:
    async def test_an_empty_group_has_no_timer(self, package: ModuleType) -> None:
        clock = Clock()
        session = Session(package, clock=clock)
        assert clock._timers == []
        await session.accept()
        session.lost()
        clock.advance(5)
        assert clock._timers == []


class Member:
    """Writes down when it is looked at; the ones in ``leaves`` leave with it."""

    def __init__(self, pulse: Any, seen: list[Any]) -> None:
        self.pulse = pulse
        self.seen = seen
        self.leaves: list[Any] = []

    def on_tick(self) -> None:
        self.seen.append(self)
        for member in self.leaves:
            self.pulse.members.discard(member)

    def abort(self) -> None:
        self.seen.append("aborted")


async def test_the_loop_comes_round_within_a_look_at_many(
    package: ModuleType, new_loop: NewLoop
) -> None:
    limits = package.websocket.limits.Limits(**dict.fromkeys(LIMITS, 1), deflate=None)
    running = asyncio.get_running_loop()
    pulse = package.websocket.pulse.Pulse(running, limits)
    pulse.look = 0.01
    seen: list[Any] = []
    members = [Member(pulse, seen) for _ in range(1000)]
    for member in members:
        pulse.add(member)
    for _ in range(1_000_000):
        if seen:
            break
        await asyncio.sleep(0)
    # The first slice is over, and the others are not: one joins, and another leaves.
    first = len(seen)
    assert 0 < first < 500
    late = Member(pulse, seen)
    pulse.add(late)
    gone = next(member for member in members if member not in seen)
    pulse.members.discard(gone)
    turns = 0
    while len(seen) < 999:
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 2
    assert set(seen) == {*members} - {gone}
    # The one that has joined is in the next look, which comes once.
    for _ in range(5000):
        if late in seen:
            break
        await asyncio.sleep(0.001)
    assert late in seen
    pulse.members.clear()
