"""How a connection ends: by a shutdown, by an answer that comes early, by what does not come."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from asgiws.http.serving import STOPPING

from ..toolkit.apps import Recorder, respond
from ..toolkit.certificates import Certificates
from ..toolkit.raw_http import CHUNKED, GET, Client, request, sized
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import Running, running, timers_set

EVENTS = [(b"content-type", b"text/event-stream")]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["tcp", "tls"])
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> dict[str, Any]:
    """The options of a server, and the client's context under ``context``."""
    if request.param == "tcp":
        return {}
    return {
        "ssl_certfile": certificates.chain,
        "ssl_keyfile": certificates.key,
        "context": certificates.client(),
    }


@contextlib.contextmanager
def serving(
    app: Any, loop: str, package: ModuleType, secured: dict[str, Any], **options: Any
) -> Iterator[tuple[Running, ssl.SSLContext | None]]:
    secured = dict(secured)
    context = secured.pop("context", None)
    with running(app, loop, package, **secured, **options) as server:
        yield server, context


def errors(log: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in log if record.levelno >= logging.WARNING]


async def until_disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# The server stops.


@pytest.mark.parametrize("kind", ["told", "cancelled", "raises when it is told"])
def test_an_event_stream_ends_whole_and_at_once(
    kind: str, loop: str, package: ModuleType, log: list[logging.LogRecord]
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        if kind == "cancelled":
            try:
                await asyncio.Event().wait()
            finally:
                recorder.note("ends")
        await until_disconnect(receive)
        # Nothing of this is an error, and none of it is sent.
        await send({"type": "http.response.body", "body": b"late", "more_body": True})
        await respond(send, b"a second response")
        recorder.note("ends")

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as client:
        client.send(GET)
        assert client.read_head().status == 200
        assert client.read_chunk() == b"data: 1\n\n"
        server.shutdown()
        assert client.read_chunk() == b""
        assert client.rest() == b""
    assert recorder.next() == "ends"
    server.stop()
    assert not errors(log)


@pytest.mark.parametrize("how", ["ends it", "returns", "does not ask"])
def test_a_stream_that_stands_still_is_whole_only_if_its_application_ends_it(
    how: str, loop: str, package: ModuleType, log: list[logging.LogRecord]
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        if how == "does not ask":
            try:
                await asyncio.Event().wait()
            finally:
                recorder.note("cancelled")
        await until_disconnect(receive)
        if how == "ends it":
            await send({"type": "http.response.body", "body": b"2"})

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as client:
        client.send(GET)
        assert client.read_head().status == 200
        assert client.read_chunk() == b"1"
        server.shutdown()
        # Without its last chunk a body is not whole (RFC 9112 section 8).
        assert client.rest() == (b"1\r\n2\r\n0\r\n\r\n" if how == "ends it" else b"")
    if how == "does not ask":
        assert recorder.next() == "cancelled"
    server.stop()
    assert not errors(log)


def test_a_stream_of_http_1_0_that_stands_still_is_reset(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await until_disconnect(receive)

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as client:
        client.send(request("Host: a", version="1.0"))
        assert client.read_head().status == 200
        assert client.file.read(1) == b"1"
        server.shutdown()
        with pytest.raises(ConnectionResetError):
            client.rest()
    server.stop()


def test_a_stream_that_moves_may_finish(
    loop: str, package: ModuleType, log: list[logging.LogRecord]
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        while not recorder.go.is_set():
            await send({"type": "http.response.body", "body": b"2", "more_body": True})
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body", "body": b"3"})

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as moving:
        moving.send(GET)
        assert moving.read_head().status == 200
        assert moving.read_chunk() == b"1"
        server.shutdown()
        server.wait_until(lambda: server.server.serving.phase)
        recorder.go.set()
        body = b""
        while chunk := moving.read_chunk():
            body += chunk
        assert body.endswith(b"23")
    server.stop()
    assert not errors(log)


def test_an_answer_that_is_being_made_and_a_download_are_finished(
    loop: str, package: ModuleType
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5")]
        if scope["path"] == "/download":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
            recorder.note("begun")
            await recorder.until_told()
            await send({"type": "http.response.body", "body": b"llo"})
            return
        recorder.note("begun")
        await recorder.until_told()
        await respond(send, b"hello")

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as first, Client(server) as second:
        first.send(request("Host: a", target="/download"))
        second.send(request("Host: a", target="/slow"))
        assert [recorder.next(), recorder.next()] == ["begun", "begun"]
        server.shutdown()
        server.wait_until(lambda: server.server.serving.phase)
        threading.Timer(0.7, recorder.go.set).start()
        assert first.read().body == b"hello"
        reply = second.read()
        assert (reply.body, reply.headers["connection"]) == (b"hello", "close")
    server.stop()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_that_has_come_or_is_on_its_way_is_answered(
    when: str, loop: str, package: ModuleType
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            recorder.note("begun")
            await recorder.until_told()
        await respond(send, b"hello")

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as slow, Client(server) as fresh, Client(server) as kept:
        slow.send(request("Host: a", target="/slow"))
        assert recorder.next() == "begun"
        assert kept.get().body == b"hello"
        server.wait_until(lambda: len(server.server.serving.connections) == 3)
        if when == "before":
            # It waits in the kernel: the loop is busy until the shutdown has begun.
            def busy() -> None:
                fresh.send(GET)
                kept.send(GET)
                server.server.serving.phase = STOPPING
                for connection in tuple(server.server.serving.connections):
                    connection.shutdown(1012, "")

            server.call(busy)
        else:
            server.shutdown()
            server.wait_until(lambda: server.server.serving.phase)
            fresh.send(GET)
        for client in (fresh, kept)[: 2 if when == "before" else 1]:
            reply = client.read()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
        recorder.go.set()
        assert slow.read().status == 200
        server.stop()


def test_silent_connections_do_not_keep_a_server_long(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as silent, Client(server) as half, Client(server) as kept:
        half.send(b"GET / HT")
        assert kept.get().status == 200
        server.wait_until(lambda: len(server.server.serving.connections) == 3)
        server.shutdown()
        for client in (silent, half, kept):
            assert client.rest() == b""
    server.stop()


def test_a_client_that_leaves_its_pool_alone_does_not_keep_a_server_long(
    loop: str, package: ModuleType
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await until_disconnect(receive)

    server = Running(app, loop, package, timeout_graceful_shutdown=30.0)
    with Client(server) as client:
        client.send(GET)
        assert client.read_head().status == 200
        began = time.monotonic()
        server.stop()  # the client sends no FIN
        assert time.monotonic() - began < 1.5


def test_an_application_that_ends_when_it_is_told_to_is_no_error(
    loop: str, package: ModuleType, log: list[logging.LogRecord], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.access")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await until_disconnect(receive)

    with running(app, loop, package) as server:
        for path in ("/begun", "/quiet"):
            with Client(server) as client:
                client.send(request("Host: a", target=path))
                if path == "/begun":
                    assert client.read_head().status == 200
                client.finish()
                assert client.rest() in (b"", b"0\r\n\r\n")
        server.wait_until(lambda: not server.server.serving.connections)
    assert not errors(log)
    lines = [it.getMessage()[-3:] for it in caplog.records if it.name == "asgiws.access"]
    assert lines == ["200", "499"]


# What comes early, late or not at all.


def test_an_early_answer_reaches_a_client_that_goes_on_uploading(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"too large", 413)

    with serving(app, loop, package, secured) as (server, context):
        with Client(server, tls=context) as client:
            client.send(sized(100_000_000))
            # Longer than a client that is silent would be waited for.
            for _ in range(30):
                client.send(bytes(10_000))
                time.sleep(0.1)
            reply = client.read()
            assert (reply.status, reply.body) == (413, b"too large")
            server.wait_until(lambda: bool(server.server.serving.connections))
        server.wait_until(lambda: not server.server.serving.connections)


@pytest.mark.parametrize("head", [sized(10), CHUNKED], ids=["sized", "chunked"])
def test_a_body_that_does_not_come_is_answered_408(
    head: bytes, loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_disconnect(receive)
        recorder.note("told")

    with (
        serving(app, loop, package, secured, timeout_request_body=0.3) as (server, context),
        Client(server, tls=context) as client,
    ):
        client.send(head + b"5\r\nhe")
        assert client.read().status == 408
        assert recorder.next() == "told"


def test_a_body_that_does_not_come_cuts_a_response_that_has_begun(
    loop: str, package: ModuleType
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await until_disconnect(receive)

    with running(app, loop, package, timeout_request_body=0.3) as server, Client(server) as client:
        client.send(sized(10) + b"hello")
        assert client.read_head().status == 200
        assert client.rest() == b"1\r\n1\r\n"


def test_a_response_that_goes_on_is_not_cut_for_a_body_that_does_not_come(
    loop: str, package: ModuleType
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for _ in range(20):
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"2"})

    with running(app, loop, package, timeout_request_body=0.8) as server, Client(server) as client:
        client.send(sized(10) + b"hello")
        assert client.read().body == b"1" * 20 + b"2"


def test_a_body_that_an_early_answer_makes_needless_is_not_waited_for(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await asyncio.sleep(0.8)
        await send({"type": "http.response.body", "body": b"2"})

    with (
        serving(app, loop, package, secured, timeout_request_body=0.2) as (server, context),
        Client(server, tls=context) as client,
    ):
        client.send(sized(10, "Expect: 100-continue"))
        assert client.read().body == b"12"
        assert client.rest() == b""


def test_no_100_continue_comes_in_the_middle_of_a_response(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        event = await receive()
        await send({"type": "http.response.body", "body": event["body"]})

    with running(app, loop, package) as server, Client(server) as client:
        client.send(sized(5, "Expect: 100-continue"))
        assert client.read_head().status == 200
        assert client.read_chunk() == b"1"
        client.send(b"hello")
        assert client.read_chunk() == b"hello"
        assert client.rest() == b"0\r\n\r\n"


def test_a_slow_body_and_a_slow_application_may_take_their_time(
    loop: str, package: ModuleType
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            recorder.note("called")
            await recorder.until_told()
        size = 0
        more = True
        while more:
            event = await receive()
            assert event["type"] == "http.request"
            size += len(event["body"])
            more = event["more_body"]
        await respond(send, b"%d" % size)

    with running(app, loop, package, timeout_request_body=0.5) as server:
        with Client(server) as client:
            client.send(sized(10))
            for _ in range(10):
                time.sleep(0.1)
                client.send(b"x")
            assert client.read().body == b"10"
        with Client(server) as client:
            # Reading is paused for an application that does not take what has come.
            client.send(sized(1_000_000, target="/slow"))
            assert recorder.next() == "called"
            sending = threading.Thread(target=client.send, args=(bytes(1_000_000),))
            sending.start()
            time.sleep(1.0)
            recorder.go.set()
            sending.join()
            assert client.read().body == b"1000000"
        recorder.go.clear()
        with Client(server) as client:
            # The client waits to be asked.
            client.send(sized(4, "Expect: 100-continue", target="/slow"))
            assert recorder.next() == "called"
            time.sleep(1.0)
            recorder.go.set()
            assert client.read_head().status == 100
            client.send(b"body")
            assert client.read().body == b"4"


def test_a_response_that_ends_the_connection_is_taken_slowly(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    size = 8_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(size))

    options = {"ws_close_timeout": 0.5, "timeout_write": 1.0}
    with serving(app, loop, package, secured, **options) as (server, context):
        with Client(server, tls=context, receive_buffer=65536) as client:
            client.send(request("Host: a", "Connection: close"))
            reply = client.read_head()
            left = int(reply.headers["content-length"])
            assert left == size
            while left:
                data = client.file.read(min(left, 200_000))
                assert data, f"cut off {left} bytes before the end"
                left -= len(data)
                time.sleep(0.06)
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_client_that_takes_nothing_of_the_last_response_is_cut_off(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(8_000_000))

    with (
        serving(app, loop, package, secured, timeout_write=0.5) as (server, context),
        Client(server, tls=context, receive_buffer=4096) as client,
    ):
        client.send(request("Host: a", "Connection: close"))
        server.wait_until(lambda: bool(server.server.serving.connections))
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_session_is_over_when_tls_is_lost_in_the_iteration_of_the_accept(
    loop: str, package: ModuleType, certificates: Certificates
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        recorder.note("connect")
        await recorder.until_told()
        # The connection is lost, and HTTP will hear of it in the next iteration.
        for connection in tuple(server.server.serving.connections):
            connection.abort()
        await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            await send({"type": "websocket.accept"})
            recorder.note((await receive())["type"])
            return
        recorder.note("websocket.disconnect")

    tls = {"ssl_certfile": certificates.chain, "ssl_keyfile": certificates.key}
    with running(app, loop, package, **tls) as server:
        with Client(server, tls=certificates.client()) as client:
            client.send(upgrade())
            assert recorder.next() == "connect"
            recorder.go.set()
            assert recorder.next() == "websocket.disconnect"
        server.wait_until(lambda: not server.server.serving.connections)


# What is left.


@pytest.mark.parametrize("way", ["close", "malformed", "refused", "denied", "accepted", "fails"])
def test_no_cycle_is_left_for_the_collector(
    way: str, loop: str, package: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "asgiws.error")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if way == "fails":
                raise ValueError
            await respond(send, b"hello")
            return
        await receive()
        if way == "denied":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "websocket.accept"})

    sent = {
        "close": request("Host: a", "Connection: close"),
        "malformed": b"garbage\r\n\r\n",
        "refused": upgrade("Sec-WebSocket-Version: 12"),
        "denied": upgrade(),
        "accepted": upgrade(),
        "fails": GET,
    }[way]
    names = ("HTTPProtocol", "Exchange", "Opening", "Session", "WebSocket", "Ending")

    def alive() -> list[str]:
        return [type(it).__name__ for it in gc.get_objects() if type(it).__name__ in names]

    with running(app, loop, package) as server:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(3):
                with Client(server) as client:
                    client.send(sent)
                    client.file.read(4)
                    client.finish()
                    client.rest()
            server.wait_until(lambda: not server.server.serving.connections)
            server.wait_until(lambda: not server.server.serving.tasks)
            server.wait_until(lambda: alive() == before)
        finally:
            gc.enable()


def test_a_connection_of_one_request_sets_one_timer(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    with running(app, "asyncio", package) as server:
        set_for = timers_set(server, monkeypatch)
        with Client(server) as client:
            client.send(request("Host: a", "Connection: close"))
            assert client.rest().endswith(b"hello")
        monkeypatch.undo()
    assert set_for.count("_on_timer") == 1
