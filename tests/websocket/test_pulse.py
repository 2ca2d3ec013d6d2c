"""The one timer of all sessions."""

from __future__ import annotations

from types import ModuleType

from ..toolkit.fake_transport import (
    Clock,
    Session,
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
