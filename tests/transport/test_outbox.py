"""Messages on their way to the peer: corking, backpressure, order."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    PING,
    TEXT,
    client_frame,
    close_frame,
)
from ..toolkit.fake_transport import (
    CLOSE_1000,
    Session,
    settle,
)


class TestWriting:
    """Corking: how many times the transport is asked to write."""

    async def test_a_single_message_is_written_at_once(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        for number in range(5):
            session.feed(client_frame(TEXT, b"ping"))
            await session.receive()
            await session.text("pong")
            assert len(session.transport.writes) == number + 1

    async def test_what_follows_in_the_same_iteration_is_written_together(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        for number in range(10):
            await session.text(str(number))
        assert len(session.transport.writes) == 1
        await asyncio.sleep(0)
        assert len(session.transport.writes) == 2
        assert session.sent() == [(0x81, b"%d" % number) for number in range(10)]

    async def test_answers_to_messages_in_flight_are_one_write(
        self, package: ModuleType, buffered: bool
    ) -> None:
        session = Session(package, buffered=buffered)
        await session.accept()

        async def echo() -> None:
            while True:
                event = await session.receive()
                await session.text(event["text"])

        task = asyncio.ensure_future(echo())
        await settle()
        session.feed(b"".join(client_frame(TEXT, b"%d" % number) for number in range(16)))
        await settle()
        assert len(session.transport.writes) == 1
        assert session.sent() == [(0x81, b"%d" % number) for number in range(16)]
        task.cancel()

    async def test_corked_frames_are_written_when_there_are_enough_bytes(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        for _ in range(8):
            await session.send({"type": "websocket.send", "bytes": bytes(20_000)})
        assert [len(data) for data in session.transport.writes] == [20_004, 80_016]
        await asyncio.sleep(0)
        assert [len(data) for data in session.transport.writes] == [20_004, 80_016, 60_012]

    async def test_waiting_in_receive_writes_what_is_corked(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        await session.text("one")
        await session.text("two")
        assert len(session.transport.writes) == 1
        coroutine = session.receive()
        coroutine.send(None)  # one step, without the loop coming round
        assert session.sent() == [(0x81, b"one"), (0x81, b"two")]
        coroutine.close()

    async def test_frames_keep_their_order_whatever_their_size(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        sizes = [1, 70_000, 5, 5, 65_536, 65_535, 3, 200_000, 200_000, 1]
        for number, size in enumerate(sizes):
            await session.send({"type": "websocket.send", "bytes": bytes([number]) * size})
            if number == 5:
                session.feed(client_frame(PING, b"?"))
        await settle()
        expected = [(0x82, bytes([number]) * size) for number, size in enumerate(sizes)]
        expected.insert(6, (0x8A, b"?"))
        assert session.sent() == expected

    async def test_a_pong_and_a_close_stand_behind_what_was_sent_before(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        await session.text("one")
        await session.text("two")
        session.feed(client_frame(PING, b"?"))
        await session.text("three")
        await session.text("four")
        await session.close()
        expected = [(0x81, b"one"), (0x81, b"two"), (0x8A, b"?"), (0x81, b"three")]
        assert session.sent() == [*expected, (0x81, b"four"), CLOSE_1000]
        await settle()
        assert session.sent() == []

    async def test_nothing_is_written_to_a_connection_that_is_lost(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        await session.text("one")
        await session.text("two")
        session.lost()
        await settle()
        assert session.sent() == [(0x81, b"one")]


class TestBackpressure:
    async def test_send_waits_while_the_transport_is_full(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        session.transport.on_write = session.websocket.pause_writing
        task = asyncio.ensure_future(session.text("fills it"))
        await settle()
        assert not task.done()
        assert session.sent() == [(0x81, b"fills it")]
        session.websocket.resume_writing()
        await task

    async def test_nothing_is_added_while_the_transport_is_full(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        session.websocket.pause_writing()
        tasks = [asyncio.ensure_future(session.text(str(number))) for number in range(5)]
        await settle()
        assert session.sent() == []
        assert not any(task.done() for task in tasks)
        session.websocket.resume_writing()
        await asyncio.gather(*tasks)
        await settle()
        assert session.sent() == [(0x81, b"%d" % number) for number in range(5)]

    async def test_an_accept_on_a_full_transport_carries_that_over(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        session.opening.write_paused = True
        session.opening.trailing = client_frame(PING, b"early")
        await session.accept()
        task = asyncio.ensure_future(session.text("x"))
        await settle()
        assert session.sent() == []
        session.websocket.resume_writing()
        await task
        assert session.sent() == [(0x8A, b"early"), (0x81, b"x")]

    @pytest.mark.parametrize("way", ["lost", "eof", "close frame, then lost"])
    async def test_waiting_sends_are_woken_with_the_error_when_the_client_goes(
        self, package: ModuleType, way: str
    ) -> None:
        session = Session(package)
        await session.accept()
        session.websocket.pause_writing()
        tasks = [asyncio.ensure_future(session.text("x")) for _ in range(3)]
        await settle()
        if way == "eof":
            session.websocket.eof_received()
        elif way != "lost":
            session.feed(close_frame(1000))
        session.lost()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [package.errors.ClientDisconnected] * 3

    async def test_a_cancelled_send_leaves_the_others_waiting(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        session.websocket.pause_writing()
        tasks = [asyncio.ensure_future(session.text(name)) for name in "abc"]
        await settle()
        tasks[1].cancel()
        await settle()
        assert [task.done() for task in tasks] == [False, True, False]
        session.websocket.resume_writing()
        await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
        assert session.sent() == [(0x81, b"a"), (0x81, b"c")]

    async def test_several_tasks_send_whole_messages(self, package: ModuleType) -> None:
        settings = package.wire.deflate.Settings(min_size=0)
        session = Session(package, deflate=settings)
        await session.accept()

        async def push(name: str) -> None:
            for number in range(100):
                await session.text(f"{name}{number}" * 50)
                if number % 7 == 0:
                    await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(push(name)) for name in "abcd"]
        for _ in range(40):
            session.websocket.pause_writing()
            await asyncio.sleep(0)
            session.websocket.resume_writing()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        await settle()
        deflate = package.wire.deflate
        inflator = deflate.Inflator(deflate.Agreed(True, True, 15, 15))
        got: dict[str, list[str]] = {name: [] for name in "abcd"}
        for first, payload in session.sent():
            assert first == 0xC1
            message = inflator.inflate(payload, True, 1 << 20).decode()
            got[message[0]].append(message)
        for name, messages in got.items():
            assert messages == [f"{name}{number}" * 50 for number in range(100)]

    async def test_a_send_that_waits_is_told_of_the_end_before_the_client_is_gone(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        session.websocket.pause_writing()
        waiting = asyncio.ensure_future(session.text("one"))
        await settle()
        assert not waiting.done()
        session.websocket.shutdown()
        await settle()
        assert isinstance(waiting.exception(), package.errors.ClientDisconnected)
        assert (await session.receive())["code"] == 1012

    async def test_pongs_do_not_pile_up_for_a_peer_that_does_not_read(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        session.websocket.pause_writing()
        for number in range(1000):
            session.feed(client_frame(PING, b"%d" % number))
        assert session.sent() == []
        session.websocket.resume_writing()
        assert session.sent() == [(0x8A, b"999")]
