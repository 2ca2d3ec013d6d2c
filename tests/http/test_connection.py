"""HTTP/1.1 over real sockets: what applications and clients may rely on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from asgiws.http.connection import HTTPProtocol
from asgiws.http.exchange import Exchange

from ..toolkit.apps import Recorder, echo, hello, read_body, respond
from ..toolkit.raw_http import GET, Client, sized
from ..toolkit.running import DEADLINE, Running, running


def test_a_connection_serves_one_request_after_the_other(loop: str) -> None:
    with running(hello, loop) as server, Client(server) as client:
        for _ in range(3):
            reply = client.get()
            assert (reply.version, reply.status, reply.phrase) == ("HTTP/1.1", 200, "OK")
            assert reply.body == b"hello"
            assert "connection" not in reply.headers


def test_an_idle_connection_is_closed_after_the_keep_alive_timeout(loop: str) -> None:
    with running(hello, loop, timeout_keep_alive=0.2) as server, Client(server) as client:
        began = time.monotonic()
        client.get()
        assert client.rest() == b""
        assert time.monotonic() - began > 0.15


def test_requests_reset_the_keep_alive_timeout(loop: str) -> None:
    with running(hello, loop, timeout_keep_alive=1.0) as server, Client(server) as client:
        client.get()
        assert client.is_silent(0.4)
        began = time.monotonic()
        client.get()
        assert client.rest() == b""
        assert time.monotonic() - began > 0.8


def test_a_request_may_take_longer_than_its_head_or_an_idle_connection_may(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await respond(send, b"late")

    with (
        running(app, loop, timeout_request_head=0.1, timeout_keep_alive=0.1) as server,
        Client(server) as client,
    ):
        assert client.get().body == client.get().body == b"late"


def test_empty_lines_between_requests_are_ignored_and_do_not_prolong_the_timeout(loop: str) -> None:
    with running(hello, loop, timeout_keep_alive=0.2) as server, Client(server) as client:
        client.send(b"\r\n\r\n" + GET)
        assert client.read().body == b"hello"
        client.send(b"\r\n")
        assert client.rest() == b""


def test_pipelined_requests_are_answered_in_order(loop: str) -> None:
    running_now = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running_now
        running_now += 1
        assert running_now == 1, "two requests of a connection at a time"
        body = await read_body(receive)
        await asyncio.sleep(0.03 if scope["path"] == "/0" else 0)
        running_now -= 1
        await respond(send, scope["path"].encode() + body)

    with running(app, loop) as server, Client(server) as client:
        client.send(
            b"".join(sized(3, target=f"/{number}") + b"abc" for number in range(20))
            + b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        for number in range(20):
            assert client.read().body == b"/%dabc" % number
        last = client.read()
        assert last.body == b"/last"
        assert last.headers["connection"] == "close"
        assert client.rest() == b""


def test_the_next_request_starts_when_the_response_is_complete_not_when_the_app_returns(
    loop: str,
) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"done")
        if scope["path"] == "/background":
            await app.until_told()
            app.note("background done")

    with running(call, loop) as server, Client(server) as client:
        assert client.get("/background").body == b"done"
        assert client.get("/").body == b"done"
        assert app.notes.empty()
        app.go.set()
        assert app.next() == "background done"


def test_a_request_does_not_see_the_context_variables_of_the_one_before(loop: str) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = variable.get()
        variable.set(scope["path"])
        await respond(send, before.encode())

    with running(app, loop) as server, Client(server) as client:
        client.send(GET * 3)
        assert [client.read().body for _ in range(3)] == [b"unset"] * 3


def test_a_client_that_takes_no_responses_gets_no_more_of_its_requests_served(loop: str) -> None:
    served = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal served
        served += 1
        await respond(send, bytes(1_000_000))

    with running(app, loop) as server, Client(server, receive_buffer=4096) as client:
        client.send(GET * 100)
        server.wait_until(lambda: served > 0)
        assert client.is_silent(0) is False
        before = -1
        while before != served:  # until the buffers of the kernel are full
            before = served
            threading.Event().wait(0.1)
        assert served < 20
        for _ in range(100):
            assert len(client.read().body) == 1_000_000
        assert served == 100


def test_requests_that_come_too_early_are_not_read_without_bound(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        await respond(send, b"x")

    with running(call, loop) as server, Client(server) as client:
        sender = threading.Thread(target=client.send, args=(GET * 300_000,), daemon=True)
        sender.start()
        sender.join(0.3)
        assert sender.is_alive(), "10 MB of requests were read while the first one was served"
        app.go.set()
        for _ in range(1000):
            assert client.read().body == b"x"
        client.sock.shutdown(socket.SHUT_RDWR)
        sender.join(DEADLINE)


def test_a_request_may_arrive_cut_anywhere(loop: str) -> None:
    whole = (
        b"POST /path HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"
    )
    with running(echo, loop) as server, Client(server) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            server.call(lambda: None)
            client.send(whole[cut:])
            assert client.read().body == b"/path hello!"


def test_beyond_the_concurrency_limit_the_answer_is_503(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note("called")
        await app.until_told()
        await respond(send, b"served")

    with running(call, loop, limit_concurrency=1) as server, Client(server) as first:
        first.send(GET)
        assert app.next() == "called"
        with Client(server) as second:
            reply = second.get()
            assert (reply.status, reply.body) == (503, b"Service Unavailable\n")
            assert second.rest() == b""
        app.go.set()
        assert first.read().body == b"served"
        worker = server.server.serving
        server.wait_until(lambda: len(worker.connections) == 1 and not worker.tasks)
        assert first.get().body == b"served"


def test_at_shutdown_idle_connections_close_and_requests_finish(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note("called")
        if scope["path"] == "/slow":
            await app.until_told()
        await respond(send, b"served")
        if scope["path"] == "/slow":
            await asyncio.sleep(0.05)
            app.note("background done")

    server = Running(call, loop)
    with Client(server) as idle, Client(server) as busy, Client(server) as half:
        idle.get()
        assert app.next() == "called"
        busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert app.next() == "called"
        half.send(b"GET / HT")
        server.wait_until(lambda: len(server.server.serving.connections) == 3)
        server.shutdown()
        assert idle.rest() == b""
        assert half.rest() == b""
        app.go.set()
        reply = busy.read()
        assert (reply.body, reply.headers["connection"]) == (b"served", "close")
        assert busy.rest() == b""
    server.stop()
    assert app.next() == "background done"


def test_a_request_that_does_not_finish_is_cut_off_at_the_graceful_timeout(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note("called")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            app.note("cancelled")
            raise

    server = Running(call, loop, timeout_graceful_shutdown=0.1)
    with Client(server) as client:
        client.send(GET)
        assert app.next() == "called"
        server.stop()
        assert app.next() == "cancelled"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """The path of a certificate for localhost, and the context of a client that trusts it."""
    authority = trustme.CA()
    path = str(tmp_path_factory.mktemp("tls") / "cert.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return path, context


def test_over_tls_a_response_survives_a_body_that_is_never_read(
    loop: str, certificate: tuple[str, ssl.SSLContext]
) -> None:
    path, context = certificate
    with (
        running(hello, loop, ssl_certfile=path) as server,
        Client(server, tls=context) as client,
    ):
        client.send(sized(10_000_000) + bytes(10_000_000))
        reply = client.read()
        assert (reply.body, reply.headers["connection"]) == (b"hello", "close")


def test_https_is_served_and_a_departure_seen(
    loop: str, certificate: tuple[str, ssl.SSLContext]
) -> None:
    path, context = certificate
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await receive()
            app.note((await receive())["type"])
        else:
            await respond(send, scope["scheme"].encode() + await read_body(receive))

    with running(call, loop, ssl_certfile=path) as server:
        with Client(server, tls=context) as client:
            client.send(sized(3) + b"abc")
            assert client.read().body == b"httpsabc"
            reply = client.get("/", "Connection: close")
            assert reply.body == b"https"
            assert client.rest() == b""
        with Client(server, tls=context) as client:
            client.send(b"BREW\n")
            assert client.read().status == 400
            assert client.rest() == b""
        with Client(server, tls=context) as client:
            client.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            server.wait_until(lambda: bool(server.server.serving.tasks))
        assert app.next() == "http.disconnect"


def test_a_unix_socket_serves_without_client_and_port(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, repr((scope["client"], scope["server"])).encode())

    with running(app, loop, uds=path), Client(path) as client:
        assert client.get().body == repr((None, (path, None))).encode()
        # Who may connect to a Unix socket is a proxy.
        forwarded = client.get("/", "X-Forwarded-For: 192.0.2.1")
        assert forwarded.body == repr((("192.0.2.1", 0), (path, None))).encode()


def test_every_request_has_its_line_in_the_access_log(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.access")
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise ValueError
        if scope["path"] == "/leaves":
            app.note("called")
            await receive()
            await receive()
        await respond(send, b"", 404)

    with running(call, loop) as server:
        with Client(server) as client:
            address = "{}:{}".format(*client.sock.getsockname())
            client.get('/a%0a?q="\x7f'.replace("\x7f", ""), "X-Forwarded-For: 192.0.2.1")
            client.get("/fails", method="HEAD")
        with Client(server) as client:
            client.send(b"\x1b[31mGET\n\n")
            assert client.read().status == 400
        client = Client(server)
        client.send(b"GET /leaves HTTP/1.1\r\nHost: a\r\n\r\n")
        assert app.next() == "called"
        client.reset()
        server.wait_until(lambda: not server.server.serving.connections)
    lines = [r.getMessage() for r in caplog.records if r.name == "asgiws.access"]
    assert lines[0] == '192.0.2.1:0 - "GET /a%0a?q=%22 HTTP/1.1" 404'
    assert lines[1] == f'{address} - "HEAD /fails HTTP/1.1" 500'
    assert lines[2].endswith(r' - "\x1b[31mGET\x0a\x0a" 400')
    assert lines[3].endswith(' - "GET /leaves HTTP/1.1" 499')
    assert len(lines) == 4


def test_httpx_streams_both_ways(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"], "more_body": more})

    def pieces() -> Any:
        for number in range(200):
            yield b"%05d" % number * 1000

    with running(app, loop) as server:
        reply = httpx.post(f"http://127.0.0.1:{server.port}/", content=pieces())
        assert reply.content == b"".join(pieces())


def test_nothing_is_left_of_connections_that_are_over(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raise":
            raise ValueError
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            return
        if scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
        await respond(send, b"hello")

    # A traceback that is kept keeps what stands in its frames.
    caplog.set_level(logging.CRITICAL, "asgiws.error")

    def alive() -> int:
        gc.collect()
        return sum(isinstance(it, HTTPProtocol | Exchange) for it in gc.get_objects())

    before = alive()
    with running(app, loop) as server:
        for path in ("/", "/raise", "/half", "/wait", "bad", "http://user@a/"):
            for way in ("close", "reset", "finish"):
                with Client(server) as client:
                    client.send(sized(10, target=path) + b"12345")
                    server.call(lambda: None)
                    getattr(client, way)()
        worker = server.server.serving
        server.wait_until(lambda: not worker.connections and not worker.tasks)
        server.wait_until(lambda: alive() <= before)
