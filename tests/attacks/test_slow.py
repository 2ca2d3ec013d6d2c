"""Clients and applications that take their time: every wait has its deadline.

The deadlines are short here; that they hold is measured, and that nobody honest is
cut off by them.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame, close_frame
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.running import DEADLINE, LOOPS, running

SHORT = 0.2  # seconds, where a deadline of an option is tried
AMPLE = 0.8  # seconds, where a deadline is one to keep: this machine may be late
QUIET = {"ws_ping_interval": None, "ws_ping_timeout": None}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=zip(BUILDS, LOOPS, strict=False), ids="-".join)
def both(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """Each build on one of the loops: deadlines cost time, and are the same everywhere."""
    build, loop = request.param
    return BUILDS[build], loop


def dawdle(seconds: float) -> None:
    """Be slow; not for luck, but because that is what is tried."""
    threading.Event().wait(seconds)


@contextmanager
def taking(low: float, high: float) -> Iterator[None]:
    """What happens in the block takes so long."""
    began = time.monotonic()
    yield
    assert low <= time.monotonic() - began < high


class App:
    """A WebSocket does what ``websocket`` says; ``notes`` tell how it ended."""

    def __init__(self, websocket: Any = None) -> None:
        self.notes: queue.Queue[Any] = queue.Queue()
        self.websocket = websocket or echo

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"hello"})
            return
        await receive()
        try:
            await self.websocket(self, receive, send)
        except OSError as exc:
            self.notes.put(exc)
            raise

    def next(self) -> Any:
        return self.notes.get(timeout=DEADLINE)


async def echo(app: App, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    app.notes.put(event["code"])


async def flood(app: App, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "bytes": bytes(65536)})


async def never_accept(app: App, receive: Any, send: Any) -> None:
    app.notes.put((await receive())["code"])
    await send({"type": "websocket.accept"})


# Requests that never come.


def test_a_connection_without_a_byte_is_closed(loop: str) -> None:
    with (
        running(App(), loop, timeout_request_head=SHORT) as server,
        taking(SHORT * 0.9, 3),
        Client(server) as client,
    ):
        assert client.rest() == b""


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nHost: a\r\n", upgrade()[:-2], upgrade()[:20]])
def test_half_a_head_is_answered_408(loop: str, head: bytes) -> None:
    with (
        running(App(), loop, timeout_request_head=SHORT) as server,
        taking(SHORT * 0.9, 3),
        Client(server) as client,
    ):
        client.send(head)
        assert client.read().status == 408
        assert client.rest() == b""


def test_one_header_now_and_then_is_answered_408_all_the_same(loop: str) -> None:
    """Slowloris, uvicorn #1192: the deadline is the head's, and not started anew by each byte."""
    with (
        running(App(), loop, timeout_request_head=SHORT) as server,
        taking(SHORT * 0.8, 3),
        Client(server) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        while client.is_silent(SHORT / 8):
            client.send(b"X: y\r\n")
        assert client.read().status == 408


def test_the_second_request_of_a_connection_has_the_same_deadline(loop: str) -> None:
    options = {"timeout_request_head": SHORT, "timeout_keep_alive": 10.0}
    with running(App(), loop, **options) as server, Client(server) as client:
        assert client.get().body == b"hello"
        with taking(SHORT * 0.9, 3):
            client.send(b"G")
            assert client.read().status == 408


def test_a_slow_head_that_is_in_time_is_served(loop: str) -> None:
    with running(App(), loop, timeout_request_head=2.0) as server, Client(server) as client:
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n":
            client.send(bytes([byte]))
            assert client.is_silent(0.005) or byte == 10
        assert client.read().body == b"hello"


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(authority: trustme.CA, tmp_path: Path) -> str:
    certificate = authority.issue_cert("localhost")
    path = tmp_path / "cert.pem"
    path.write_bytes(
        certificate.private_key_pem.bytes()
        + b"".join(part.bytes() for part in certificate.cert_chain_pems)
    )
    return str(path)


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
def test_a_slow_tls_handshake_is_ended(
    loop: str, pem: str, authority: trustme.CA, hello: bytes
) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    options = {"timeout_request_head": SHORT, "timeout_keep_alive": SHORT}
    with running(App(), loop, ssl_certfile=pem, **options) as server:
        with (
            taking(SHORT * 0.9, 3),
            socket.create_connection(("127.0.0.1", server.port), DEADLINE) as slow,
        ):
            slow.sendall(hello)
            assert slow.recv(1) == b""
        with Client(server, tls=trusting) as client:
            assert client.get().body == b"hello"
            with taking(0, 3):
                assert client.rest() == b""  # and an idle connection ends over TLS as well


# Applications.


def test_an_application_that_never_accepts_is_answered_for(both: Any) -> None:
    app = App(never_accept)
    with (
        running(app, both[1], both[0], ws_accept_timeout=SHORT) as server,
        Client(server) as client,
    ):
        with taking(SHORT * 0.8, 3):
            client.send(upgrade())
            assert client.read().status == 504
        assert client.rest() == b""
        client.finish()
        assert app.next() == 1006
        assert isinstance(app.next(), OSError)  # it accepted too late
        server.wait_until(lambda: not server.server.serving.websockets.members)
        server.wait_until(lambda: not server.server.serving.connections)


def test_an_application_that_accepts_in_time_goes_on(both: Any) -> None:
    async def hesitate(app: App, receive: Any, send: Any) -> None:
        await asyncio.sleep(SHORT / 2)
        await echo(app, receive, send)

    with (
        running(App(hesitate), package=both[0], ws_accept_timeout=SHORT) as server,
        RawWebSocket(server) as client,
    ):
        assert client.is_silent(2 * SHORT)
        client.send(client_frame(TEXT, b"hello"))
        assert client.read_frame() == (TEXT, b"hello")


def test_a_denial_may_take_longer_than_an_accept(both: Any) -> None:
    async def deny(app: App, receive: Any, send: Any) -> None:
        start = {"type": "websocket.http.response.start", "status": 429, "headers": []}
        await send(start)
        await asyncio.sleep(2 * SHORT)
        await send({"type": "websocket.http.response.body", "body": b"later"})

    with (
        running(App(deny), package=both[0], ws_accept_timeout=SHORT) as server,
        Client(server) as client,
    ):
        client.send(upgrade())
        assert client.read().body == b"later"
        server.wait_until(lambda: not server.server.serving.websockets.members)


def test_an_application_that_never_accepts_is_not_ended_where_that_is_switched_off(
    both: Any,
) -> None:
    with (
        running(App(never_accept), package=both[0], ws_accept_timeout=None) as server,
        Client(server) as client,
    ):
        client.send(upgrade())
        assert client.is_silent(2 * SHORT)


# Clients that do not read.


def test_a_client_that_reads_nothing_is_cut_off_though_it_goes_on_talking(both: Any) -> None:
    """Its pings prove that it lives; they are no reason to keep its data for ever."""
    app = App(flood)
    with running(app, both[1], both[0], timeout_write=SHORT, **QUIET) as server:
        with RawWebSocket(server, receive_buffer=4096) as client, taking(0, 4):
            with suppress(ConnectionError):
                while app.notes.empty():
                    client.send(client_frame(PING, b"alive"))
                    dawdle(0.02)
            assert isinstance(app.next(), OSError)
        server.wait_until(lambda: not server.server.serving.connections)
        server.wait_until(lambda: not server.server.serving.tasks)


def test_a_client_that_reads_slowly_is_not_cut_off(both: Any) -> None:
    app = App(flood)
    with (
        running(app, both[1], both[0], timeout_write=AMPLE, **QUIET) as server,
        RawWebSocket(server, receive_buffer=4096) as client,
    ):
        deadline = time.monotonic() + 1.5 * AMPLE
        while time.monotonic() < deadline:
            assert client.file.read(65536)
            dawdle(SHORT / 8)
            assert app.notes.empty()
        client.cut()


def test_an_application_that_waits_in_receive_is_told(both: Any) -> None:
    async def send_aside(app: App, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(16 << 20)}))
        app.notes.put((await receive())["code"])
        with pytest.raises(OSError, match="gone"):
            await sending

    app = App(send_aside)
    with (
        running(app, both[1], both[0], timeout_write=SHORT, **QUIET) as server,
        taking(SHORT * 0.7, 4),
        RawWebSocket(server, receive_buffer=4096),
    ):
        assert app.next() == 1006


