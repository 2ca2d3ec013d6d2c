"""Keepalive and deadlines of one session, on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import logging
from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    BINARY,
    PONG,
    TEXT,
    client_frame,
)
from ..toolkit.fake_transport import (
    ACCEPT,
    Session,
    disconnect_event,
    reach,
    settle,
)


class TestKeepalive:
    def pings(self, session: Session) -> list[bytes]:
        sent = session.sent()
        assert all(first in (0x89, 0x88) for first, _ in sent)
        return [payload for first, payload in sent if first == 0x89]

    async def test_pings_come_at_the_interval_with_random_payloads(
        self, package: ModuleType
    ) -> None:
        session = Session(package, ping_interval=20.0)
        await session.accept()
        found = []
        for _ in range(10):
            session.clock.advance(20)
            (payload,) = self.pings(session)
            found.append(payload)
            session.feed(client_frame(PONG, payload))
        assert len(set(found)) == 10
        assert all(len(payload) == 4 for payload in found)

    async def test_the_first_ping_comes_at_a_random_moment_of_the_second_half(
        self, package: ModuleType
    ) -> None:
        moments = set()
        for _ in range(60):
            session = Session(package, ping_interval=20.0)
            await session.accept()
            seconds = 0
            while not self.pings(session):
                session.clock.advance(1)
                seconds += 1
                assert seconds <= 20
            assert seconds > 10
            moments.add(seconds)
        assert len(moments) > 5

    async def test_no_answer_closes_with_1011_and_one_line(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package, ping_interval=20.0, ping_timeout=15.0, close_timeout=5.0)
        await session.accept()
        while not self.pings(session):
            session.clock.advance(1)
        session.clock.advance(14)
        assert all(first == 0x89 for first, _ in session.sent())
        session.clock.advance(3)
        expected = (0x88, b"\x03\xf3no answer to a ping")
        assert [frame for frame in session.sent() if frame[0] == 0x88] == [expected]
        assert await session.receive() == disconnect_event(1011, "no answer to a ping")
        assert session.websocket.closed_by == "server"
        session.clock.advance(6)
        assert session.transport.calls == ["abort"]
        assert [record.levelname for record in log] == ["INFO"]

    @pytest.mark.parametrize("data", [client_frame(PONG), client_frame(TEXT, b"x"), b"\x82"])
    async def test_any_byte_counts_as_alive(self, package: ModuleType, data: bytes) -> None:
        session = Session(package, ping_interval=20.0, ping_timeout=10.0)
        await session.accept()
        partial = data == b"\x82"
        stream = iter(client_frame(BINARY, bytes(1000)))
        for _ in range(40):
            session.clock.advance(9)
            session.feed(bytes([next(stream)]) if partial else data)
            if data == client_frame(TEXT, b"x"):
                await session.receive()
        assert all(first == 0x89 for first, _ in session.sent())

    async def test_nobody_is_judged_while_we_do_not_read(self, package: ModuleType) -> None:
        session = Session(package, max_queue=2, ping_interval=5.0, ping_timeout=5.0)
        await session.accept()
        session.feed(client_frame(TEXT, b"x") * 3)  # parsing has stopped, reading has not
        for _ in range(30):
            session.clock.advance(3)
            session.feed(client_frame(PONG))  # it is heard, though nobody parses it
        while session.transport.reading:
            session.feed(client_frame(BINARY, bytes(5000)))
        session.clock.advance(100)
        assert all(first == 0x89 for first, _ in session.sent())
        while not session.transport.reading:
            await session.receive()
        session.clock.advance(3)
        assert all(first == 0x89 for first, _ in session.sent())

    async def test_a_blocked_loop_kills_nobody(self, package: ModuleType) -> None:
        session = Session(package, ping_interval=20.0, ping_timeout=20.0)
        await session.accept()
        for _ in range(20):
            session.clock.block(30)
            session.clock.advance(2)
            for first, payload in session.sent():
                assert first == 0x89
                session.feed(client_frame(PONG, payload))
        # And in between a peer that is really gone is still found.
        session.clock.advance(45)
        assert any(first == 0x88 for first, _ in session.sent())

    async def test_nobody_is_judged_by_the_first_tick_after_a_block(
        self, package: ModuleType
    ) -> None:
        async def pinged() -> Session:
            session = Session(package, ping_interval=20.0, ping_timeout=20.0)
            await session.accept()
            while not session.transport.writes:
                session.clock.advance(1)
            return session

        def closed(session: Session) -> bool:
            return any(first == 0x88 for first, _ in session.sent())

        gone = await pinged()
        seconds = 0
        while not closed(gone):
            gone.clock.advance(1)
            seconds += 1
        healthy = await pinged()
        healthy.clock.advance(seconds - 1)
        # The pong is in the kernel already, and the loop has not come to it.
        healthy.clock.block(30)
        assert not closed(healthy)
        healthy.feed(client_frame(PONG))
        healthy.clock.advance(19)
        assert not closed(healthy)

    async def test_a_peer_that_takes_what_we_wrote_is_alive(self, package: ModuleType) -> None:
        session = Session(package, ping_interval=20.0, ping_timeout=10.0)
        await session.accept()
        await session.send({"type": "websocket.send", "bytes": bytes(500_000)})
        session.websocket.pause_writing()
        session.sent()
        for step in range(100):
            session.transport.unwritten = 500_000 - 1000 * step
            session.clock.advance(5)
        assert all(first == 0x89 for first, _ in session.sent())
        session.transport.stuck = True
        session.clock.advance(60)
        assert any(first == 0x88 for first, _ in session.sent())

    async def test_pings_may_be_switched_off(self, package: ModuleType) -> None:
        session = Session(package, ping_interval=None)
        await session.accept()
        session.clock.advance(1000)
        assert session.sent() == []

    async def test_the_pong_deadline_may_be_switched_off(self, package: ModuleType) -> None:
        session = Session(package, ping_interval=20.0, ping_timeout=None)
        await session.accept()
        session.clock.advance(1000)
        assert len(self.pings(session)) == 50

    async def test_short_times_are_kept_too(self, package: ModuleType) -> None:
        session = Session(package, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1)
        await session.accept()
        session.clock.advance(0.09)
        assert all(first == 0x89 for first, _ in session.sent())
        session.clock.advance(0.21)
        assert session.sent()[-1][0] == 0x88
        session.clock.advance(0.15)
        assert session.transport.calls == ["abort"]


class TestDeadlines:
    async def test_an_application_that_never_accepts_is_answered_504(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package, accept_timeout=30.0)
        assert await session.receive() == {"type": "websocket.connect"}
        waiting = asyncio.ensure_future(session.receive())
        await settle()
        session.clock.advance(29)
        assert session.opening.calls == []
        session.clock.advance(2)
        assert session.opening.calls == [("refuse", 504)]
        assert await waiting == disconnect_event(1006)
        with pytest.raises(package.errors.ClientDisconnected):
            await session.send(ACCEPT)
        assert session.pulse.members == set()
        assert [record.levelname for record in log] == ["WARNING"]

    @pytest.mark.parametrize("state", ["accepted", "denying", "refused"])
    async def test_a_decision_in_time_ends_that_deadline(
        self, package: ModuleType, state: str
    ) -> None:
        session = Session(package, accept_timeout=30.0, ping_interval=None)
        session.clock.advance(20)
        await reach(session, state)
        calls = list(session.opening.calls)
        session.clock.advance(100)
        assert session.opening.calls == calls
        assert session.transport.calls == []

    async def test_a_peer_that_takes_nothing_is_cut_off(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package, write_timeout=60.0, ping_interval=None)
        await session.accept()
        session.transport.on_write = session.websocket.pause_writing
        waiting = asyncio.ensure_future(session.text("x" * 1000))
        await settle()
        session.transport.unwritten = 900
        session.clock.advance(50)
        session.transport.unwritten = 800  # it takes some: the time begins anew
        session.clock.advance(58)
        assert session.transport.calls == []
        session.clock.advance(4)
        assert session.transport.calls == ["abort"]
        session.lost()
        with pytest.raises(package.errors.ClientDisconnected):
            await waiting
        assert await session.receive() == {"type": "websocket.disconnect"} | disconnect_event(1006)
        assert session.websocket.closed_by == "server"
        assert [record.levelname for record in log] == ["INFO"]

    async def test_an_idle_session_is_closed_with_1001(self, package: ModuleType) -> None:
        session = Session(package, idle_timeout=60.0, ping_interval=None)
        await session.accept()
        session.clock.advance(50)
        session.feed(client_frame(TEXT, b"x"))
        await session.receive()
        session.clock.advance(50)
        await session.text("y")
        session.clock.advance(58)
        session.feed(client_frame(PONG))  # control frames are no messages
        assert all(first != 0x88 for first, _ in session.sent())
        session.clock.advance(4)
        assert session.sent()[-1] == (0x88, b"\x03\xe9idle")
        assert await session.receive() == disconnect_event(1001, "idle")
