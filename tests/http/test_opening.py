"""The opening handshake over real sockets (RFC 6455 section 4), seen from both sides."""

from __future__ import annotations

import asyncio
import logging
import queue
import re
import ssl
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from asgiws.errors import ASGIError, ClientDisconnected
from asgiws.http.opening import Opening
from asgiws.http.request import parse
from asgiws.wire import handshake

from ..toolkit.certificates import for_two_threads
from ..toolkit.client_frames import TEXT, client_frame, close_frame
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import ACCEPT, KEY, upgrade
from ..toolkit.running import DEADLINE, LOOPS, Running, running

PLAIN = b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = client_frame(TEXT, b"Hello")
CLOSE = close_frame(1000)


class App:
    """An ASGI application: HTTP says hello, a WebSocket does ``websocket`` (an echo)."""

    def __init__(self, websocket: Any = None) -> None:
        self.scopes: list[Any] = []
        self.notes: queue.Queue[Any] = queue.Queue()
        self.go = threading.Event()
        self.websocket = websocket or echo

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self.websocket(self, scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"plain"})

    def next(self) -> Any:
        return self.notes.get(timeout=DEADLINE)

    async def until_told(self) -> None:
        assert await asyncio.to_thread(self.go.wait, DEADLINE)


async def echo(app: App, scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


def test_a_websocket_opens(loop: str) -> None:
    with running(App(), loop) as server, Client(server) as client:
        client.send(upgrade())
        reply = client.read_head()
        assert (reply.version, reply.status) == ("HTTP/1.1", 101)
        assert reply.phrase == "Switching Protocols"
        assert reply.headers["sec-websocket-accept"] == ACCEPT
        assert reply.headers["upgrade"] == "websocket"
        assert reply.headers["connection"] == "Upgrade"
        assert reply.headers["server"] == "asgiws"
        assert "date" in reply.headers
        assert "content-length" not in reply.headers
        client.send(HELLO)
        assert client.file.read(7) == b"\x81\x05Hello"


@pytest.mark.parametrize(
    "request_head",
    [
        upgrade(sec_websocket_key="xqBt3ImNzJbYqRINxEFlkg=="),
        upgrade(upgrade="WebSocket"),
        upgrade(upgrade="h2c, WEBSOCKET"),
        upgrade(connection="keep-alive, UPGRADE"),
        upgrade("Connection: keep-alive"),
        upgrade("Content-Length: 0"),
        upgrade("Cookie: " + "a" * 9000),
        upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        upgrade(target="http://example.com/chat"),
    ],
    ids=lambda head: re.sub(rb"\W+", b" ", head)[20:70].decode(),
)
def test_all_that_rfc_6455_allows_opens(request_head: bytes) -> None:
    with running(App()) as server, Client(server) as client:
        client.send(request_head)
        reply = client.read_head()
        assert reply.status == 101
        if b"xqBt3" in request_head:
            assert reply.headers["sec-websocket-accept"] == "K7DJLdLooIwIG/MOpvWFB3y3FE8="


REFUSED: dict[str, tuple[bytes, int]] = {
    "no Host": (upgrade(host=None), 400),
    "two Hosts": (upgrade("Host: b"), 400),
    "no Connection": (upgrade(connection=None), 400),
    "a Connection without Upgrade": (upgrade(connection="keep-alive"), 400),
    "no key": (upgrade(sec_websocket_key=None), 400),
    "an empty key": (upgrade(sec_websocket_key=""), 400),
    "a short key": (upgrade(sec_websocket_key="c2hvcnQ="), 400),
    "a key that is no base64": (upgrade(sec_websocket_key="!" * 24), 400),
    "two keys": (upgrade(f"Sec-WebSocket-Key: {KEY}"), 400),
    "a key of bytes over 127": (upgrade(sec_websocket_key="\xe9" * 24), 400),
    "no version": (upgrade(sec_websocket_version=None), 426),
    "version 99": (upgrade(sec_websocket_version="99"), 426),
    "a list of versions": (upgrade(sec_websocket_version="13, 8"), 426),
    "a version of bytes over 127": (upgrade(sec_websocket_version="\xe9"), 426),
    "a subprotocol that is no token": (upgrade("Sec-WebSocket-Protocol: a b"), 400),
    "a subprotocol of bytes over 127": (upgrade("Sec-WebSocket-Protocol: \xe9"), 400),
    "a Content-Length": (upgrade("Content-Length: 32"), 400),
    "a Transfer-Encoding": (upgrade("Transfer-Encoding: chunked"), 400),
    "both": (upgrade("Content-Length: 32", "Transfer-Encoding: chunked"), 400),
    "a list of lengths": (upgrade("Content-Length: 32, 32"), 400),
    "an obfuscated Transfer-Encoding": (upgrade("Transfer-Encoding: \x0bchunked"), 400),
    "a head over the limit": (upgrade("X: " + "a" * 70_000), 431),
    "10,000 headers": (upgrade(*[f"X-{number}: a" for number in range(10_000)]), 431),
}


@pytest.fixture(scope="module", params=LOOPS)
def echo_server(request: pytest.FixtureRequest) -> Any:
    app = App()
    with running(app, request.param) as server:
        server.app = app
        yield server


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_handshake_is_refused_and_the_application_never_sees_it(
    echo_server: Any, name: str
) -> None:
    sent, status = REFUSED[name]
    echo_server.app.scopes.clear()
    with Client(echo_server) as client, Client(echo_server) as other:
        # What follows is neither frames nor a request.
        client.send(sent + HELLO + PLAIN)
        reply = client.read()
        assert reply.status == status
        wanted = ("Upgrade, close", "websocket", "13") if status == 426 else ("close", None, None)
        told = ("connection", "upgrade", "sec-websocket-version")
        assert tuple(reply.headers.get(name) for name in told) == wanted
        assert len(reply.names) == len(reply.headers)
        assert "sec-websocket-accept" not in reply.headers
        assert client.rest() == b""
        assert other.get().body == b"plain"
    assert [scope["type"] for scope in echo_server.app.scopes] == ["http"]


@pytest.mark.parametrize(
    "sent",
    [
        upgrade(method="POST"),
        upgrade(version="1.0"),
        upgrade(upgrade="h2c"),
        upgrade(upgrade="notwebsocket"),
        upgrade(upgrade=None),
    ],
    ids=["POST", "HTTP/1.0", "h2c", "notwebsocket", "no Upgrade"],
)
def test_other_requests_are_plain_http(echo_server: Any, sent: bytes) -> None:
    with Client(echo_server) as client:
        client.send(sent)
        reply = client.read()
        assert (reply.status, reply.body) == (200, b"plain")


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; unknown",
        "permessage-deflate" + "; a" * 90,
        "x-webkit-deflate-frame",
        ",, ,",
    ],
)
def test_an_extension_offer_that_cannot_be_met_is_declined(echo_server: Any, offer: str) -> None:
    with Client(echo_server) as client:
        client.send(upgrade(f"Sec-WebSocket-Extensions: {offer}"))
        reply = client.read_head()
        assert reply.status == 101
        assert "sec-websocket-extensions" not in reply.headers