def test_a_response_that_nobody_reads_is_cut_off(loop: str) -> None:
    notes: queue.Queue[str] = queue.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        while (await asyncio.wait_for(_noticed(receive), None)) is False:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        notes.put("gone")

    async def _noticed(receive: Any) -> bool:
        task = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([task], timeout=0)
        task.cancel()
        return bool(done) and task.result()["type"] == "http.disconnect"

    with (
        running(app, loop, timeout_write=SHORT) as server,
        Client(server, receive_buffer=4096) as client,
        taking(SHORT * 0.8, 5),
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert notes.get(timeout=DEADLINE) == "gone"


# Clients that say nothing.


def test_an_idle_websocket_is_closed(both: Any) -> None:
    app = App()
    with (
        running(app, both[1], both[0], ws_idle_timeout=SHORT) as server,
        taking(SHORT * 0.7, 3),
        RawWebSocket(server) as client,
    ):
        assert client.close_code() == 1001
        assert app.next() == 1001


def test_pings_do_not_keep_an_idle_websocket_open(both: Any) -> None:
    with (
        running(App(), both[1], both[0], ws_idle_timeout=SHORT, ws_ping_interval=None) as server,
        taking(SHORT * 0.7, 3),
        RawWebSocket(server) as client,
    ):
        opcode = PONG
        while opcode == PONG:
            client.send(client_frame(PING))
            client.is_silent(0.02)
            opcode, payload = client.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, b"\x03\xe9")


