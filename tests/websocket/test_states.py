"""Every state of a session meets every event, and every end of one has its code."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.client_frames import (
    BINARY,
    CONT,
    TEXT,
    client_frame,
    close_frame,
)
from ..toolkit.fake_transport import (
    ACCEPT,
    BODY,
    CLOSE,
    CLOSE_1000,
    SEND,
    START,
    STATES,
    Session,
    disconnect_event,
    reach,
    settle,
    text_event,
)

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


class TestOrder:
    """Every state meets every event."""

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("event", [ACCEPT, SEND, CLOSE, START, BODY, *OUT_OF_PLACE])
    async def test_what_is_out_of_order_is_an_error_and_changes_nothing(
        self, package: ModuleType, state: str, event: Any
    ) -> None:
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

    @pytest.mark.parametrize("state", ["connecting", "denying", "accepted"])
    @pytest.mark.parametrize("event", [ACCEPT, SEND, CLOSE, START, BODY])
    async def test_what_was_in_order_tells_of_a_client_that_is_gone(
        self, package: ModuleType, state: str, event: Any
    ) -> None:
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

    async def test_a_closed_session_takes_nothing_more(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        await session.close()
        with pytest.raises(package.errors.ASGIError, match=r"nothing more, .* has closed"):
            await session.text("late")


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
    async def test_what_the_peer_sends_decides(
        self,
        package: ModuleType,
        buffered: bool,
        data: bytes,
        code: int,
        reason: str,
        by: str,
    ) -> None:
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

    @pytest.mark.parametrize("way", ["lost", "reset", "eof"])
    async def test_a_departure_without_a_close_frame_is_1006(
        self, package: ModuleType, way: str
    ) -> None:
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

    async def test_queued_messages_come_before_a_departure(self, package: ModuleType) -> None:
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

    async def test_an_abort_behind_a_full_queue_is_1006(self, package: ModuleType) -> None:
        session = Session(package, max_queue=4)
        await session.accept()
        for number in range(10):
            session.feed(client_frame(TEXT, b"%d" % number))
        session.lost()
        for number in range(10):
            assert await session.receive() == text_event(str(number))
        assert await session.receive() == disconnect_event(1006)

    async def test_our_own_code_where_we_closed(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        await session.close(4000, "mine")
        assert await session.receive() == disconnect_event(4000, "mine")
        session.feed(close_frame(4001, b"theirs"))
        assert await session.receive() == disconnect_event(4000, "mine")
        assert session.websocket.closed_by == "server"

    @pytest.mark.parametrize("state", ["connecting", "refused", "denying", "denied"])
    async def test_before_the_handshake_is_done_it_is_1006(
        self, package: ModuleType, state: str
    ) -> None:
        session = Session(package)
        await reach(session, state)
        session.websocket.client_left()
        assert await session.receive() == {"type": "websocket.connect"}
        assert await session.receive() == disconnect_event(1006)
        assert session.websocket.closed_by == (
            "server" if state in ("refused", "denied") else "client"
        )

    async def test_a_client_that_leaves_is_noticed_by_a_waiting_receive(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        assert await session.receive() == {"type": "websocket.connect"}
        waiting = asyncio.ensure_future(session.receive())
        await settle()
        assert not waiting.done()
        session.websocket.client_left()
        assert await waiting == disconnect_event(1006)

    async def test_our_shutdown_is_1012(self, package: ModuleType) -> None:
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

    async def test_a_shutdown_before_accept_refuses(self, package: ModuleType) -> None:
        session = Session(package)
        session.websocket.shutdown()
        session.websocket.shutdown()
        assert session.opening.calls == [("refuse", 503)]
        assert await session.receive() == {"type": "websocket.connect"}
        assert await session.receive() == disconnect_event(1012)

    async def test_a_shutdown_lets_a_denial_finish(self, package: ModuleType) -> None:
        session = Session(package)
        await reach(session, "denying")
        session.websocket.shutdown()
        await session.send(BODY | {"more_body": False})
        assert session.opening.calls == [("start", 401, []), ("body", b"x", False)]

    async def test_a_shutdown_after_the_peers_close_changes_nothing(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        session.feed(close_frame(1000))
        session.sent()
        session.websocket.shutdown()
        assert session.sent() == []
        assert await session.receive() == disconnect_event(1000)


class TestPeerFails:
    """Answers to what came before a protocol error are sent before the close frame."""

    BAD = client_frame(3)

    async def test_the_answer_that_is_being_made_goes_first(
        self, package: ModuleType, buffered: bool
    ) -> None:
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

    async def test_an_application_that_takes_its_time_is_not_waited_for(
        self, package: ModuleType
    ) -> None:
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

    async def test_nobody_is_waited_for_who_has_nothing_to_answer(
        self, package: ModuleType
    ) -> None:
        session = Session(package)
        await session.accept()
        waiting = asyncio.ensure_future(session.receive())
        await settle()
        session.feed(self.BAD)
        assert [first for first, _ in session.sent()] == [0x88]
        assert await waiting == disconnect_event(1002, "reserved opcode")

    @pytest.mark.parametrize("way", ["lost", "eof", "shutdown", "returns", "closes"])
    async def test_whatever_ends_it_first_ends_it_once(self, package: ModuleType, way: str) -> None:
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

    async def test_answers_to_what_came_before_an_error_are_still_sent(
        self, package: ModuleType
    ) -> None:
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

    async def test_an_error_does_not_wait_for_an_application_that_never_receives_again(
        self, package: ModuleType
    ) -> None:
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


class TestClosing:
    async def test_the_peer_closes(self, package: ModuleType, buffered: bool) -> None:
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

    async def test_we_close(self, package: ModuleType) -> None:
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

    async def test_a_departure_during_the_closing_handshake(self, package: ModuleType) -> None:
        session = Session(package)
        await session.accept()
        await session.close(1001)
        session.websocket.eof_received()
        session.lost()
        assert await session.receive() == disconnect_event(1001)
        assert session.pulse.members == set()
        assert session.opening.calls[-1] == ("ended",)

    async def test_every_order_of_ends_leaves_nothing_behind(self, package: ModuleType) -> None:
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
