"""One WebSocket as the application sees it, in both builds, on a fake transport."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import logging
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from .client_frames import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_frame,
    deflated,
)
from .fake_transport import Clock, Session, run, settle

CLOSE_1000 = (0x88, b"\x03\xe8")


def text_event(text: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": text}


def disconnect_event(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """What goes to asgiws.error."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("asgiws.error")
    level, logger.level = logger.level, logging.DEBUG
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(params=["data_received", "get_buffer"])
def buffered(request: pytest.FixtureRequest) -> bool:
    """How the event loop hands on bytes: asyncio's way or uvloop's."""
    return bool(request.param == "get_buffer")


class TestEvents:
    def test_a_session_from_connect_to_disconnect(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_frames_that_came_with_the_request_are_read_after_the_101(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            session.opening.trailing = client_frame(TEXT, b"early") + close_frame(1000)
            await session.accept()
            assert await session.receive() == text_event("early")
            assert await session.receive() == disconnect_event(1000)

        run(scenario())

    def test_another_event_loop_cannot_wait_here(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            wait = asyncio.wait_for(session.websocket.receive(), 5)
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                await asyncio.to_thread(asyncio.run, wait)
            session.feed(client_frame(TEXT, b"Hello"))
            assert await session.receive() == text_event("Hello")

        run(scenario())

    def test_subprotocol_and_headers_go_to_the_opening(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            headers = [(b"x-a", b"1")]
            await session.send(
                {"type": "websocket.accept", "subprotocol": "chat", "headers": headers}
            )
            assert session.opening.calls == [("accept", "chat", headers)]
            assert session.websocket.subprotocol == "chat"

        run(scenario())

    def test_an_accept_that_fails_may_be_tried_again(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            session.opening.raises = package.errors.ASGIError("no such subprotocol")
            with pytest.raises(package.errors.ASGIError, match="no such subprotocol"):
                await session.send({"type": "websocket.accept", "subprotocol": "x"})
            session.opening.raises = None
            await session.send({"type": "websocket.accept"})
            assert session.websocket.subprotocol is None
            await session.text("x")
            assert session.sent() == [(0x81, b"x")]

        run(scenario())

    def test_a_denial_response_goes_to_the_opening(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"text": None, "bytes": None},
            {"text": "a", "bytes": b"b"},
            {"text": "", "bytes": b""},
            {"text": b"a"},
            {"bytes": "a"},
            {"bytes": 5},
            {"bytes": [1, 2]},
            {"text": 5},
            {"text": "\ud800"},
        ],
    )
    @pytest.mark.parametrize("deflate", [False, True])
    def test_a_malformed_message_says_what_was_expected(
        self, package: ModuleType, event: dict[str, Any], deflate: bool
    ) -> None:
        async def scenario() -> None:
            settings = package.wire.deflate.Settings() if deflate else None
            session = Session(package, deflate=settings)
            await session.accept()
            with pytest.raises(
                package.errors.ASGIError, match=r"websocket\.send: expected .*, got"
            ):
                await session.send({"type": "websocket.send", **event})
            await session.text("still open")
            await settle()
            assert session.sent() == [(0x81, b"still open")]
            assert session.websocket.messages_out == 1

        run(scenario())

    @pytest.mark.parametrize(
        "event",
        [
            {"code": 999},
            {"code": 1005},
            {"code": 1006},
            {"code": 1015},
            {"code": 5000},
            {"code": "1000"},
            {"code": 1000.0},
            {"code": True},
            {"reason": b"bytes"},
            {"reason": 5},
            {"reason": "\udfff"},
        ],
    )
    def test_a_malformed_close_says_what_was_expected(
        self, package: ModuleType, event: dict[str, Any]
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            with pytest.raises(package.errors.ASGIError, match=r"websocket\.close: expected"):
                await session.send({"type": "websocket.close", **event})
            await session.text("still open")
            assert session.sent() == [(0x81, b"still open")]

        run(scenario())

    @pytest.mark.parametrize("subprotocol", [b"chat", 5, ["chat"]])
    def test_a_subprotocol_is_text(self, package: ModuleType, subprotocol: Any) -> None:
        async def scenario() -> None:
            session = Session(package)
            with pytest.raises(package.errors.ASGIError, match=r"websocket\.accept: expected"):
                await session.send({"type": "websocket.accept", "subprotocol": subprotocol})
            assert session.opening.calls == []

        run(scenario())

    def test_a_reason_too_long_is_cut_with_a_warning(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close(1000, "x" * 122 + "é")
            assert session.sent() == [(0x88, b"\x03\xe8" + b"x" * 122)]

        run(scenario())
        assert [record.levelname for record in log] == ["WARNING"]

    def test_a_reason_that_fits_is_sent_without_a_warning(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close(1000, "x" * 123)
            assert session.sent() == [(0x88, b"\x03\xe8" + b"x" * 123)]

        run(scenario())
        assert log == []

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000])
    @pytest.mark.parametrize("deflate", [False, True])
    def test_messages_of_every_length_go_out_whole_and_are_counted(
        self, package: ModuleType, size: int, deflate: bool
    ) -> None:
        async def scenario() -> None:
            settings = package.wire.deflate.Settings(min_size=1 << 30) if deflate else None
            session = Session(package, deflate=settings)
            await session.accept()
            await session.text("ä" + "x" * size)
            await session.send({"type": "websocket.send", "bytes": b"y" * size})
            await settle()
            text = ("ä" + "x" * size).encode()
            assert session.sent() == [(0x81, text), (0x82, b"y" * size)]
            assert session.websocket.bytes_out == size + 2 + size

        run(scenario())

    def test_any_kind_of_str_and_bytes_is_sent(self, package: ModuleType) -> None:
        class Text(str):
            def __str__(self) -> str:
                return "another"

        class Bytes(bytes):
            pass

        async def scenario() -> None:
            for settings in None, package.wire.deflate.Settings():
                session = Session(package, deflate=settings)
                await session.accept()
                await session.text(Text("safe"))
                view = memoryview(b"-x-x-x")[1::2]
                for data in Bytes(b"bytes"), bytearray(b"array"), memoryview(b"view"), view:
                    await session.send({"type": "websocket.send", "bytes": data})
                await settle()
                payloads = [payload for _, payload in session.sent()]
                assert payloads == [b"safe", b"bytes", b"array", b"view", b"xxx"]

        run(scenario())


STATES = ["connecting", "denying", "accepted", "closed", "denied", "refused"]
ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "x"}
CLOSE = {"type": "websocket.close"}
START = {"type": "websocket.http.response.start", "status": 401, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"x", "more_body": True}
ALLOWED = {
    "connecting": [ACCEPT, CLOSE, START],
    "denying": [BODY],
    "accepted": [SEND, CLOSE],
    "closed": [],
    "denied": [],
    "refused": [],
}
OUT_OF_PLACE = [
    {"type": "websocket.receive", "text": "x"},
    {"type": "websocket.disconnect"},
    {"type": "http.response.start", "status": 200},
    {"type": ""},
    {"type": 5},
    {},
    [],
    None,
    "websocket.send",
]


async def reach(session: Session, state: str) -> None:
    """Bring a session into one of STATES."""
    steps: dict[str, list[dict[str, Any]]] = {
        "connecting": [],
        "denying": [START],
        "accepted": [ACCEPT],
        "closed": [ACCEPT, CLOSE],
        "denied": [START, BODY | {"more_body": False}],
        "refused": [CLOSE],
    }
    for event in steps[state]:
        await session.send(event)


class TestOrder:
    """Every state meets every event."""

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("event", [ACCEPT, SEND, CLOSE, START, BODY, *OUT_OF_PLACE])
    def test_what_is_out_of_order_is_an_error_and_changes_nothing(
        self, package: ModuleType, state: str, event: Any
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await reach(session, state)
            if event in ALLOWED[state]:
                await session.send(event)
                return
            writes, calls = list(session.transport.writes), list(session.opening.calls)
            with pytest.raises(package.errors.ASGIError, match="expected") as caught:
                await session.send(event)
            assert not isinstance(caught.value, OSError)
            assert (session.transport.writes, session.opening.calls) == (writes, calls)
            for allowed in ALLOWED[state][:1]:
                if isinstance(event, dict) and isinstance(event.get("type"), str):
                    assert str(allowed["type"]) in str(caught.value)
                await session.send(allowed)

        run(scenario())

    @pytest.mark.parametrize("state", ["connecting", "denying", "accepted"])
    @pytest.mark.parametrize("event", [ACCEPT, SEND, CLOSE, START, BODY])
    def test_what_was_in_order_tells_of_a_client_that_is_gone(
        self, package: ModuleType, state: str, event: Any
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await reach(session, state)
            if state == "accepted":
                session.lost()
            else:
                session.websocket.client_left()
            writes, calls = list(session.transport.writes), list(session.opening.calls)
            gone, wrong = package.errors.ClientDisconnected, package.errors.ASGIError
            if event == CLOSE and event in ALLOWED[state]:
                await session.send(event)  # it is closed, as was asked for
            else:
                with pytest.raises(gone if event in ALLOWED[state] else wrong):
                    await session.send(event)
            assert issubclass(gone, OSError)
            assert (session.transport.writes, session.opening.calls) == (writes, calls)

        run(scenario())

    def test_a_closed_session_takes_nothing_more(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close()
            with pytest.raises(package.errors.ASGIError, match="expected nothing more"):
                await session.text("late")

        run(scenario())


class TestDisconnectCodes:
    """What the application is told at the end, and who is said to have closed."""

    @pytest.mark.parametrize(
        ("data", "code", "reason", "by"),
        [
            (close_frame(4242, b"bye"), 4242, "bye", "client"),
            (close_frame(1000), 1000, "", "client"),
            (close_frame(1001, "Größe".encode()), 1001, "Größe", "client"),
            (close_frame(), 1005, "", "client"),
            (client_frame(3), 1002, "reserved opcode", "server"),
            (client_frame(CONT), 1002, "continuation frame without a message", "server"),
            (close_frame(1005), 1002, "invalid close code", "server"),
            (client_frame(TEXT, b"\xff"), 1007, "invalid UTF-8", "server"),
            (client_frame(BINARY, bytes(1001)), 1009, "message is too big", "server"),
        ],
    )
    def test_what_the_peer_sends_decides(
        self,
        package: ModuleType,
        buffered: bool,
        data: bytes,
        code: int,
        reason: str,
        by: str,
    ) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered, max_size=1000)
            await session.accept()
            session.feed(client_frame(TEXT, b"before") + data + client_frame(TEXT, b"after"))
            assert await session.receive() == text_event("before")
            assert await session.receive() == disconnect_event(code, reason)
            assert session.websocket.closed_by == by
            (frame,) = session.sent()
            expected = b"" if code == 1005 else code.to_bytes(2, "big")
            assert frame == (0x88, expected + reason.encode())
            assert session.transport.calls == ["write_eof"]
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")

        run(scenario())

    @pytest.mark.parametrize("way", ["lost", "reset", "eof"])
    def test_a_departure_without_a_close_frame_is_1006(self, package: ModuleType, way: str) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            waiting = asyncio.ensure_future(session.receive())
            await settle()
            if way == "eof":
                assert not session.websocket.eof_received()
            session.websocket.connection_lost(ConnectionResetError() if way == "reset" else None)
            assert await waiting == disconnect_event(1006)
            assert session.websocket.closed_by == "client"
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")

        run(scenario())

    def test_queued_messages_come_before_a_departure(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, max_queue=4)
            await session.accept()
            for number in range(10):
                session.feed(client_frame(TEXT, b"%d" % number))
            session.feed(close_frame(4001, b"later"))
            session.websocket.eof_received()
            session.lost()
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")
            for number in range(10):
                assert await session.receive() == text_event(str(number))
            assert await session.receive() == disconnect_event(4001, "later")

        run(scenario())

    def test_an_abort_behind_a_full_queue_is_1006(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, max_queue=4)
            await session.accept()
            for number in range(10):
                session.feed(client_frame(TEXT, b"%d" % number))
            session.lost()
            for number in range(10):
                assert await session.receive() == text_event(str(number))
            assert await session.receive() == disconnect_event(1006)

        run(scenario())

    def test_our_own_code_where_we_closed(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close(4000, "mine")
            assert await session.receive() == disconnect_event(4000, "mine")
            session.feed(close_frame(4001, b"theirs"))
            assert await session.receive() == disconnect_event(4000, "mine")
            assert session.websocket.closed_by == "server"

        run(scenario())

    @pytest.mark.parametrize("state", ["connecting", "refused", "denying", "denied"])
    def test_before_the_handshake_is_done_it_is_1006(self, package: ModuleType, state: str) -> None:
        async def scenario() -> None:
            session = Session(package)
            await reach(session, state)
            session.websocket.client_left()
            assert await session.receive() == {"type": "websocket.connect"}
            assert await session.receive() == disconnect_event(1006)
            assert session.websocket.closed_by == (
                "server" if state in ("refused", "denied") else "client"
            )

        run(scenario())

    def test_a_client_that_leaves_is_noticed_by_a_waiting_receive(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            assert await session.receive() == {"type": "websocket.connect"}
            waiting = asyncio.ensure_future(session.receive())
            await settle()
            assert not waiting.done()
            session.websocket.client_left()
            assert await waiting == disconnect_event(1006)

        run(scenario())

    def test_our_shutdown_is_1012(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.feed(client_frame(TEXT, b"queued"))
            session.websocket.shutdown()
            session.websocket.shutdown()
            assert session.sent() == [(0x88, b"\x03\xf4")]
            assert await session.receive() == text_event("queued")
            assert await session.receive() == disconnect_event(1012)
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")

        run(scenario())

    def test_a_shutdown_before_accept_refuses(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            session.websocket.shutdown()
            session.websocket.shutdown()
            assert session.opening.calls == [("refuse", 503)]
            assert await session.receive() == {"type": "websocket.connect"}
            assert await session.receive() == disconnect_event(1012)

        run(scenario())

    def test_a_shutdown_lets_a_denial_finish(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await reach(session, "denying")
            session.websocket.shutdown()
            await session.send(BODY | {"more_body": False})
            assert session.opening.calls == [("start", 401, []), ("body", b"x", False)]

        run(scenario())

    def test_a_shutdown_after_the_peers_close_changes_nothing(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.feed(close_frame(1000))
            session.sent()
            session.websocket.shutdown()
            assert session.sent() == []
            assert await session.receive() == disconnect_event(1000)

        run(scenario())


class TestPeerFails:
    """Answers to what came before a protocol error are sent before the close frame."""

    BAD = client_frame(3)

    def test_the_answer_that_is_being_made_goes_first(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + client_frame(TEXT, b"two") + self.BAD)
            for name in "one", "two":
                assert await session.receive() == text_event(name)
                await session.text(name)
            assert await session.receive() == disconnect_event(1002, "reserved opcode")
            assert [payload[:2] for _, payload in session.sent()] == [b"on", b"tw", b"\x03\xea"]
            assert session.transport.calls == ["write_eof"]
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")

        run(scenario())

    def test_an_application_that_takes_its_time_is_not_waited_for(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + self.BAD)
            assert await session.receive() == text_event("one")
            session.clock.advance(3)
            assert [first for first, _ in session.sent()] == [0x88]
            assert session.transport.calls == ["write_eof"]
            with pytest.raises(package.errors.ClientDisconnected):
                await session.text("late")
            assert await session.receive() == disconnect_event(1002, "reserved opcode")

        run(scenario())

    def test_nobody_is_waited_for_who_has_nothing_to_answer(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            waiting = asyncio.ensure_future(session.receive())
            await settle()
            session.feed(self.BAD)
            assert [first for first, _ in session.sent()] == [0x88]
            assert await waiting == disconnect_event(1002, "reserved opcode")

        run(scenario())

    @pytest.mark.parametrize("way", ["lost", "eof", "shutdown", "returns", "closes"])
    def test_whatever_ends_it_first_ends_it_once(self, package: ModuleType, way: str) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + self.BAD)
            assert await session.receive() == text_event("one")
            if way == "eof":
                session.websocket.eof_received()
            elif way == "shutdown":
                session.websocket.shutdown()
            elif way == "returns":
                await session.app(settle)
            elif way == "closes":
                await session.close(4000)
            if way != "lost":
                closes = [payload for first, payload in session.sent() if first == 0x88]
                assert len(closes) == 1
            session.lost()
            session.clock.advance(30)
            assert (await session.receive())["type"] == "websocket.disconnect"
            assert session.pulse.members == set()
            assert session.sent() == []

        run(scenario())


class TestApplicationEnds:
    """What the peer and the log are told for an application that is done."""

    @pytest.mark.parametrize("state", STATES)
    def test_it_returns(
        self, package: ModuleType, log: list[logging.LogRecord], state: str
    ) -> None:
        async def scenario() -> Session:
            session = Session(package)
            await reach(session, state)
            session.sent()
            session.opening.calls.clear()
            await session.app(settle)
            return session

        session = run(scenario())
        assert session.sent() == ([CLOSE_1000] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 500)] if unanswered else [])
        assert [record.levelname for record in log] == (["ERROR"] if unanswered else [])

    @pytest.mark.parametrize("state", STATES)
    def test_it_raises(self, package: ModuleType, log: list[logging.LogRecord], state: str) -> None:
        async def fail() -> None:
            raise ValueError("the application's own")

        async def scenario() -> Session:
            session = Session(package)
            await reach(session, state)
            session.sent()
            session.opening.calls.clear()
            await session.app(fail)
            return session

        session = run(scenario())
        assert session.sent() == ([(0x88, b"\x03\xf3")] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 500)] if unanswered else [])
        (record,) = log
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)

    @pytest.mark.parametrize("state", STATES)
    def test_it_is_cancelled(
        self, package: ModuleType, log: list[logging.LogRecord], state: str
    ) -> None:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        async def scenario() -> Session:
            session = Session(package)
            await reach(session, state)
            session.sent()
            session.opening.calls.clear()
            await session.app(cancelled)
            return session

        session = run(scenario())
        assert session.sent() == ([(0x88, b"\x03\xf3")] if state == "accepted" else [])
        unanswered = state in ("connecting", "denying")
        assert session.opening.calls == ([("refuse", 500)] if unanswered else [])
        lines = [record.getMessage() for record in log]
        answered = unanswered or state == "accepted"
        assert lines == ["the application was cancelled, and not by the server"] * answered

    def test_receive_says_how_it_ended(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.app(settle)
            assert await session.receive() == disconnect_event(1000)

        run(scenario())

    def test_an_error_after_the_client_left_is_logged_and_not_sent(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def fail() -> None:
            raise ValueError

        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.lost()
            await session.app(fail)
            assert session.sent() == []

        run(scenario())
        assert len(log) == 1

    def test_the_news_of_a_departure_is_no_error(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())
        assert log == []

    def test_other_errors_on_the_way_are_errors(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        class OwnError(Exception):
            pass

        async def scenario() -> None:
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

        run(scenario())
        assert len(log) == 4


class TestReceive:
    def test_concurrent_receives_are_served_in_order(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_all_that_wait_learn_of_a_departure(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            tasks = [asyncio.ensure_future(session.receive()) for _ in range(4)]
            await settle()
            session.lost()
            assert await asyncio.gather(*tasks) == [disconnect_event(1006)] * 4

        run(scenario())

    def test_a_cancelled_receive_loses_no_message(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_cancelled_receive_hands_its_turn_on(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            first, second = (asyncio.ensure_future(session.receive()) for _ in range(2))
            await settle()
            session.feed(client_frame(TEXT, b"x"))
            first.cancel()
            assert await second == text_event("x")
            assert first.cancelled()

        run(scenario())

    def test_a_timeout_around_receive(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(session.receive(), 0.001)
            session.feed(client_frame(TEXT, b"x"))
            assert await asyncio.wait_for(session.receive(), 1) == text_event("x")

        run(scenario())

    def test_receive_and_send_are_coroutines_of_the_task_that_awaits(
        self, package: ModuleType
    ) -> None:
        variable = contextvars.ContextVar("variable", default="outside")

        async def scenario() -> None:
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

        run(scenario())

    def test_concurrent_receives_survive_the_end_of_a_budget(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_queue_that_never_empties_does_not_grow(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())


class TestReading:
    """Bounded memory on the way in."""

    def test_parsing_stops_at_the_queues_mark(self, package: ModuleType, buffered: bool) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_pings_are_answered_though_nobody_receives(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + client_frame(PING, b"a"))
            session.feed(client_frame(TEXT, b"two") + client_frame(PING, b"b"))
            assert session.sent() == [(0x8A, b"a"), (0x8A, b"b")]

        run(scenario())

    def test_reading_stops_when_nobody_receives_and_goes_on_afterwards(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_large_messages_fill_the_queue_by_their_bytes(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered, max_queue=1000)
            await session.accept()
            for _ in range(100):
                session.feed(client_frame(BINARY, bytes(30_000)))
            assert session.websocket.messages_in == 3
            for _ in range(100):
                assert len((await session.receive())["bytes"]) == 30_000

        run(scenario())

    def test_a_flood_costs_no_more_than_its_bytes(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    @pytest.mark.parametrize("size", [20_000, 300_000, 3_000_000])
    def test_a_large_message_comes_in_whatever_pieces(
        self, package: ModuleType, buffered: bool, size: int
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_large_text_fails_where_it_is_filled_in_place(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered)
            await session.accept()
            frame = client_frame(TEXT, b"x" * 50_000 + b"\xff" + b"x" * 400_000)
            for start in range(0, 60_000, 5000):
                session.feed(frame[start : start + 5000])
            assert await session.receive() == disconnect_event(1007, "invalid UTF-8")

        run(scenario())

    def test_what_comes_into_a_shared_buffer_is_kept_until_it_is_read(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_messages_are_inflated(self, package: ModuleType, buffered: bool) -> None:
        async def scenario() -> None:
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

        run(scenario())


class TestWriting:
    """Corking: how many times the transport is asked to write."""

    def test_a_single_message_is_written_at_once(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            for number in range(5):
                session.feed(client_frame(TEXT, b"ping"))
                await session.receive()
                await session.text("pong")
                assert len(session.transport.writes) == number + 1

        run(scenario())

    def test_what_follows_in_the_same_iteration_is_written_together(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            for number in range(10):
                await session.text(str(number))
            assert len(session.transport.writes) == 1
            await asyncio.sleep(0)
            assert len(session.transport.writes) == 2
            assert session.sent() == [(0x81, b"%d" % number) for number in range(10)]

        run(scenario())

    def test_answers_to_messages_in_flight_are_one_write(
        self, package: ModuleType, buffered: bool
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_corked_frames_are_written_when_there_are_enough_bytes(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            for _ in range(8):
                await session.send({"type": "websocket.send", "bytes": bytes(20_000)})
            assert [len(data) for data in session.transport.writes] == [20_004, 80_016]
            await asyncio.sleep(0)
            assert [len(data) for data in session.transport.writes] == [20_004, 80_016, 60_012]

        run(scenario())

    def test_waiting_in_receive_writes_what_is_corked(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.text("one")
            await session.text("two")
            assert len(session.transport.writes) == 1
            coroutine = session.receive()
            coroutine.send(None)  # one step, without the loop coming round
            assert session.sent() == [(0x81, b"one"), (0x81, b"two")]
            coroutine.close()

        run(scenario())

    def test_frames_keep_their_order_whatever_their_size(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_pong_and_a_close_stand_behind_what_was_sent_before(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_nothing_is_written_to_a_connection_that_is_lost(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.text("one")
            await session.text("two")
            session.lost()
            await settle()
            assert session.sent() == [(0x81, b"one")]

        run(scenario())


class TestBackpressure:
    def test_send_waits_while_the_transport_is_full(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.transport.on_write = session.websocket.pause_writing
            task = asyncio.ensure_future(session.text("fills it"))
            await settle()
            assert not task.done()
            assert session.sent() == [(0x81, b"fills it")]
            session.websocket.resume_writing()
            await task

        run(scenario())

    def test_nothing_is_added_while_the_transport_is_full(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_an_accept_on_a_full_transport_carries_that_over(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    @pytest.mark.parametrize("way", ["lost", "eof", "close frame, then lost"])
    def test_waiting_sends_are_woken_with_the_error_when_the_client_goes(
        self, package: ModuleType, way: str
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_cancelled_send_leaves_the_others_waiting(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_several_tasks_send_whole_messages(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_answers_to_what_came_before_an_error_are_still_sent(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + client_frame(3))
            assert await session.receive() == {"type": "websocket.receive", "text": "one"}
            await session.text("answer")
            assert session.sent() == [(0x81, b"answer")]
            assert (await session.receive())["code"] == 1002
            [(first, payload)] = session.sent()
            assert (first, payload[:2]) == (0x88, b"\x03\xea")
            assert session.transport.calls == ["write_eof"]

        run(scenario())

    def test_an_error_does_not_wait_for_an_application_that_never_receives_again(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            session = Session(package, ping_interval=None)
            await session.accept()
            session.feed(client_frame(TEXT, b"one") + client_frame(3))
            await settle()
            assert session.sent() == []
            session.clock.advance(3)
            [(first, payload)] = session.sent()
            assert (first, payload[:2]) == (0x88, b"\x03\xea")
            assert session.transport.calls == ["write_eof"]
            session.clock.advance(11)
            assert session.transport.calls == ["write_eof", "abort"]

        run(scenario())

    def test_a_deflator_that_rests_is_freed_and_the_client_need_not_know(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
            settings = package.wire.deflate.Settings(min_size=0)
            session = Session(package, deflate=settings, ping_interval=None)
            await session.accept()
            inflator = package.wire.deflate.Inflator(
                package.wire.deflate.Agreed(True, True, 15, 15)
            )
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

        run(scenario())

    def test_a_send_that_waits_is_told_of_the_end_before_the_client_is_gone(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_pongs_do_not_pile_up_for_a_peer_that_does_not_read(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.websocket.pause_writing()
            for number in range(1000):
                session.feed(client_frame(PING, b"%d" % number))
            assert session.sent() == []
            session.websocket.resume_writing()
            assert session.sent() == [(0x8A, b"999")]

        run(scenario())


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
    def test_a_push_at_full_speed(self, package: ModuleType, size: int) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            event = {"type": "websocket.send", "bytes": bytes(size)}
            count = 2000 if size == 1 else 200
            least = count // 64 if size == 1 else count * size // 300_000
            assert await self.turns(lambda: session.send(event), count) >= least

        run(scenario())

    @pytest.mark.parametrize("size", [1, 50_000])
    def test_a_flood_that_is_received_at_full_speed(self, package: ModuleType, size: int) -> None:
        async def scenario() -> None:
            session = Session(package, max_queue=10_000, max_size=100_000)
            await session.accept()
            count = 2000 if size == 1 else 200
            session.feed(client_frame(BINARY, bytes(size)) * count)
            least = count // 64 if size == 1 else count * size // 300_000
            assert await self.turns(session.receive, count) >= least

        run(scenario())

    def test_an_application_that_ignores_the_disconnect(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.lost()
            assert await self.turns(session.receive, 2000) >= 30

        run(scenario())

    def test_an_application_that_ignores_the_error(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            session.lost()

            async def send() -> None:
                with pytest.raises(package.errors.ClientDisconnected):
                    await session.text("x")

            assert await self.turns(send, 200) >= 3

        run(scenario())


class TestClosing:
    """The closing handshake with a deadline (RFC 6455 section 7)."""

    def test_the_peer_closes(self, package: ModuleType, buffered: bool) -> None:
        async def scenario() -> None:
            session = Session(package, buffered=buffered)
            await session.accept()
            session.feed(close_frame(1000))
            assert session.sent() == [CLOSE_1000]
            # A FIN behind the close frame; reading goes on, so that no RST eats it.
            assert session.transport.calls == ["write_eof"]
            session.feed(client_frame(TEXT, b"ignored"))
            assert not session.websocket.eof_received()
            session.lost()
            assert session.transport.calls == ["write_eof"]
            assert session.websocket.messages_in == 0

        run(scenario())

    def test_we_close(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close()
            assert session.sent() == [CLOSE_1000]
            assert session.transport.calls == []
            session.feed(client_frame(TEXT, b"on its way"))
            session.feed(close_frame(1000))
            assert session.transport.calls == ["write_eof"]
            assert session.sent() == []
            assert session.websocket.messages_in == 0

        run(scenario())

    def test_over_tls_there_is_no_half_close(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, tls=True)
            await session.accept()
            session.feed(close_frame(1000))
            assert session.sent() == [CLOSE_1000]
            assert session.transport.calls == ["close"]

        run(scenario())

    @pytest.mark.parametrize("who", ["we", "the peer", "failed"])
    def test_a_peer_that_does_not_finish_is_cut_off_at_the_deadline(
        self, package: ModuleType, who: str
    ) -> None:
        async def scenario() -> None:
            session = Session(package, close_timeout=10.0)
            await session.accept()
            if who == "we":
                await session.close()
            else:
                session.feed(close_frame(1000) if who == "the peer" else client_frame(3))
            session.clock.advance(8.9)
            session.feed(b"x" * 1000)  # noise does not extend it
            assert "abort" not in session.transport.calls
            session.clock.advance(2.1)
            assert session.transport.calls[-1] == "abort"
            session.lost()
            calls = list(session.transport.calls)
            session.clock.advance(100)
            assert session.transport.calls == calls

        run(scenario())

    def test_a_deadline_that_runs_is_not_set_back(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, close_timeout=10.0)
            await session.accept()
            await session.close()
            session.clock.advance(7)
            session.feed(close_frame(1000))
            assert session.transport.calls == ["write_eof"]
            session.clock.advance(4)
            assert session.transport.calls == ["write_eof", "abort"]

        run(scenario())

    def test_a_close_behind_a_full_queue_is_found_when_we_close(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, max_queue=2)
            await session.accept()
            while session.transport.reading:
                session.feed(client_frame(BINARY, bytes(1000)))
            session.feed(close_frame(4000))
            await session.close()
            assert session.transport.calls == ["pause_reading", "write_eof", "resume_reading"]
            assert session.sent() == [CLOSE_1000]

        run(scenario())

    def test_after_our_close_reading_goes_on_with_a_full_queue(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_a_departure_during_the_closing_handshake(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            await session.close(1001)
            session.websocket.eof_received()
            session.lost()
            assert await session.receive() == disconnect_event(1001)
            assert session.pulse.members == set()
            assert session.opening.calls[-1] == ("ended",)

        run(scenario())

    def test_abort_cuts_the_connection(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package)
            session.websocket.abort()
            await session.accept()
            session.websocket.abort()
            assert session.transport.calls == ["abort"]
            session.lost()
            session.websocket.abort()
            assert session.transport.calls == ["abort"]

        run(scenario())

    def test_a_peer_that_has_reset_takes_no_fin(
        self, package: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write_eof() -> None:
            raise OSError("Transport endpoint is not connected")

        async def scenario() -> None:
            session = Session(package)
            await session.accept()
            monkeypatch.setattr(session.transport, "write_eof", write_eof)
            session.feed(close_frame(1000))
            assert session.transport.calls == ["abort"]

        run(scenario())

    def test_every_order_of_ends_leaves_nothing_behind(self, package: ModuleType) -> None:
        async def scenario() -> None:
            ends: dict[str, Callable[[Session], object]] = {
                "peer": lambda session: session.feed(close_frame(1000)),
                "bad": lambda session: session.feed(client_frame(3)),
                "eof": lambda session: session.websocket.eof_received(),
                "shutdown": lambda session: session.websocket.shutdown(),
                "resume": lambda session: session.websocket.resume_writing(),
                "flush": lambda session: session.pulse.flush._run(),
                "tick": lambda session: session.websocket.on_tick(),
            }
            for order in itertools.permutations(ends, 4):
                for full in False, True:
                    session = Session(package, max_queue=1)
                    await session.accept()
                    await session.text("one")
                    await session.text("two")
                    session.websocket.pause_writing()
                    if full:
                        session.feed(client_frame(TEXT, b"x") * 3)
                    for name in order:
                        ends[name](session)
                    await session.app(settle)
                    session.lost()
                    session.clock.advance(100)
                    while (await session.receive())["type"] != "websocket.disconnect":
                        pass
                    assert session.pulse.members == set()
                    closes = [first for first, _ in session.sent() if first == 0x88]
                    assert len(closes) <= 1, order

        run(scenario())


class TestAfterwards:
    @pytest.mark.parametrize("way", ["peer", "we", "failed", "lost", "left", "large"])
    def test_ended_sessions_leave_no_memory_behind(
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

        async def scenario() -> None:
            clock = Clock()
            for _ in range(20):
                await session(clock)
            gc.collect()
            tracemalloc.start()
            try:
                for _ in range(100):
                    await session(clock)
                clock.advance(2)
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] < 10_000
            finally:
                tracemalloc.stop()

        run(scenario())


class TestKeepalive:
    def pings(self, session: Session) -> list[bytes]:
        sent = session.sent()
        assert all(first in (0x89, 0x88) for first, _ in sent)
        return [payload for first, payload in sent if first == 0x89]

    def test_pings_come_at_the_interval_with_random_payloads(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_the_first_ping_comes_at_a_random_moment_of_the_second_half(
        self, package: ModuleType
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_no_answer_closes_with_1011_and_one_line(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())
        assert [record.levelname for record in log] == ["INFO"]

    @pytest.mark.parametrize("data", [client_frame(PONG), client_frame(TEXT, b"x"), b"\x82"])
    def test_any_byte_counts_as_alive(self, package: ModuleType, data: bytes) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_nobody_is_judged_while_we_do_not_read(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, max_queue=2, ping_interval=5.0, ping_timeout=5.0)
            await session.accept()
            session.feed(client_frame(TEXT, b"x") * 3)  # parsing has stopped, reading has not
            for _ in range(30):
                session.clock.advance(3)
                session.feed(client_frame(PONG))
            while session.transport.reading:
                session.feed(client_frame(BINARY, bytes(5000)))
            session.clock.advance(100)
            assert all(first == 0x89 for first, _ in session.sent())
            while not session.transport.reading:
                await session.receive()
            session.clock.advance(3)
            assert all(first == 0x89 for first, _ in session.sent())

        run(scenario())

    def test_a_blocked_loop_kills_nobody(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_nobody_is_judged_by_the_first_tick_after_a_block(self, package: ModuleType) -> None:
        async def pinged() -> Session:
            session = Session(package, ping_interval=20.0, ping_timeout=20.0)
            await session.accept()
            while not session.transport.writes:
                session.clock.advance(1)
            return session

        def closed(session: Session) -> bool:
            return any(first == 0x88 for first, _ in session.sent())

        async def scenario() -> None:
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

        run(scenario())

    def test_a_peer_that_takes_what_we_wrote_is_alive(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())

    def test_pings_may_be_switched_off(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, ping_interval=None)
            await session.accept()
            session.clock.advance(1000)
            assert session.sent() == []

        run(scenario())

    def test_the_pong_deadline_may_be_switched_off(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, ping_interval=20.0, ping_timeout=None)
            await session.accept()
            session.clock.advance(1000)
            assert len(self.pings(session)) == 50

        run(scenario())

    def test_short_times_are_kept_too(self, package: ModuleType) -> None:
        async def scenario() -> None:
            session = Session(package, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1)
            await session.accept()
            session.clock.advance(0.09)
            assert all(first == 0x89 for first, _ in session.sent())
            session.clock.advance(0.21)
            assert session.sent()[-1][0] == 0x88
            session.clock.advance(0.15)
            assert session.transport.calls == ["abort"]

        run(scenario())

    def test_an_empty_group_has_no_timer(self, package: ModuleType) -> None:
        async def scenario() -> None:
            clock = Clock()
            session = Session(package, clock=clock)
            assert clock._timers == []
            await session.accept()
            session.lost()
            clock.advance(5)
            assert clock._timers == []

        run(scenario())


class TestDeadlines:
    def test_an_application_that_never_accepts_is_answered_504(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
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

        run(scenario())
        assert [record.levelname for record in log] == ["WARNING"]

    @pytest.mark.parametrize("state", ["accepted", "denying", "refused"])
    def test_a_decision_in_time_ends_that_deadline(self, package: ModuleType, state: str) -> None:
        async def scenario() -> None:
            session = Session(package, accept_timeout=30.0, ping_interval=None)
            session.clock.advance(20)
            await reach(session, state)
            calls = list(session.opening.calls)
            session.clock.advance(100)
            assert session.opening.calls == calls
            assert session.transport.calls == []

        run(scenario())

    def test_a_peer_that_takes_nothing_is_cut_off(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        async def scenario() -> None:
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
            assert await session.receive() == {"type": "websocket.disconnect"} | disconnect_event(
                1006
            )
            assert session.websocket.closed_by == "server"

        run(scenario())
        assert [record.levelname for record in log] == ["INFO"]

    def test_an_idle_session_is_closed_with_1001(self, package: ModuleType) -> None:
        async def scenario() -> None:
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

        run(scenario())
