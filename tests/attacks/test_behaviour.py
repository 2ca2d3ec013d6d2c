"""What servers get wrong without being attacked: one row after the other, over a real socket."""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import struct
from typing import Any

import pytest

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import CLOSE, PING, PONG, TEXT, client_frame, close_frame
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.running import DEADLINE, LOOPS, running

BYE = struct.pack("!H", 4242) + b"bye"


class App:
    """A WebSocket application that is given as a function, and the notes it takes."""

    def __init__(self, websocket: Any) -> None:
        self.notes: queue.Queue[Any] = queue.Queue()
        self.websocket = websocket

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"plain"})
            return
        await receive()
        await self.websocket(self.notes, receive, send)

    def next(self) -> Any:
        return self.notes.get(timeout=DEADLINE)


async def echo(notes: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept", "headers": [(b"x-from", b"the application")]})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    notes.put((event["code"], event["reason"]))


@pytest.fixture(params=itertools.product(BUILDS, LOOPS), ids="-".join)
def serve(request: pytest.FixtureRequest) -> Any:
    build, loop = request.param

    def serve(app: Any, **options: Any) -> Any:
        return running(app, loop, BUILDS[build], **options)

    return serve


def test_an_application_that_raises_closes_with_1011(serve: Any) -> None:
    async def fail(notes: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise RuntimeError("on purpose")

    with serve(App(fail)) as server, RawWebSocket(server) as client:
        assert client.close_code() == 1011


def test_an_application_that_returns_closes_with_1000(serve: Any) -> None:
    async def leave(notes: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    with serve(App(leave)) as server, RawWebSocket(server) as client:
        assert client.close_code() == 1000


def test_a_denial_is_the_application_s_response(serve: Any) -> None:
    async def deny(notes: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-why", b"too many"), (b"content-type", b"text/plain")]
        start = {"type": "websocket.http.response.start", "status": 429, "headers": headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"slow ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"down"})

    with serve(App(deny)) as server, Client(server) as client:
        client.send(upgrade())
        reply = client.read()
        assert (reply.status, reply.headers["x-why"], reply.body) == (429, "too many", b"slow down")
        assert not {"upgrade", "sec-websocket-accept", "sec-websocket-version"} & set(reply.headers)


def test_headers_of_an_accept_are_sent(serve: Any) -> None:
    with serve(App(echo)) as server, RawWebSocket(server) as client:
        assert client.reply.headers["x-from"] == "the application"


@pytest.mark.parametrize("way", ["reset", "finish"])
def test_an_end_without_a_close_frame_is_1006(serve: Any, way: str) -> None:
    app = App(echo)
    with serve(app) as server, RawWebSocket(server) as client:
        getattr(client, way)()
        assert app.next() == (1006, "")


def test_code_and_reason_of_the_client_reach_the_application(serve: Any) -> None:
    app = App(echo)
    with serve(app) as server, RawWebSocket(server) as client:
        client.send(close_frame(4242, b"bye"))
        assert client.read_frame() == (CLOSE, BYE)
        assert app.next() == (4242, "bye")


def test_sending_after_a_disconnect_raises_an_oserror(serve: Any) -> None:
    async def send_late(notes: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        notes.put((await receive())["code"])
        for _ in range(2):
            try:
                await send({"type": "websocket.send", "text": "late"})
            except OSError as exc:
                notes.put(exc)

    app = App(send_late)
    with serve(app) as server, RawWebSocket(server) as client:
        client.send(close_frame(1001))
        assert app.next() == 1001
        assert isinstance(app.next(), OSError)
        assert isinstance(app.next(), OSError)


def test_an_application_that_only_sends_is_not_taken_for_dead(serve: Any) -> None:
    """The client has sent a message that nobody receives, and answers every ping."""

    async def send_only(notes: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.05)

    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.6}
    with serve(App(send_only), **options) as server, RawWebSocket(server) as client:
        client.send(client_frame(TEXT, b"is somebody there?"))
        pings = 0
        while pings < 9:  # for longer than an answer may take
            opcode, payload = client.read_frame(pings=True)
            assert opcode in (TEXT, PING)
            if opcode == PING:
                pings += 1
                client.send(client_frame(PONG, payload))


def test_the_last_message_before_a_close_arrives(serve: Any) -> None:
    """Though the client has sent much that nobody has read: a reset would eat the message."""

    async def say_goodbye(notes: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "goodbye"})
        await send({"type": "websocket.close", "code": 4242, "reason": "bye"})

    with serve(App(say_goodbye)) as server, RawWebSocket(server) as client:
        client.send(client_frame(TEXT, b"x" * 1000) * 200)
        assert client.read_frame() == (TEXT, b"goodbye")
        assert client.read_frame() == (CLOSE, BYE)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (upgrade(sec_websocket_key="not a key"), 400),
        (upgrade(sec_websocket_version="99"), 426),
        (upgrade("Content-Length: 5") + b"hello", 400),
        (upgrade(host=None), 400),
        (upgrade("Host: other"), 400),
        (upgrade(method="POST"), 200),
        (upgrade(version="1.0"), 200),
        (upgrade("Cookie: " + "a" * 9000), 101),
        (upgrade(*["X: " + "a" * 1000] * 70), 431),
    ],
)
def test_an_odd_handshake_has_one_right_answer(serve: Any, sent: bytes, status: int) -> None:
    with serve(App(echo)) as server, Client(server) as client:
        client.send(sent)
        assert client.read().status == status


def test_a_shutdown_tells_the_client_and_the_application_1012(serve: Any) -> None:
    app = App(echo)
    with serve(app) as server, RawWebSocket(server) as client:
        server.shutdown()
        assert client.close_code() == 1012
        assert app.next()[0] == 1012


def test_a_session_is_one_line_in_the_access_log(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = App(echo)
    with serve(app) as server, RawWebSocket(server) as client:
        client.send(client_frame(TEXT, b"hello") + client_frame(TEXT, b"you"))
        assert [client.read_frame(), client.read_frame()] == [(TEXT, b"hello"), (TEXT, b"you")]
        client.send(close_frame(4242))
        assert client.close_code() == 4242
        server.wait_until(lambda: not server.server.serving.connections)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "asgiws.access"]
    assert "in=2/8B out=2/8B close=4242 by=client" in line


def test_the_limit_on_connections_holds_for_websockets(serve: Any) -> None:
    with serve(App(echo), limit_concurrency=1) as server:
        with RawWebSocket(server), Client(server) as client:
            client.send(upgrade())
            assert client.read().status == 503
        server.wait_until(lambda: not server.server.serving.connections)
        with RawWebSocket(server) as client:
            client.send(client_frame(TEXT, b"free again"))
            assert client.read_frame() == (TEXT, b"free again")
