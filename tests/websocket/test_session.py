"""One WebSocket as the application sees it, in both builds, on a fake transport."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    BINARY,
    TEXT,
    client_frame,
    close_frame,
    deflated,
)
from ..toolkit.fake_transport import (
    CLOSE_1000,
    STATES,
    Clock,
    Session,
    disconnect_event,
    reach,
    settle,
    text_event,
)


class TestEvents:
    async def test_a_session_from_connect_to_disconnect(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered)
        await session.accept()
        assert session.opening.calls == [("accept", None, [])]
        session.feed(client_frame(TEXT, b"Hello") + client_frame(BINARY, b"\xff"))
        assert await session.receive() == text_event("Hello")
        assert await session.receive() == {"type": "websocket.receive", "bytes": b"\xff"}
        await session.text("zwölf")
        await session.send({"type": "websocket.send", "bytes": b"\0", "text": None})
        await settle()
        assert session.sent() == [(0x81, "zwölf".encode()), (0x82, b"\0")]
        session.feed(close_frame(4242, b"bye"))
        assert session.sent() == [(0x88, b"\x10\x92bye")]
        for _ in range(3):
            assert await session.receive() == disconnect_event(4242, "bye")
        session.lost()
        assert session.opening.calls[1:] == [("ended",)]
        websocket = session.websocket
        assert (websocket.messages_in, websocket.bytes_in) == (2, 6)
        assert (websocket.messages_out, websocket.bytes_out) == (2, 7)
        assert (websocket.close_code, websocket.close_reason) == (4242, "bye")
        assert websocket.closed_by == "client"

    async def test_frames_that_came_with_the_request_are_read_after_the_101(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        session.opening.trailing = client_frame(TEXT, b"early") + close_frame(1000)
        await session.accept()
        assert await session.receive() == text_event("early")
        assert await session.receive() == disconnect_event(1000)

    async def test_another_event_loop_cannot_wait_here(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        wait = asyncio.wait_for(session.websocket.receive(), 5)
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await asyncio.to_thread(asyncio.run, wait)
        session.feed(client_frame(TEXT, b"Hello"))
        assert await session.receive() == text_event("Hello")

    async def test_subprotocol_and_headers_go_to_the_opening(self, package: ModuleType) -> None:
        session = Session(package)
        headers = [(b"x-a", b"1")]
        await session.send({"type": "websocket.accept", "subprotocol": "chat", "headers": headers})
        assert session.opening.calls == [("accept", "chat", headers)]
        assert session.websocket.subprotocol == "chat"

    async def test_an_accept_that_fails_may_be_tried_again(self, package: ModuleType) -> None:
        session = Session(package)
        session.opening.raises = package.errors.ASGIError("no such subprotocol")
        with pytest.raises(package.errors.ASGIError, match="no such subprotocol"):
            await session.send({"type": "websocket.accept", "subprotocol": "x"})
        session.opening.raises = None
        await session.send({"type": "websocket.accept"})
        assert session.websocket.subprotocol is None
        await session.text("x")
        assert session.sent() == [(0x81, b"x")]

    async def test_a_denial_response_goes_to_the_opening(self, package: ModuleType) -> None:
        session = Session(package)
        start = {"type": "websocket.http.response.start", "status": 403, "headers": []}
        await session.send(start)
        body = {"type": "websocket.http.response.body", "body": b"no", "more_body": True}
        await session.send(body)
        await session.send({"type": "websocket.http.response.body"})
        expected = [("start", 403, []), ("body", b"no", True), ("body", b"", False)]
        assert session.opening.calls == expected
        assert await session.receive() == {"type": "websocket.connect"}
        assert await session.receive() == disconnect_event(1006)

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000])
    @pytest.mark.parametrize("deflate", [False, True])
    async def test_messages_of_every_length_go_out_whole_and_are_counted(
        self, package: ModuleType, size: int, deflate: bool
    ) -> None:
        settings = package.wire.deflate.Settings(min_size=1 << 30) if deflate else None
        session = Session(package, deflate=settings)
        await session.accept()
        await session.text("ä" + "x" * size)
        await session.send({"type": "websocket.send", "bytes": b"y" * size})
        await settle()
        text = ("ä" + "x" * size).encode()
        assert session.sent() == [(0x81, text), (0x82, b"y" * size)]
        assert session.websocket.bytes_out == size + 2 + size


class TestApplicationEnds:
    """What the peer and the log are told for an application that is done."""

    @pytest.mark.parametrize("state", STATES)
    async def test_it_returns(
        self, package: ModuleType, log: list[logging.LogRecord], state: str
    ) -> None:
        session = Session(package)
        await reach(session, state)
        session.sent()
        session.opening.calls.clear()
        await session.app(settle)
        assert session.sent() == ([CLOSE_1000] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 500)] if unanswered else [])
        assert [record.levelname for record in log] == (["ERROR"] if unanswered else [])

    @pytest.mark.parametrize("state", STATES)
    async def test_it_raises(
        self, package: ModuleType, log: list[logging.LogRecord], state: str
    ) -> None:
        async def fail() -> None:
            raise ValueError("the application's own")

        session = Session(package)
        await reach(session, state)
        session.sent()
        session.opening.calls.clear()
        await session.app(fail)
        assert session.sent() == ([(0x88, b"\x03\xf3")] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 500)] if unanswered else [])
        (record,) = log
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)

    @pytest.mark.parametrize("state", STATES)
    async def test_it_is_cancelled(
        self, package: ModuleType, log: list[logging.LogRecord], state: str
    ) -> None:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        session = Session(package)
        await reach(session, state)
        session.sent()
        session.opening.calls.clear()
        await session.app(cancelled)
        assert session.sent() == ([(0x88, b"\x03\xf3")] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 503)] if unanswered else [])
        assert log == []

    async def test_receive_says_how_it_ended(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        await session.app(settle)
        assert await session.receive() == disconnect_event(1000)

    async def test_an_error_after_the_client_left_is_logged_and_not_sent(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def fail() -> None:
            raise ValueError

        session = Session(package)
        await session.accept()
        session.lost()
        await session.app(fail)
        assert session.sent() == []
        assert len(log) == 1

    async def test_the_news_of_a_departure_is_no_error(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package)
        await session.accept()
        session.lost()

        async def send() -> None:
            await session.text("late")

        async def in_a_group() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                group.create_task(send())

        class FrameworkError(Exception):
            pass

        class WebSocketDisconnect(Exception):  # as Starlette's, known by its name
            pass

        async def by_name() -> None:
            assert (await session.receive())["type"] == "websocket.disconnect"
            raise WebSocketDisconnect(1006)

        async def as_a_cause() -> None:
            try:
                await send()
            except OSError as exc:
                raise FrameworkError(1006) from exc

        async def as_a_cause_of_itself() -> None:
            try:
                await send()
            except OSError as exc:
                raise exc from exc

        async def a_group_as_a_cause() -> None:
            try:
                await in_a_group()
            except ExceptionGroup as exc:
                raise FrameworkError from exc

        for app in send, in_a_group, by_name, as_a_cause, as_a_cause_of_itself, a_group_as_a_cause:
            await session.app(app)
        assert log == []

    async def test_other_errors_on_the_way_are_errors(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        class OwnError(Exception):
            pass

        session = Session(package)
        await session.accept()
        session.lost()

        async def bug_in_the_handler() -> None:
            try:
                await session.text("late")
            except OSError:
                {}["missing"]

        async def lost_while_cleaning_up() -> None:
            try:
                await session.text("late")
            except OSError:
                raise OwnError("not saved")  # noqa: B904

        async def one_of_two() -> None:
            try:
                await session.text("late")
            except OSError as exc:
                raise ExceptionGroup("both", [exc, OwnError()]) from None

        async def caused_by_itself() -> None:
            try:
                raise OwnError
            except OwnError as exc:
                raise exc from exc

        for app in bug_in_the_handler, lost_while_cleaning_up, one_of_two, caused_by_itself:
            await session.app(app)
        assert len(log) == 4

    async def test_the_news_of_anothers_departure_is_an_error(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session, other = Session(package), Session(package)
        await session.accept()
        await other.accept()
        other.lost()
        await session.app(lambda: other.text("late"))
        assert session.sent() == [(0x88, b"\x03\xf3")]
        assert len(log) == 1


class TestDeflate:
    async def test_a_deflator_that_rests_is_freed_and_the_client_need_not_know(
        self, package: ModuleType
    ) -> None:
        settings = package.wire.deflate.Settings(min_size=0)
        session = Session(package, deflate=settings, ping_interval=None)
        await session.accept()
        inflator = package.wire.deflate.Inflator(package.wire.deflate.Agreed(True, True, 15, 15))
        sizes = []
        for rest in (0, 29, 31):
            for _ in range(rest):
                session.clock.advance(1)
            await session.text("the same words again and again")
            await settle()
            [(first, payload)] = session.sent()
            assert first == 0xC1
            assert inflator.inflate(payload, True, 1000) == b"the same words again and again"
            sizes.append(len(payload))
        assert sizes[1] < sizes[0] / 2  # it remembered
        assert sizes[2] == sizes[0]  # it began anew


class TestFairness:
    """Others run while one connection is busy."""

    @staticmethod
    async def turns(work: Callable[[], Awaitable[object]], count: int) -> int:
        """How often another task ran during ``count`` times of ``work``."""
        turns = 0

        async def ticker() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(ticker())
        for _ in range(count):
            await work()
        task.cancel()
        return turns

    @pytest.mark.parametrize("size", [1, 50_000])
    async def test_a_push_at_full_speed(self, package: ModuleType, size: int) -> None:
        session = Session(package)
        await session.accept()
        event = {"type": "websocket.send", "bytes": bytes(size)}
        count = 2000 if size == 1 else 200
        least = count // 64 if size == 1 else count * size // 300_000
        assert await self.turns(lambda: session.send(event), count) >= least

    @pytest.mark.parametrize("size", [1, 50_000])
    async def test_a_flood_that_is_received_at_full_speed(
        self, package: ModuleType, size: int
    ) -> None:
        session = Session(package, max_queue=10_000, max_size=100_000)
        await session.accept()
        count = 2000 if size == 1 else 200
        session.feed(client_frame(BINARY, bytes(size)) * count)
        least = count // 64 if size == 1 else count * size // 300_000
        assert await self.turns(session.receive, count) >= least

    async def test_an_application_that_ignores_the_disconnect(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        session.lost()
        assert await self.turns(session.receive, 2000) >= 30

    async def test_an_application_that_ignores_the_error(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        session.lost()

        async def send() -> None:
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("x")

        assert await self.turns(send, 200) >= 3


class TestAfterwards:
    @pytest.mark.parametrize("way", ["peer", "we", "failed", "lost", "left", "large"])
    async def test_ended_sessions_leave_no_memory_behind(
        self, package: ModuleType, buffered: bool, way: str
    ) -> None:
        large = client_frame(BINARY, bytes(100_000))[:50_000]

        async def session(clock: Clock) -> None:
            settings = package.wire.deflate.Settings(min_size=0)
            one = Session(package, buffered=buffered, clock=clock, deflate=settings)
            if way == "left":
                one.websocket.client_left()
                await one.app(one.receive)
                return
            await one.accept()
            one.feed(client_frame(TEXT, deflated(b"Hello"), rsv=4))
            await one.text((await one.receive())["text"])
            waiting = asyncio.ensure_future(one.receive())
            await asyncio.sleep(0)
            if way == "peer":
                one.feed(close_frame(1000, b"bye"))
            elif way == "we":
                await one.close()
            elif way == "failed":
                one.feed(client_frame(TEXT, b"\xff"))
            elif way == "large":
                one.feed(large)
            one.lost()
            await waiting
            await one.app(one.receive)

        clock = Clock()
        for _ in range(10):
            await session(clock)
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(40):
                await session(clock)
            clock.advance(2)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 10_000
        finally:
            tracemalloc.stop()