@pytest.mark.parametrize(
    "offer",
    [
        'permessage-deflate; server_max_window_bits="1\\"5',
        "permessage-deflate; " + "a;" * 90,
        "\xe9",
        '"' * 1000,
        ";;;,,,===",
    ],
)
def test_an_extension_offer_that_breaks_the_grammar_is_refused(
    echo_server: Any, offer: str
) -> None:
    with Client(echo_server) as client:
        client.send(upgrade(f"Sec-WebSocket-Extensions: {offer}"))
        reply = client.read()
        assert (reply.status, reply.body) == (400, b"Sec-WebSocket-Extensions is malformed\n")


def test_permessage_deflate_can_be_switched_off() -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    with running(App()) as server, Client(server) as client:
        client.send(upgrade(offer))
        assert "permessage-deflate" in client.read_head().headers["sec-websocket-extensions"]
    with running(App(), ws_per_message_deflate=False) as server, Client(server) as client:
        client.send(upgrade(offer))
        assert "sec-websocket-extensions" not in client.read_head().headers


def test_a_handshake_may_arrive_cut_anywhere(loop: str) -> None:
    whole = upgrade() + HELLO
    with running(App(), loop) as server:
        for cut in range(1, len(whole)):
            with Client(server) as client:
                client.send(whole[:cut])
                server.call(lambda: None)
                client.send(whole[cut:])
                assert client.read_head().status == 101
                assert client.file.read(7) == b"\x81\x05Hello"
                client.reset()


