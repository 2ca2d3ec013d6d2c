"""A WebSocket from the application's side and the peer's, over real sockets.

Both builds on both event loops: the application runs in a server in a thread, the
peer is the `websockets` client, or raw bytes where a client would not do such a thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import queue
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from random import Random
from time import sleep
from types import ModuleType
from typing import Any

import anyio
import fastapi
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import BINARY, CLOSE, PING, TEXT, client_frame
from ..toolkit.fake_transport import disconnect_event
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import DEADLINE, LOOPS, Running, running

Serve = Callable[..., AbstractContextManager[Running]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ACCEPT = {"type": "websocket.accept"}


@pytest.fixture(params=LOOPS)
def serve(package: ModuleType, request: pytest.FixtureRequest) -> Serve:
    """``serve(app, **options)`` in one build on one event loop."""

    def serve(app: Any, **options: Any) -> AbstractContextManager[Running]:
        return running(app, request.param, package, **options)

    return serve


@pytest.fixture(params=[("interpreted", "asyncio"), (list(BUILDS)[-1], "uvloop")], ids="-".join)
def serve_twice(request: pytest.FixtureRequest) -> Serve:
    """As ``serve``, for what takes long: each build and each loop, but not each pair."""
    build, loop = request.param

    def serve(app: Any, **options: Any) -> AbstractContextManager[Running]:
        return running(app, loop, BUILDS[build], **options)

    return serve


class Seen:
    """What happened in the application, in order, for the test to wait for."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()

    def __call__(self, what: Any) -> None:
        self._queue.put(what)

    def next(self) -> Any:
        return self._queue.get(timeout=DEADLINE)

    def nothing(self) -> bool:
        return self._queue.empty()


@pytest.fixture
def seen() -> Seen:
    return Seen()