@pytest.mark.parametrize("way", ["message", "fragment", "piece"])
def test_a_websocket_on_which_something_moves_is_not_idle(both: Any, way: str) -> None:
    with (
        running(App(), both[1], both[0], ws_idle_timeout=AMPLE, **QUIET) as server,
        RawWebSocket(server) as client,
    ):
        deadline = time.monotonic() + 1.5 * AMPLE
        if way == "fragment":
            client.send(client_frame(TEXT, fin=False))
        elif way == "piece":
            client.send(client_frame(BINARY, bytes(1000))[:100])
        while time.monotonic() < deadline:
            if way == "message":
                client.send(client_frame(TEXT, b"hello"))
                assert client.read_frame() == (TEXT, b"hello")
            else:
                client.send(client_frame(CONT, b"x", fin=False) if way == "fragment" else b"x")
            assert client.is_silent(SHORT / 8)


def test_an_idle_websocket_stays_open_by_default(both: Any) -> None:
    with (
        running(App(), package=both[0], ws_ping_interval=0.05, ws_ping_timeout=AMPLE) as server,
        RawWebSocket(server) as client,
    ):
        deadline = time.monotonic() + 2 * SHORT
        while time.monotonic() < deadline:
            opcode, payload = client.read_frame(pings=True)
            assert opcode == PING
            client.send(client_frame(PONG, payload))


def test_a_half_open_connection_is_found(both: Any) -> None:
    """The peer has vanished without FIN or RST: it answers nothing and takes everything."""
    app = App()
    with (
        running(app, both[1], both[0], ws_ping_interval=0.1, ws_ping_timeout=SHORT) as server,
        taking(SHORT * 0.7, 3),
        RawWebSocket(server) as client,
    ):
        assert client.close_code() == 1011
        assert app.next() == 1011


def test_a_client_that_never_answers_a_close_is_cut_off(both: Any) -> None:
    async def close(app: App, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3000})

    with (
        running(App(close), both[1], both[0], ws_close_timeout=SHORT) as server,
        taking(SHORT * 0.7, 3),
        RawWebSocket(server) as client,
    ):
        assert client.read_frame() == (CLOSE, struct.pack("!H", 3000))
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_client_that_answers_a_close_and_never_leaves_is_cut_off(both: Any) -> None:
    with (
        running(App(), both[1], both[0], ws_close_timeout=SHORT) as server,
        RawWebSocket(server) as client,
        taking(SHORT * 0.7, 3),
    ):
        client.send(close_frame(1000))
        assert client.read_frame() == (CLOSE, struct.pack("!H", 1000))
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_client_that_reads_slowly_gets_all_that_was_sent_before_the_close(both: Any) -> None:
    """uvicorn #3047: the deadline of the close is no deadline for what came before it."""

    async def send_and_close(app: App, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        sending = asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(16 << 20)}))
        await asyncio.sleep(0)
        await send({"type": "websocket.close", "code": 3000})
        with suppress(OSError):
            await sending

    with (
        running(App(send_and_close), both[1], both[0], ws_close_timeout=SHORT) as server,
        RawWebSocket(server, receive_buffer=4096) as client,
    ):
        left = 10 + (16 << 20)
        while left:
            left -= len(client.file.read(min(left, 65536)))
            dawdle(SHORT / 50)
        assert client.read_frame() == (CLOSE, struct.pack("!H", 3000))


# The server's own slowness is nobody's fault.


def test_a_blocked_loop_lets_no_deadline_pass(both: Any) -> None:
    """A callback blocks the loop for longer than every deadline; then all is as it was."""

    async def block_then_echo(app: App, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") == "block":
                end = time.monotonic() + 2 * AMPLE
                while time.monotonic() < end:
                    pass
            await send({**event, "type": "websocket.send"})

    options = {
        "ws_ping_interval": SHORT,
        "ws_ping_timeout": AMPLE,
        "ws_idle_timeout": AMPLE,
        "ws_accept_timeout": AMPLE,
        "timeout_request_head": AMPLE,
    }
    with (
        running(App(block_then_echo), both[1], both[0], **options) as server,
        RawWebSocket(server) as blocker,
        RawWebSocket(server) as neighbour,
        Client(server) as waiting,
    ):
        blocker.send(client_frame(TEXT, b"block"))
        neighbour.send(client_frame(TEXT, b"before"))
        waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert blocker.read_frame() == (TEXT, b"block")
        while (frame := neighbour.read_frame(pings=True))[0] == PING:
            neighbour.send(client_frame(PONG, frame[1]))
        assert frame == (TEXT, b"before")
        assert waiting.read().body == b"hello"
