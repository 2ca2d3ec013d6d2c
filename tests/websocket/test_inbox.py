"""Messages on their way to the application: the queue, its bounds, and who receives them."""

from __future__ import annotations

import asyncio
import contextvars
import tracemalloc
from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    BINARY,
    PING,
    TEXT,
    client_frame,
    close_frame,
    deflated,
)
from ..toolkit.fake_transport import (
    CLOSE_1000,
    Clock,
    Session,
    disconnect_event,
    settle,
    text_event,
)


class TestReceive:
    async def test_concurrent_receives_are_served_in_order(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        tasks = [asyncio.ensure_future(session.receive()) for _ in range(4)]
        await settle()
        session.feed(client_frame(TEXT, b"0") + client_frame(TEXT, b"1"))
        tasks.append(asyncio.ensure_future(session.receive()))
        await settle()
        session.feed(client_frame(TEXT, b"2") + client_frame(TEXT, b"3") + close_frame(1000))
        *events, last = await asyncio.gather(*tasks)
        assert events == [text_event(str(number)) for number in range(4)]
        assert last == disconnect_event(1000)

    async def test_all_that_wait_learn_of_a_departure(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        tasks = [asyncio.ensure_future(session.receive()) for _ in range(4)]
        await settle()
        session.lost()
        assert await asyncio.gather(*tasks) == [disconnect_event(1006)] * 4

    async def test_a_cancelled_receive_loses_no_message(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        got = []
        for number in range(50):
            task = asyncio.ensure_future(session.receive())
            await asyncio.sleep(0)
            if number % 3 == 0:
                session.feed(client_frame(TEXT, b"%d" % number))  # woken, then cancelled
                task.cancel()
            elif number % 3 == 1:
                task.cancel()
                session.feed(client_frame(TEXT, b"%d" % number))
            else:
                session.feed(client_frame(TEXT, b"%d" % number))
            try:
                got.append(await task)
            except asyncio.CancelledError:
                got.append(await session.receive())
        assert got == [text_event(str(number)) for number in range(50)]

    async def test_a_cancelled_receive_hands_its_turn_on(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        first, second = (asyncio.ensure_future(session.receive()) for _ in range(2))
        await settle()
        session.feed(client_frame(TEXT, b"x"))
        first.cancel()
        assert await second == text_event("x")
        assert first.cancelled()

    async def test_a_timeout_around_receive(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.receive(), 0.001)
        session.feed(client_frame(TEXT, b"x"))
        assert await asyncio.wait_for(session.receive(), 1) == text_event("x")

    async def test_receive_and_send_are_coroutines_of_the_task_that_awaits(
        self, package: ModuleType
    ) -> None:
        variable = contextvars.ContextVar("variable", default="outside")

        session = Session(package)
        await session.accept()

        async def application(name: str) -> str:
            variable.set(name)
            await session.receive()
            await session.text(name)
            return variable.get()

        tasks = [asyncio.create_task(application(name)) for name in "abc"]
        await settle()
        session.feed(client_frame(TEXT, b"x") * 3)
        assert await asyncio.gather(*tasks) == ["a", "b", "c"]
        assert variable.get() == "outside"
        coroutine = session.websocket.receive()
        assert asyncio.iscoroutine(coroutine)
        task = asyncio.create_task(coroutine)
        await settle()
        session.feed(client_frame(TEXT, b"y"))
        assert await task == text_event("y")

    async def test_concurrent_receives_survive_the_end_of_a_budget(
        self, package: ModuleType
    ) -> None:
        session = Session(package, max_queue=1000)
        await session.accept()
        count = 0
        all_came = asyncio.Event()

        async def consume() -> None:
            nonlocal count
            while (await session.receive())["type"] == "websocket.receive":
                count += 1
                if count == 500:
                    all_came.set()

        session.feed(client_frame(TEXT, b"x") * 500)
        tasks = [asyncio.ensure_future(consume()) for _ in range(3)]
        await all_came.wait()
        await settle()
        assert not any(task.done() for task in tasks)
        session.feed(close_frame(1000))
        await asyncio.gather(*tasks)
        assert count == 500

    async def test_a_queue_that_never_empties_does_not_grow(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        frame = client_frame(TEXT, b"x")
        session.feed(frame * 10)
        tracemalloc.start()
        try:
            for _ in range(10_000):
                session.feed(frame)
                await session.receive()
            assert tracemalloc.get_traced_memory()[0] < 40_000
        finally:
            tracemalloc.stop()
        for _ in range(10):
            assert await session.receive() == text_event("x")


class TestReading:
    """Bounded memory on the way in."""

    async def test_parsing_stops_at_the_queues_mark(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered, max_queue=8)
        await session.accept()
        frames = [client_frame(TEXT, b"%d" % number) for number in range(20)]
        session.feed(b"".join(frames) + client_frame(PING, b"behind"))
        assert session.websocket.messages_in == 8
        assert session.sent() == []
        for number in range(20):
            assert await session.receive() == text_event(str(number))
        assert session.sent() == [(0x8A, b"behind")]
        assert session.transport.calls == []  # reading never had to stop

    async def test_pings_are_answered_though_nobody_receives(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered)
        await session.accept()
        session.feed(client_frame(TEXT, b"one") + client_frame(PING, b"a"))
        session.feed(client_frame(TEXT, b"two") + client_frame(PING, b"b"))
        assert session.sent() == [(0x8A, b"a"), (0x8A, b"b")]

    async def test_reading_stops_when_nobody_receives_and_goes_on_afterwards(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered, max_queue=8)
        await session.accept()
        frame = client_frame(BINARY, bytes(1000))
        count = 0
        while session.transport.reading:
            session.feed(frame)
            count += 1
            assert count < 200
        assert session.websocket.messages_in == 8
        for _ in range(count):
            assert await session.receive() == {
                "type": "websocket.receive",
                "bytes": bytes(1000),
            }
        assert session.transport.calls == ["pause_reading", "resume_reading"]
        session.feed(frame)
        assert await session.receive() == {"type": "websocket.receive", "bytes": bytes(1000)}

    async def test_large_messages_fill_the_queue_by_their_bytes(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered, max_queue=1000)
        await session.accept()
        for _ in range(100):
            session.feed(client_frame(BINARY, bytes(30_000)))
        assert session.websocket.messages_in == 3
        for _ in range(100):
            assert len((await session.receive())["bytes"]) == 30_000

    async def test_a_flood_costs_no_more_than_its_bytes(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered)
        await session.accept()
        flood = client_frame(BINARY) * 42_000
        tracemalloc.start()
        try:
            session.feed(flood)
            assert tracemalloc.get_traced_memory()[1] < 1.2 * len(flood) + 100_000
        finally:
            tracemalloc.stop()
        assert session.websocket.messages_in == 32
        assert not session.transport.reading
        for _ in range(42_000):
            await session.receive()
        assert session.websocket.messages_in == 42_000

    @pytest.mark.parametrize("size", [20_000, 300_000, 3_000_000])
    async def test_a_large_message_comes_in_whatever_pieces(
        self, package: ModuleType, buffered: bool, size: int
    ) -> None:
        session = Session(package, buffered=buffered, max_size=4_000_000)
        await session.accept()
        payload = bytes(range(251)) * (size // 251 + 1)
        text = "aé€😀" * (size // 10)
        data = client_frame(BINARY, payload) + client_frame(TEXT, text.encode())
        data += client_frame(TEXT, b"end")
        events = []
        for start in range(0, len(data), 60_007):
            session.feed(data[start : start + 60_007])
            while session.websocket.messages_in > len(events):
                events.append(await session.receive())
        assert events == [
            {"type": "websocket.receive", "bytes": payload},
            text_event(text),
            text_event("end"),
        ]
        assert session.websocket.bytes_in == len(payload) + len(text.encode()) + 3

    async def test_a_large_text_fails_where_it_is_filled_in_place(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered)
        await session.accept()
        frame = client_frame(TEXT, b"x" * 50_000 + b"\xff" + b"x" * 400_000)
        for start in range(0, 60_000, 5000):
            session.feed(frame[start : start + 5000])
        assert await session.receive() == disconnect_event(1007, "invalid UTF-8")

    async def test_what_comes_into_a_shared_buffer_is_kept_until_it_is_read(
        self, package: ModuleType
    ) -> None:
        clock = Clock()
        one = Session(package, buffered=True, clock=clock, max_queue=1)
        await one.accept()
        other = package.websocket.session.Session(one.pulse, one.opening, None)
        await other.send({"type": "websocket.accept"})
        one.feed(b"".join(client_frame(TEXT, b"message %d" % n) for n in range(50))[:-3])
        view = other.get_buffer(-1)
        noise = client_frame(BINARY, b"\xff" * 100) * 20
        view[: len(noise)] = noise
        other.buffer_updated(len(noise))
        for number in range(49):
            assert await one.receive() == text_event(f"message {number}")
        one.feed(client_frame(TEXT, b"message 49")[-3:])
        assert await one.receive() == text_event("message 49")

    async def test_messages_are_inflated(self, package: ModuleType, buffered: bool) -> None:
        settings = package.wire.deflate.Settings(min_size=100)
        session = Session(package, buffered=buffered, deflate=settings)
        await session.accept()
        session.feed(client_frame(TEXT, deflated(b"Hello" * 100), rsv=4))
        assert await session.receive() == text_event("Hello" * 100)
        assert session.websocket.bytes_in == 500
        await session.text("x" * 99)
        await session.text("x" * 100)
        await settle()
        (plain, short), (packed, payload) = session.sent()
        assert (plain, short, packed) == (0x81, b"x" * 99, 0xC1)
        deflate = package.wire.deflate
        inflator = deflate.Inflator(deflate.Agreed(True, True, 15, 15))
        assert inflator.inflate(payload, True, 100) == b"x" * 100
        assert session.websocket.bytes_out == 199


class TestClosing:
    async def test_a_close_behind_a_full_queue_is_found_when_we_close(
        self, package: ModuleType
    ) -> None:
        session = Session(package, max_queue=2)
        await session.accept()
        while session.transport.reading:
            session.feed(client_frame(BINARY, bytes(1000)))
        session.feed(close_frame(4000))
        await session.close()
        assert session.transport.calls == ["pause_reading", "write_eof", "resume_reading"]
        assert session.sent() == [CLOSE_1000]

    async def test_after_our_close_reading_goes_on_with_a_full_queue(
        self, package: ModuleType
    ) -> None:
        session = Session(package, max_queue=2)
        await session.accept()
        while session.transport.reading:
            session.feed(client_frame(BINARY, bytes(1000)))
        await session.close()
        assert session.transport.reading
        for _ in range(100):
            session.feed(client_frame(BINARY, bytes(1000)))
        assert session.transport.reading
        session.feed(close_frame(1000))
        assert session.transport.calls[-1] == "write_eof"