def open_websocket(server: Running, path: str = "/path", **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", **{"compression": None, **options})


@contextlib.contextmanager
def raw(server: Running, **options: Any) -> Iterator[Client]:
    """An open WebSocket whose peer writes its frames itself."""
    with Client(server, **options) as client:
        client.send(upgrade(target="/path"))
        assert client.read_head().status == 101
        yield client


def closed(websocket: ClientConnection) -> tuple[int, str]:
    """The close frame that comes from the server; messages before it are dropped."""
    try:
        while True:
            websocket.recv(DEADLINE)
    except ConnectionClosed as exc:
        frame = exc.rcvd
    assert frame is not None, "the connection was cut"
    return frame.code, frame.reason


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def accept(receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send(ACCEPT)


def text(message: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": message}


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


# The end of a session.


def test_an_application_that_raises_closes_1011_and_its_traceback_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        raise ValueError("boom")

    with serve(app) as server, open_websocket(server) as websocket:
        assert closed(websocket) == (1011, "")
    assert errors(caplog) == ["Exception in ASGI application"]
    assert "ValueError: boom" in caplog.text


@pytest.mark.parametrize("how", ["raises", "raises when open", "returns"])
def test_a_client_that_has_the_answer_finds_its_reason_in_the_log(
    serve: Serve, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered: list[bool] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if how == "raises when open":
            await accept(receive, send)
            await receive()
        if how != "returns":
            raise ValueError("boom")

    def note(_: logging.LogRecord) -> bool:
        answered.append(client.is_answered())
        return True

    with serve(app) as server, Client(server) as client, caplog.filtering(note):
        client.send(upgrade())
        if how == "raises when open":
            assert client.read_head().status == 101
            client.send(client_frame(TEXT, b"hello"))
            assert client.file.read(4) == b"\x88\x02\x03\xf3"
        else:
            assert client.read_head().status == 500
        assert len(errors(caplog)) == 1
    assert answered[0] is False


def test_an_application_that_returns_closes_1000(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send(text("last"))

    with serve(app) as server, open_websocket(server) as websocket:
        assert websocket.recv(DEADLINE) == "last"
        assert closed(websocket) == (1000, "")
    assert errors(caplog) == []


async def recording(scope: Any, receive: Receive, send: Send, seen: Seen) -> None:
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        pass
    seen(event)
    seen(await receive())  # the same again, however often
    try:
        await send(text("late"))
    except OSError as exc:
        seen(type(exc).__name__)
        raise


ENDINGS: list[Any] = [
    pytest.param(client_frame(CLOSE, b"\x10\x92bye"), disconnect_event(4242, "bye"), id="4242 bye"),
    pytest.param(client_frame(CLOSE, b"\x03\xe8"), disconnect_event(1000), id="1000"),
    pytest.param(client_frame(CLOSE), disconnect_event(1005), id="no code"),
    pytest.param(Client.reset, disconnect_event(1006), id="RST"),
    pytest.param(Client.finish, disconnect_event(1006), id="EOF"),
    pytest.param(b"\x81\x01a", 1002, id="unmasked"),
    pytest.param(client_frame(3), 1002, id="reserved opcode"),
    pytest.param(client_frame(TEXT, b"\xff"), 1007, id="no UTF-8"),
    pytest.param(client_frame(BINARY, bytes(2000)), 1009, id="too large"),
]


@pytest.mark.parametrize(("end", "event"), ENDINGS)
def test_the_application_is_told_how_it_ended_and_a_late_send_is_no_error_of_its_own(
    serve: Serve, seen: Seen, caplog: pytest.LogCaptureFixture, end: Any, event: Any
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await recording(scope, receive, send, seen)

    with serve(app, ws_max_size=1999) as server, raw(server) as client:
        if callable(end):
            end(client)
        else:
            client.send(end)
        told = seen.next()
        assert seen.next() == told
        assert seen.next() == "ClientDisconnected"
        if isinstance(event, int):
            assert told["type"] == "websocket.disconnect"
            assert told["code"] == event
            assert isinstance(told["reason"], str)
            frame = client.rest()
            assert frame[0] == 0x88
            assert int.from_bytes(frame[2:4]) == event
        else:
            assert told == event
    assert errors(caplog) == []


def test_every_queued_message_comes_before_the_disconnect(serve: Serve, seen: Seen) -> None:
    may_read = threading.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await asyncio.to_thread(may_read.wait, DEADLINE)
        while (event := await receive())["type"] == "websocket.receive":
            seen(event["text"])
        seen(event)

    messages = [str(number) for number in range(200)]  # some fit into the queue, some do not
    with serve(app, ws_max_queue=8) as server, raw(server) as client:
        client.send(b"".join(client_frame(TEXT, message.encode()) for message in messages))
        client.send(client_frame(CLOSE, b"\x0f\xa0"))
        client.finish()
        may_read.set()
        assert [seen.next() for _ in messages] == messages
        assert seen.next() == disconnect_event(4000)


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        ({"code": 4001, "reason": "enough"}, (4001, "enough")),
        ({}, (1000, "")),
        ({"code": 1000, "reason": None}, (1000, "")),
    ],
)
def test_the_application_closes_with_its_own_code_and_is_told_so(
    serve: Serve, seen: Seen, event: Any, frame: Any
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", **event})
        seen(await receive())

    with serve(app) as server, open_websocket(server) as websocket:
        assert closed(websocket) == frame
    assert seen.next() == disconnect_event(*frame)


def test_a_reason_too_long_is_cut_on_a_character_boundary_with_a_warning(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4000, "reason": "ä" * 100})

    with serve(app) as server, open_websocket(server) as websocket:
        assert closed(websocket) == (4000, "ä" * 61)
    assert errors(caplog) == ["websocket.close: the reason was cut at 123 bytes"]


@pytest.mark.parametrize("library", ["zlib", "zlib-ng"])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_compressed_messages_come_back_as_they_were_sent(
    serve_twice: Serve, bits: int, library: str
) -> None:
    random = Random(bits)
    words = [random.randbytes(6).hex() for _ in range(2000)]
    options: dict[str, Any] = {"ws_deflate_window_bits": bits, "ws_deflate_min_size": 0}
    options["ws_deflate_library"] = library
    with (
        serve_twice(echo, **options) as server,
        open_websocket(server, compression="deflate") as websocket,
    ):
        assert len(websocket.protocol.extensions) == 1
        for count in (0, 1, 20, 5000, 20, 40_000):
            message = " ".join(random.choices(words, k=count))
            websocket.send(message)
            assert websocket.recv(DEADLINE) == message


def test_the_last_message_is_not_lost_though_the_client_is_still_sending(serve: Serve) -> None:
    """A socket closed with unread input would be reset, and the reset eat what is under way."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await receive()
        await send({"type": "websocket.send", "bytes": bytes(2_000_000)})
        await send(text("last"))

    with serve(app) as server, raw(server, receive_buffer=4096) as client:
        client.sock.settimeout(DEADLINE)
        client.send(client_frame(TEXT, b"go"))
        for _ in range(20):
            client.send(client_frame(BINARY, bytes(10_000)))
        data = client.file.read(10 + 2_000_000 + 6 + 4)
        assert data[-10:] == b"\x81\x04last\x88\x02\x03\xe8"
        client.send(client_frame(CLOSE, b"\x03\xe8"))
        assert client.rest() == b""


def test_an_application_that_ends_with_the_disconnect_is_not_logged_whatever_wraps_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await receive()

        async def late() -> None:
            await send(text("late"))

        if scope["path"] == "/group":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(late)
                tasks.start_soon(late)
        elif scope["path"] == "/framework":
            try:
                await late()
            except OSError:
                raise WebSocketDisconnect(1006) from None
        else:
            await late()

    with serve(app) as server:
        for path in ("/", "/group", "/framework"):
            with open_websocket(server, path):
                pass
            server.wait_until(lambda: not server.server.serving.tasks)
    assert errors(caplog) == []


# The opening.


def test_a_denial_is_the_applications_response_and_no_upgrade(serve: Serve) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        assert "websocket.http.response" in scope["extensions"]
        headers = [(b"x-why", b"members only"), (b"x-why", b"sorry")]
        start = {"type": "websocket.http.response.start", "status": 402, "headers": headers}
        await send(start)
        body = {"type": "websocket.http.response.body"}
        await send({**body, "body": b"pay ", "more_body": True})
        await send({**body, "body": b"first"})

    with serve(app) as server, Client(server) as client:
        client.send(upgrade(target="/path"))
        reply = client.read()
        assert (reply.status, reply.body) == (402, b"pay first")
        assert reply.names.count("x-why") == 2
        assert not {"upgrade", "sec-websocket-accept"} & set(reply.headers)
        assert reply.headers["connection"] == "close"
        assert client.rest() == b""


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"type": "websocket.close"}, 403), (None, 500), (ValueError("boom"), 500)],
    ids=["close", "return", "raise"],
)
def test_who_does_not_accept_refuses(
    serve: Serve, seen: Seen, caplog: pytest.LogCaptureFixture, answer: Any, status: int
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await send(answer)
            seen(await receive())

    with serve(app) as server, pytest.raises(InvalidStatus) as refused:
        open_websocket(server)
    assert refused.value.response.status_code == status
    if status == 403:
        assert seen.next() == disconnect_event(1006)
    assert len(errors(caplog)) == (status == 500)


def test_subprotocol_and_headers_of_the_accept_are_sent(serve: Serve) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        assert scope["subprotocols"] == ["chat.v2", "chat.v1"]
        headers = [(b"x-room", b"1"), (b"x-room", b"2")]
        await send({**ACCEPT, "subprotocol": "chat.v1", "headers": headers})
        await receive()

    protocols: Any = ["chat.v2", "chat.v1"]
    with serve(app) as server, open_websocket(server, subprotocols=protocols) as websocket:
        assert websocket.subprotocol == "chat.v1"
        assert websocket.response is not None
        assert websocket.response.headers.get_all("x-room") == ["1", "2"]


def test_a_client_that_leaves_before_the_accept_is_noticed(serve: Serve, seen: Seen) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        seen("connect")
        seen(await receive())
        try:
            await send(ACCEPT)
        except OSError as exc:
            seen(type(exc).__name__)

    with serve(app) as server:
        for leave in (Client.reset, Client.finish):
            with Client(server) as client:
                client.send(upgrade(target="/path"))
                assert seen.next() == "connect"
                leave(client)
                assert seen.next() == disconnect_event(1006)
                assert seen.next() == "ClientDisconnected"


def test_frames_behind_the_request_are_read_after_the_101(serve: Serve) -> None:
    with serve(echo) as server, Client(server) as client:
        client.send(
            upgrade(target="/path") + client_frame(TEXT, b"early") + client_frame(PING, b"ping")
        )
        assert client.read_head().status == 101
        pong, message = b"\x8a\x04ping", b"\x81\x05early"
        assert client.file.read(13) in (pong + message, message + pong)


def test_limit_concurrency_refuses_websockets_before_the_application(
    serve: Serve, seen: Seen
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        seen(scope["type"])
        await echo(scope, receive, send)

    with serve(app, limit_concurrency=1) as server, open_websocket(server):
        assert seen.next() == "websocket"
        with pytest.raises(InvalidStatus) as refused:
            open_websocket(server)
        assert refused.value.response.status_code == 503
        assert seen.nothing()


# Events that are wrong.

WRONG_SENDS: list[Any] = [
    ({"type": "websocket.send"}, "exactly one of text"),
    ({"type": "websocket.send", "text": "a", "bytes": b"a"}, "exactly one of text"),
    ({"type": "websocket.send", "text": b"a"}, "exactly one of text"),
    ({"type": "websocket.send", "bytes": "a"}, "exactly one of text"),
    ({"type": "websocket.send", "text": "\ud800"}, "surrogates"),
    ({"type": "websocket.close", "code": 1005}, "a code that may be sent"),
    ({"type": "websocket.close", "code": 999}, "a code that may be sent"),
    ({"type": "websocket.close", "code": "1000"}, "a code that may be sent"),
    ({"type": "websocket.close", "reason": 1}, "reason to be a str"),
    (ACCEPT, "expected websocket.send or websocket.close"),
    ({"type": "http.response.start", "status": 200}, "expected websocket.send"),
    ({}, "expected an event"),
    (None, "expected an event"),
]


def test_a_wrong_event_says_what_was_expected_and_leaves_the_session_usable(
    serve: Serve, seen: Seen
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for event, _ in WRONG_SENDS:
            try:
                await send(event)
            except RuntimeError as exc:
                seen(str(exc))
            else:
                seen("nothing was raised")
        await send(text("still here"))

    with serve(app) as server, open_websocket(server) as websocket:
        for event, words in WRONG_SENDS:
            message = seen.next()
            assert words in message, event
            assert "got" in message
        assert websocket.recv(DEADLINE) == "still here"


WRONG_ACCEPTS: list[Any] = [
    ({**ACCEPT, "subprotocol": "other"}, "one of those offered"),
    ({**ACCEPT, "subprotocol": 1}, "subprotocol to be a str"),
    ({**ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}, ""),
    ({**ACCEPT, "headers": [("x", "y")]}, ""),
    ({**ACCEPT, "headers": [(b"sec-websocket-accept", b"x")]}, "the server sets itself"),
    (text("early"), "expected websocket.accept or websocket.close"),
]


def test_a_wrong_accept_writes_nothing(serve: Serve, seen: Seen) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        for event, _ in WRONG_ACCEPTS:
            try:
                await send(event)
            except RuntimeError as exc:
                seen(str(exc))
            else:
                seen("nothing was raised")
        await send(ACCEPT)

    with serve(app) as server, Client(server) as client:
        client.send(upgrade(target="/path"))
        assert client.read().status == 101
        for event, words in WRONG_ACCEPTS:
            message = seen.next()
            assert "expected" in message, event
            assert words in message, event


# Tasks.


def test_a_cancelled_receive_loses_no_message(serve: Serve, seen: Seen) -> None:
    count = 300

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        received = []
        cancelled = 0
        while len(received) < count:
            task = asyncio.create_task(receive())  # type: ignore[arg-type]
            for _ in range(len(received) % 4):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            try:
                received.append((await task)["text"])
            except asyncio.CancelledError:
                cancelled += 1
                with contextlib.suppress(TimeoutError):
                    event = await asyncio.wait_for(receive(), 0.001)
                    received.append(event["text"])
        seen((received, cancelled > 0))

    with serve(app) as server, open_websocket(server) as websocket:
        for number in range(count):
            websocket.send(str(number))
        assert seen.next() == ([str(number) for number in range(count)], True)


def test_concurrent_receives_are_served_in_order(serve: Serve, seen: Seen) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        tasks = [asyncio.create_task(receive()) for _ in range(5)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        tasks[1].cancel()
        seen("waiting")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        seen([result["text"] if isinstance(result, dict) else None for result in results])

    with serve(app) as server, open_websocket(server) as websocket:
        assert seen.next() == "waiting"
        for letter in "abcd":
            websocket.send(letter)
        assert seen.next() == ["a", None, "b", "c", "d"]


def test_a_receive_that_is_cancelled_as_its_message_comes_leaves_it_to_the_next(
    serve: Serve, seen: Seen
) -> None:
    turns = 8  # of the loop, after which it is cancelled: one of them is the one

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for turn in range(turns):
            first, second = (asyncio.create_task(receive()) for _ in range(2))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            await send(text("now"))
            sleep(0.03)  # noqa: ASYNC251  # the message comes, and nobody has looked yet
            for _ in range(turn):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait({first})
            if first.cancelled():
                await asyncio.wait({second}, timeout=DEADLINE)
            seen([task.done() and not task.cancelled() for task in (first, second)])
            second.cancel()
            await asyncio.wait({second})

    with serve(app) as server, open_websocket(server) as websocket:
        for _ in range(turns):
            assert websocket.recv(DEADLINE) == "now"
            websocket.send("hello")
            assert seen.next() in ([True, False], [False, True])


def test_several_tasks_may_send_at_once_and_each_message_is_whole(serve: Serve) -> None:
    tasks, each = 10, 20

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)

        async def sender(number: int) -> None:
            for index in range(each):
                size = 1 + 40_000 * (index % 3)
                await send({"type": "websocket.send", "bytes": bytes([number, index]) * size})
                if index % 5 == 0:
                    await asyncio.sleep(0)

        async with anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(sender, number)

    with serve(app) as server, open_websocket(server, max_size=None) as websocket:
        seen: dict[int, list[int]] = {number: [] for number in range(tasks)}
        for message in websocket:
            assert isinstance(message, bytes)
            assert message == message[:2] * (len(message) // 2)
            seen[message[0]].append(message[1])
        assert all(indexes == list(range(each)) for indexes in seen.values())


def test_context_variables_of_a_session_are_its_own(serve: Serve) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while (event := await receive())["type"] == "websocket.receive":
            await send(text(name.get()))
            name.set(event["text"])
            child = asyncio.create_task(send(text(name.get())))  # type: ignore[arg-type]
            await child

    with serve(app) as server:
        for who in ("anna", "bert"):
            with open_websocket(server) as websocket:
                received = []
                for _ in range(2):
                    websocket.send(who)
                    received += [websocket.recv(DEADLINE), websocket.recv(DEADLINE)]
                assert received == ["nobody", who, who, who]


# Keepalive.


def test_a_send_only_application_keeps_a_client_that_speaks_and_answers_pings(
    serve_twice: Serve,
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for number in range(12):
            await send(text(str(number)))
            await asyncio.sleep(0.1)

    with (
        serve_twice(app, ws_ping_interval=0.1, ws_ping_timeout=1.0) as server,
        open_websocket(server) as websocket,
    ):
        websocket.send("hello")
        assert len([websocket.recv(DEADLINE) for _ in range(12)]) == 12
        assert closed(websocket) == (1000, "")


def test_a_client_that_answers_no_ping_is_closed_1011_with_one_line_and_no_traceback(
    serve_twice: Serve, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.error")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await recording(scope, receive, send, seen)

    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1, "ws_close_timeout": 0.2}
    with serve_twice(app, **options) as server, raw(server) as client:
        frames = client.rest()
        assert frames[:2] == b"\x89\x04"  # a ping of four random bytes
        reason = b"no answer to a ping"
        assert frames.endswith(b"\x88" + bytes([2 + len(reason)]) + b"\x03\xf3" + reason)
        assert seen.next() == disconnect_event(1011, reason.decode())
    lines = [record for record in caplog.records if "ping" in record.getMessage()]
    assert [line.levelname for line in lines] == ["INFO"]
    assert errors(caplog) == []


def test_any_byte_of_the_client_counts_as_life(serve_twice: Serve) -> None:
    """A message in pieces, one after each ping, for longer than the deadline; no pong."""
    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 1.0}
    with serve_twice(echo, **options) as server, raw(server) as client:
        frame = client_frame(TEXT, b"abcdefghijkl")
        for index in range(len(frame)):
            assert client.file.read(6)[:2] == b"\x89\x04"
            client.send(frame[index : index + 1])
        received = b""
        while b"\x81\x0cabcdefghijkl" not in received:
            byte = client.file.read(1)
            assert byte, "it was closed"
            received += byte


def test_nobody_is_closed_for_a_loop_that_was_blocked(serve_twice: Serve) -> None:
    """The pong lies in the kernel meanwhile."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for _ in range(3):
            await asyncio.sleep(0.05)
            sleep(0.4)  # noqa: ASYNC251
        await send(text("still here"))

    with (
        serve_twice(app, ws_ping_interval=0.1, ws_ping_timeout=0.1) as server,
        open_websocket(server) as websocket,
    ):
        assert websocket.recv(DEADLINE) == "still here"
        assert closed(websocket) == (1000, "")


def test_a_client_is_not_closed_while_the_application_does_not_receive(serve_twice: Serve) -> None:
    """Behind a full queue nothing is read, and so no pong is seen."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await asyncio.sleep(1.0)
        received = 0
        while received < 100:
            await receive()
            received += 1

    with (
        serve_twice(app, ws_ping_interval=0.1, ws_ping_timeout=0.3, ws_max_queue=2) as server,
        open_websocket(server) as websocket,
    ):
        for _ in range(100):
            websocket.send(bytes(10_000))
        assert closed(websocket) == (1000, "")


# Flow control.


def test_send_waits_while_the_client_does_not_read_and_raises_when_it_goes(
    serve: Serve, seen: Seen
) -> None:
    sent = [0]

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            while sent[0] < 150_000_000:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
                sent[0] += 100_000
        except OSError as exc:
            seen(type(exc).__name__)

    with serve(app) as server, raw(server, receive_buffer=4096) as client:
        before = -1
        while sent[0] != before:
            before = sent[0]
            threading.Event().wait(0.1)
        assert sent[0] < 16_000_000  # what the kernel takes, and a little more
        client.reset()
        assert seen.next() == "ClientDisconnected"


def test_send_goes_on_when_the_client_reads_again(serve: Serve) -> None:
    count = 100

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for number in range(count):
            await send({"type": "websocket.send", "bytes": bytes([number]) * 100_000})

    with serve(app) as server, raw(server, receive_buffer=4096) as client:
        threading.Event().wait(0.1)
        for number in range(count):
            assert client.file.read(10)[2:] == (100_000).to_bytes(8)
            assert client.file.read(100_000) == bytes([number]) * 100_000


def test_a_flood_is_held_back_while_the_application_does_not_receive(
    serve: Serve, seen: Seen
) -> None:
    may_read = threading.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await asyncio.to_thread(may_read.wait, DEADLINE)
        total = 0
        while (event := await receive())["type"] == "websocket.receive":
            total += len(event["bytes"])
        seen(total)

    with serve(app) as server, raw(server) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sock.settimeout(0.3)
        frame = client_frame(BINARY, bytes(1000))
        flood = frame * 100
        position = 0
        with contextlib.suppress(TimeoutError):
            while position < 150_000_000:
                offset = position % len(flood)
                position += client.sock.send(flood[offset:])
        assert position < 16_000_000
        may_read.set()
        client.sock.settimeout(DEADLINE)
        rest = -position % len(frame)
        client.send(frame[len(frame) - rest :] if rest else b"")
        client.send(client_frame(CLOSE))
        assert seen.next() == (position + rest) // len(frame) * 1000


def test_pings_are_answered_and_a_close_is_seen_while_nobody_receives(
    serve: Serve, seen: Seen
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(0.02)
                await send({"type": "websocket.send", "bytes": b""})
        seen("noticed")

    with serve(app) as server, raw(server) as client:
        client.send(client_frame(TEXT, b"never received") + client_frame(PING, b"hi"))
        received = b""
        while b"\x8a\x02hi" not in received:
            received += client.sock.recv(1000)
        client.send(client_frame(CLOSE, b"\x03\xe8"))
        assert seen.next() == "noticed"


class Turns:
    """Counts the turns of a loop, and what was done between two of them."""

    def __init__(self) -> None:
        self.done = self.most = 0
        self._task = asyncio.get_running_loop().create_task(self._tick())

    def count(self, amount: int = 1) -> None:
        self.done += amount
        self.most = max(self.most, self.done)

    async def _tick(self) -> None:
        while True:
            self.done = 0
            await asyncio.sleep(0)

    async def end(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.mark.parametrize("size", [1, 20_000, 400_000])
def test_a_push_at_full_speed_lets_others_run(serve: Serve, seen: Seen, size: int) -> None:
    total = 4000 if size == 1 else 8_000_000 // size

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        turns = Turns()
        for _ in range(total):
            await send({"type": "websocket.send", "bytes": bytes(size)})
            turns.count()
        await turns.end()
        seen(turns.most)

    with serve(app) as server, raw(server) as client:
        while client.sock.recv(1_000_000)[-4:] != b"\x88\x02\x03\xe8":
            pass
        most = seen.next()
        assert most <= 64
        assert most * size <= 262_144 + 2 * size


@pytest.mark.parametrize("size", [1, 20_000, 400_000])
def test_a_flood_at_full_speed_lets_others_run(serve: Serve, seen: Seen, size: int) -> None:
    total = 4000 if size == 1 else 8_000_000 // size

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        turns = Turns()
        for _ in range(total):
            await receive()
            turns.count()
        await turns.end()
        seen(turns.most)

    with serve(app) as server, raw(server) as client:
        client.send(client_frame(BINARY, bytes(size)) * total)
        most = seen.next()
        assert most <= 64
        assert most * size <= 262_144 + 2 * size


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["push", "flood", "echo"])
def test_a_5_ms_ticker_never_waits_50_ms(serve: Serve, seen: Seen, direction: str) -> None:
    """The same by the clock; its median, since this machine has other work as well."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        loop = asyncio.get_running_loop()
        end = loop.time() + 2
        lates: list[float] = []

        async def ticker() -> None:
            while True:
                due = loop.time() + 0.005
                await asyncio.sleep(0.005)
                lates.append(loop.time() - due)

        task = asyncio.create_task(ticker())
        while loop.time() < end:
            if direction != "push":
                await receive()
            if direction != "flood":
                await send({"type": "websocket.send", "bytes": bytes(1000)})
        task.cancel()
        seen(lates)

    with serve(app) as server, raw(server) as client:
        client.sock.settimeout(0.5)
        stopped = threading.Event()

        def write() -> None:
            with contextlib.suppress(OSError):
                while not stopped.is_set():
                    client.sock.sendall(client_frame(BINARY, bytes(1000)) * 50)

        def read() -> None:
            with contextlib.suppress(OSError):
                while client.sock.recv(1_000_000):
                    pass

        threads = [threading.Thread(target=read)]
        if direction != "push":
            threads.append(threading.Thread(target=write))
        for thread in threads:
            thread.start()
        lates = seen.next()
        stopped.set()
        client.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(DEADLINE)
        assert len(lates) > 20
        assert sorted(lates)[len(lates) * 95 // 100] < 0.05


# The access log.


def test_a_session_is_one_line_in_the_access_log_at_its_end(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.access")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({**ACCEPT, "subprotocol": "chat"})
        for _ in range(2):
            await send(text("ä" + (await receive())["text"]))
        await receive()

    protocols: Any = ["chat"]
    path = "/room/%1b[2J?a=b"
    with serve(app) as server, open_websocket(server, path, subprotocols=protocols) as websocket:
        websocket.send("hello")
        websocket.send("world!")
        assert [websocket.recv(DEADLINE) for _ in range(2)] == ["ähello", "äworld!"]
        assert not caplog.records
        websocket.close(4001, "bye")
        server.wait_until(lambda: bool(caplog.records))
    (line,) = [record.getMessage() for record in caplog.records]
    expected = (
        r'127\.0\.0\.1:\d+ - "WebSocket /room/%1b\[2J\?a=b" 101 subprotocol=chat \d+\.\ds '
        r"in=2/11B out=2/15B close=4001 by=client"
    )
    assert re.fullmatch(expected, line), line


def test_who_closed_stands_in_the_access_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.access")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/refused":
            await send({"type": "websocket.close"})
            return
        await send(ACCEPT)
        if scope["path"] == "/server":
            await send({"type": "websocket.close", "code": 4002})
        else:
            await receive()

    with serve(app) as server:
        with open_websocket(server, "/server") as websocket:
            assert closed(websocket) == (4002, "")
        server.wait_until(lambda: len(caplog.records) == 1)
        with pytest.raises(InvalidStatus):
            open_websocket(server, "/refused")
        with raw(server) as client:
            client.reset()
        server.wait_until(lambda: len(caplog.records) == 3)
    first, second, third = [record.getMessage() for record in caplog.records]
    assert first.endswith(" close=4002 by=server")
    assert second.endswith('"WebSocket /refused" 403')
    assert third.endswith(" close=1006 by=client")


# Frameworks.


def starlette_app(seen: Seen) -> Starlette:
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat", headers=[(b"x-app", b"starlette")])
        try:
            while True:
                await websocket.send_json({"echo": await websocket.receive_json()})
        except WebSocketDisconnect as exc:
            seen((exc.code, exc.reason))

    async def letters(websocket: WebSocket) -> None:
        await websocket.accept()
        async for letter in websocket.iter_text():
            await websocket.send_bytes(letter.encode())
        seen("iteration ended")

    async def denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("members only", 402))

    async def forbidden(websocket: WebSocket) -> None:
        raise HTTPException(403, "no")

    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError("boom")

    async def careless(websocket: WebSocket) -> None:
        """Sends for ever and never learns of a disconnect but by the send."""
        await websocket.accept()
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)

    handlers = [chat, letters, denied, forbidden, broken, careless]
    return Starlette(routes=[WebSocketRoute(f"/{each.__name__}", each) for each in handlers])


def fastapi_app(seen: Seen) -> FastAPI:
    app = FastAPI()

    @app.websocket("/chat")
    async def chat(websocket: fastapi.WebSocket, user: str = fastapi.Query(...)) -> None:
        await websocket.accept(subprotocol="chat", headers=[(b"x-app", b"fastapi")])
        try:
            while True:
                await websocket.send_json({"echo": await websocket.receive_json()})
        except fastapi.WebSocketDisconnect as exc:
            seen((exc.code, exc.reason))

    @app.websocket("/forbidden")
    async def forbidden(websocket: fastapi.WebSocket) -> None:
        raise fastapi.WebSocketException(1008, "no")

    return app


@pytest.mark.parametrize("make", [starlette_app, fastapi_app])
def test_a_frameworks_session(serve: Serve, seen: Seen, make: Any) -> None:
    protocols: Any = ["chat"]
    with serve(make(seen)) as server:
        with open_websocket(server, "/chat?user=me", subprotocols=protocols) as websocket:
            assert websocket.response is not None
            assert websocket.response.headers["x-app"] in ("starlette", "fastapi")
            websocket.send('{"a": [1, "ä"]}')
            assert websocket.recv(DEADLINE) == '{"echo":{"a":[1,"ä"]}}'
            websocket.close(4242, "bye")
        assert seen.next() == (4242, "bye")
        for path in ("/forbidden", "/missing", "/chat"):
            if path != "/chat" or make is fastapi_app:  # without its query
                with pytest.raises(InvalidStatus) as refused:
                    open_websocket(server, path)
                assert refused.value.response.status_code == 403


def test_starlettes_denials_iterations_and_failures(
    serve: Serve, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(starlette_app(seen)) as server:
        with pytest.raises(InvalidStatus) as refused:
            open_websocket(server, "/denied")
        assert refused.value.response.status_code == 402
        assert refused.value.response.body == b"members only"
        with open_websocket(server, "/letters") as websocket:
            websocket.send("a")
            assert websocket.recv(DEADLINE) == b"a"
        assert seen.next() == "iteration ended"
        with open_websocket(server, "/careless") as websocket:
            assert websocket.recv(DEADLINE) == "tick"
        server.wait_until(lambda: not server.server.serving.tasks)
        assert errors(caplog) == []
        with open_websocket(server, "/broken") as websocket:
            assert closed(websocket) == (1011, "")
        assert errors(caplog) == ["Exception in ASGI application"]