def test_frames_behind_the_request_are_read_after_the_101(loop: str) -> None:
    async def slow(app: App, scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        await echo(app, scope, receive, send)

    app = App(slow)
    with running(app, loop) as server, Client(server) as client:
        client.send(upgrade() + HELLO + HELLO[:3])
        assert client.is_silent(0.05)
        client.send(HELLO[3:])
        app.go.set()
        assert client.read_head().status == 101
        assert client.file.read(14) == b"\x81\x05Hello" * 2
        client.send(CLOSE)
        assert client.rest() == b"\x88\x02\x03\xe8"


def test_a_websocket_may_open_behind_other_requests_on_the_connection(loop: str) -> None:
    with running(App(), loop) as server, Client(server) as client:
        client.send(PLAIN * 2 + upgrade() + HELLO)
        assert client.read().body == client.read().body == b"plain"
        assert client.read_head().status == 101
        assert client.file.read(7) == b"\x81\x05Hello"


def test_what_a_client_sends_too_early_is_bounded_and_none_of_it_lost(loop: str) -> None:
    async def slow(app: App, scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        await receive()
        await send({"type": "websocket.accept"})
        size = 0
        for _ in range(3000):
            size += len((await receive())["bytes"])
        app.notes.put(size)

    app = App(slow)
    frame = b"\x82\xfe\x27\x10\0\0\0\0" + bytes(10_000)
    with running(app, loop) as server, Client(server) as client:
        data = upgrade() + frame * 3000
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        sender.join(0.3)
        assert sender.is_alive(), "30 MB were read before the handshake was decided"
        app.go.set()
        assert app.next() == 30_000_000
        sender.join()


def test_the_scope_tells_what_was_asked_for(loop: str) -> None:
    app = App()
    with running(app, loop, root_path="/root") as server, Client(server) as client:
        client.send(
            upgrade(
                "Origin: https://example.com",
                "Sec-WebSocket-Protocol: one,two",
                "Sec-WebSocket-Protocol: three",
                target="/a%20b?c=%20d",
            )
        )
        client.read_head()
        (scope,) = app.scopes
        headers = scope.pop("headers")
        notice = server.server.serving.notice
        assert scope["extensions"].pop("asgiws.topics").is_accepted
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/root/a b",
            "raw_path": b"/root/a%20b",
            "query_string": b"c=%20d",
            "root_path": "/root",
            "client": client.sock.getsockname(),
            "server": ("127.0.0.1", server.port),
            "subprotocols": ["one", "two", "three"],
            "state": {},
            "extensions": {"asgiws.drain": notice, "websocket.http.response": {}},
        }
        assert (b"origin", b"https://example.com") in headers
        assert (b"sec-websocket-key", KEY.encode()) in headers


def test_the_application_chooses_subprotocol_and_headers(loop: str) -> None:
    async def choose(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": "two",
                "headers": [(b"X-One", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")],
            }
        )

    with running(App(choose), loop) as server, Client(server) as client:
        client.send(upgrade("Sec-WebSocket-Protocol: one, two"))
        reply = client.read_head()
        assert reply.headers["sec-websocket-protocol"] == "two"
        assert reply.headers["x-one"] == "1"
        assert reply.names.count("set-cookie") == 2


@pytest.mark.parametrize(
    ("accept", "complaint"),
    [
        ({"subprotocol": "other"}, r"expected subprotocol to be one of those offered, \['one'\]"),
        ({"subprotocol": "one\r\nx: y"}, "expected subprotocol to be one of those offered"),
        ({"headers": [(b"x", b"a\r\nb: c")]}, "expected x to hold no control characters"),
        ({"headers": [(b"x", b"a\nb")]}, "expected x to hold no control characters"),
        ({"headers": [(b"x", b"a\0b")]}, "expected x to hold no control characters"),
        ({"headers": [(b"x", b"\x1b[31m")]}, "expected x to hold no control characters"),
        ({"headers": [(b"x\r\ny", b"")]}, "expected a header's name to be a token"),
        ({"headers": [(b"", b"")]}, "expected a header's name to be a token"),
        ({"headers": [(b"x: y", b"")]}, "expected a header's name to be a token"),
        ({"headers": [("x", "y")]}, "expected headers to be pairs of bytes"),
        ({"headers": [(b"Upgrade", b"y")]}, "the server sets itself"),
        ({"headers": [(b"sec-websocket-protocol", b"one")]}, "the server sets itself"),
        ({"headers": [(b"content-length", b"0")]}, "the server sets itself"),
    ],
)
def test_an_accept_that_may_not_be_sent_is_an_error_and_no_byte_leaves(
    accept: dict[str, Any], complaint: str
) -> None:
    async def try_it(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(ASGIError, match=complaint) as caught:
            await send({"type": "websocket.accept", **accept})
        app.notes.put(str(caught.value))
        await send({"type": "websocket.accept"})

    app = App(try_it)
    with running(app) as server, Client(server) as client:
        client.send(upgrade("Sec-WebSocket-Protocol: one"))
        assert app.next()
        reply = client.read_head()  # the second try, and nothing of the first
        assert reply.status == 101
        assert "sec-websocket-protocol" not in reply.headers


def test_close_before_accept_is_403(loop: str) -> None:
    async def deny(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        app.notes.put(await receive())

    app = App(deny)
    with running(app, loop) as server, Client(server) as client:
        client.send(upgrade() + HELLO)
        reply = client.read()
        assert (reply.status, reply.body) == (403, b"Forbidden\n")
        assert client.rest() == b""
        assert app.next() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@pytest.mark.parametrize("ending", ["raise", "return", "raise while denying"])
def test_an_application_that_ends_without_an_answer_gives_500(
    loop: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def end(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if ending == "raise while denying":
            await send({"type": "websocket.http.response.start", "status": 401})
        if ending != "return":
            raise ValueError("no answer")

    with running(App(end), loop) as server, Client(server) as client:
        client.send(upgrade())
        assert client.read().status == 500
        assert client.rest() == b""
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_denial_is_exactly_the_application_s_response(loop: str) -> None:
    async def deny(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(
            {
                "type": "websocket.http.response.start",
                "status": 401,
                "headers": [(b"x-why", b"because"), (b"server", b"mine")],
            }
        )
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await app.until_told()
        await send({"type": "websocket.http.response.body", "body": b" way"})
        app.notes.put(await receive())

    app = App(deny)
    with running(app, loop) as server, Client(server) as client:
        client.send(upgrade())
        reply = client.read_head()
        assert (reply.status, reply.phrase) == (401, "Unauthorized")
        assert reply.names == ["x-why", "server", "date", "transfer-encoding", "connection"]
        assert reply.headers["connection"] == "close"
        assert client.read_chunk() == b"no"
        app.go.set()
        assert client.read_chunk() == b" way"
        assert client.read_chunk() == b""
        assert client.rest() == b""
        assert app.next()["code"] == 1006


@pytest.mark.parametrize("ending", ["raises", "says too little"])
def test_a_denial_that_ends_half_way_is_cut_so_that_the_client_sees_it(
    loop: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def deny(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-length", b"10")]
        await send(
            {"type": "websocket.http.response.start", "status": 401, "headers": headers},
        )
        await send({"type": "websocket.http.response.body", "body": b"half", "more_body": True})
        if ending == "raises":
            raise ValueError("half way")
        await send({"type": "websocket.http.response.body", "body": b"er"})

    with running(App(deny), loop) as server, Client(server) as client:
        client.send(upgrade())
        assert client.read_head().status == 401
        assert client.rest() == (b"half" if ending == "raises" else b"halfer")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_denial_may_not_hold_what_would_end_a_header() -> None:
    async def deny(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(ASGIError):
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": 401,
                    "headers": [(b"x", b"a\r\nset-cookie: b")],
                }
            )
        await send({"type": "websocket.close"})

    with running(App(deny)) as server, Client(server) as client:
        client.send(upgrade())
        reply = client.read()
        assert reply.status == 403
        assert "set-cookie" not in reply.headers


def test_starlette_can_deny_with_a_response(loop: str) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"no": "entry"}, 402))

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    with running(app, loop) as server, Client(server) as client:
        client.send(upgrade())
        reply = client.read()
        assert (reply.status, reply.body) == (402, b'{"no":"entry"}')


@pytest.mark.parametrize("way", ["reset", "finish", "close"])
def test_a_client_that_leaves_before_the_answer_is_noticed(loop: str, way: str) -> None:
    async def wait(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        app.notes.put("connect")
        app.notes.put(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})
        app.notes.put("done")

    app = App(wait)
    with running(app, loop) as server, Client(server) as client:
        client.send(upgrade())
        assert app.next() == "connect"
        getattr(client, way)()
        assert app.next() == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert app.next() == "done"
        server.wait_until(lambda: not server.server.serving.connections)


def test_an_open_websocket_lets_go_of_its_http_connection(loop: str) -> None:
    connections: list[weakref.ref[Any]] = []

    async def note_and_echo(app: App, scope: Any, receive: Any, send: Any) -> None:
        connections.extend(map(weakref.ref, server.server.serving.connections))
        await echo(app, scope, receive, send)

    with (
        running(App(note_and_echo), loop) as server,
        connect(f"ws://127.0.0.1:{server.port}/") as client,
    ):
        client.send("hello")
        assert client.recv() == "hello"
        assert len(connections) == 1
        server.wait_until(lambda: connections[0]() is None)


def test_a_refusal_that_comes_when_the_connection_is_lost_does_nothing() -> None:
    class Lost:
        def lost(self) -> bool:
            return True

    request = parse(upgrade())
    opening = Opening(Lost(), None, request, handshake.check(request.headers), None, None)  # type: ignore[arg-type]
    opening.refuse(500)


def test_nothing_is_answered_to_a_client_that_left_when_the_time_to_accept_is_over(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ignore(app: App, scope: Any, receive: Any, send: Any) -> None:
        app.notes.put("called")
        await app.until_told()

    app = App(ignore)
    with running(app, loop, ws_accept_timeout=0.2) as server:
        for leaves in (True, False):
            with Client(server) as client:
                client.send(upgrade())
                assert app.next() == "called"
                if not leaves:
                    assert client.read().status == 504
        app.go.set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_only_listed_origins_may_open_a_websocket(loop: str) -> None:
    with running(App(), loop, ws_origins="same-host,https://example.com") as server:
        for origin, status in (
            ("http://localhost", 101),
            ("https://example.com", 101),
            ("https://example.com.evil", 403),
            ("null", 403),
        ):
            with Client(server) as client:
                client.send(upgrade(f"Origin: {origin}"))
                assert client.read_head().status == status


def test_a_handshake_beyond_the_concurrency_limit_is_answered_503(loop: str) -> None:
    with running(App(), loop, limit_concurrency=1) as server, Client(server) as first:
        first.send(upgrade())
        assert first.read_head().status == 101
        with Client(server) as second:
            second.send(upgrade())
            assert second.read().status == 503
            assert second.rest() == b""
        first.send(HELLO)
        assert first.file.read(7) == b"\x81\x05Hello"


def test_at_shutdown_an_undecided_handshake_is_answered_503(loop: str) -> None:
    async def wait(app: App, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        app.notes.put("connect")
        app.notes.put((await receive())["type"])

    app = App(wait)
    server = Running(app, loop)
    with Client(server) as client:
        client.send(upgrade())
        assert app.next() == "connect"
        server.shutdown()
        assert client.read().status == 503
        assert client.rest() == b""
        assert app.next() == "websocket.disconnect"
    server.stop()


def test_a_session_has_one_line_in_the_access_log(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asgiws.access")

    async def session(app: App, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/denied":
            return await send({"type": "websocket.close"})
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        await receive()
        await receive()
        await send({"type": "websocket.send", "text": "123"})
        await send({"type": "websocket.close", "code": 4000})
        return None

    with running(App(session), loop) as server:
        for target in ('/chat?a="b', "/denied"):
            with Client(server) as client:
                client.send(upgrade("Sec-WebSocket-Protocol: talk", target=target) + HELLO + CLOSE)
                client.rest()
        with Client(server) as client:
            client.send(upgrade(sec_websocket_key="x"))
            assert client.read().status == 400
        server.wait_until(lambda: not server.server.serving.connections)
    lines = [r.getMessage() for r in caplog.records if r.name == "asgiws.access"]
    assert len(lines) == 3
    assert re.fullmatch(
        r'127\.0\.0\.1:\d+ - "WebSocket /chat\?a=%22b" 101 subprotocol=talk \d+\.\ds '
        r"in=1/5B out=\d/\d+B close=\d+ by=(client|server)",
        lines[0],
    )
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "WebSocket /denied" 403', lines[1])
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 400', lines[2])


def test_wss_opens_with_a_client_of_other_hands(loop: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = tmp_path / "cert.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    app = App()
    with running(app, loop, ssl_certfile=str(pem)) as server:
        with connect(f"wss://localhost:{server.port}/", ssl=for_two_threads(context)) as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=DEADLINE) == "hello"
        assert app.scopes[0]["scheme"] == "wss"
