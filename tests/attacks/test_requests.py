"""Hostile requests over a real socket: smuggling, injection, spoofing, and crashes.

Nothing that follows a refused request is answered, the application never sees it,
and the next client is served as if nothing had happened.
"""

from __future__ import annotations

import ast
import gc
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asgiws
from asgiws.errors import ASGIError

from ..toolkit.client_frames import TEXT, client_frame, close_frame
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import ACCEPT, RawWebSocket, upgrade
from ..toolkit.running import DEADLINE, LOOPS_AND_PARSERS, running

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
FRAME = client_frame(TEXT, b"hello")


class App:
    """Echoes on WebSockets, answers requests with their client, and notes every path."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            client = str(scope["client"][0]).encode()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": client})
            return
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})


@pytest.fixture(scope="module", params=LOOPS_AND_PARSERS, ids="-".join)
def victim(request: pytest.FixtureRequest) -> Iterator[Any]:
    app = App()
    loop, parser = request.param
    with running(app, loop, http=parser, timeout_keep_alive=1.0) as server:
        server.app = app
        yield server


@pytest.fixture(autouse=True)
def _the_next_client_is_served_and_nothing_was_smuggled(victim: Any) -> Iterator[None]:
    victim.app.paths.clear()
    yield
    with Client(victim) as client:
        assert client.get("/next").status == 200
    with RawWebSocket(victim) as client:
        client.send(FRAME)
        assert client.read_frame() == (TEXT, b"hello")
    assert "/smuggled" not in victim.app.paths


# Smuggling through the upgrade (aiohttp CVE-2026-69243, eventlet CVE-2021-21419,
# gunicorn CVE-2024-1135), and chunked bodies (h11 CVE-2025-43859).
CHUNKED = "Transfer-Encoding: chunked"
SMUGGLING: dict[str, tuple[bytes, int]] = {
    "upgrade with a length": (upgrade(f"Content-Length: {len(SMUGGLED)}"), 400),
    "upgrade with a coding": (upgrade(CHUNKED) + b"0\r\n\r\n", 400),
    "upgrade with a length and a coding": (upgrade(CHUNKED, "Content-Length: 5"), 400),
    "upgrade with a coding and a length": (upgrade("Content-Length: 5", CHUNKED), 400),
    "upgrade with a list of lengths": (upgrade("Content-Length: 0, 5"), 400),
    "upgrade with two lengths": (upgrade("Content-Length: 0", "Content-Length: 5"), 400),
    "upgrade with a length in other digits": (upgrade("Content-Length: \xb2"), 400),
    **{
        f"upgrade with {coding!r}": (upgrade(coding), 400)
        for coding in (
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: chunked\x0b",
            'Transfer-Encoding: "chunked"',
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:\r\n chunked",
            "X: y\rTransfer-Encoding: chunked",
            "X: y\nTransfer-Encoding: chunked",
            "\x00Transfer-Encoding: chunked",
            "Transfer_Encoding: chunked\r\nContent-Length: 5",
        )
    },
    "a failed upgrade": (upgrade(sec_websocket_key="bad"), 400),
    "an upgrade to another version": (upgrade(sec_websocket_version="8"), 426),
    "an upgrade that the application denies": (upgrade(target="/denied"), 403),
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_nothing_is_smuggled_behind_an_upgrade(victim: Any, name: str) -> None:
    sent, status = SMUGGLING[name]
    with Client(victim) as client:
        client.send(sent + SMUGGLED + FRAME)
        reply = client.read()
        assert reply.status == status
        assert "sec-websocket-accept" not in reply.headers
        assert client.rest() == b""


def test_an_upgrade_to_something_else_is_an_ordinary_request(victim: Any) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    with Client(victim) as client:
        for sent in (
            upgrade(upgrade="notwebsocket"),
            upgrade(CHUNKED, upgrade="h2c") + body,
            upgrade(upgrade="websocket", method="POST", version="1.1"),
        ):
            client.send(sent)
            assert client.read().status == 200
        assert client.get().status == 200


def test_frames_in_the_segment_of_the_handshake_are_answered_behind_the_101(victim: Any) -> None:
    with Client(victim) as client:
        client.send(upgrade() + FRAME)
        reply = client.read()
        assert reply.headers["sec-websocket-accept"] == ACCEPT
        assert client.file.read(7) == b"\x81\x05hello"
        client.send(close_frame(1000))
        assert client.rest() == b"\x88\x02\x03\xe8"


def test_a_request_behind_an_accepted_upgrade_is_no_request(victim: Any) -> None:
    with Client(victim) as client:
        client.send(upgrade() + SMUGGLED)
        assert client.read().status == 101
        first = client.file.read(4)
        assert first[0] == 0x88
        assert int.from_bytes(first[2:], "big") == 1002


# Header injection outwards (uvicorn CVE-2020-7695, daphne CVE-2026-44546, tornado CVE-2025-67726).
INJECTED = [b"a\rb", b"a\nb", b"a\r\nset-cookie: evil=1", b"a\0b", b"\x1b[2J", b"a\x7f", b"\x0b"]


@pytest.mark.parametrize("value", INJECTED)
@pytest.mark.parametrize("where", ["accept", "subprotocol", "denial", "response", "name"])
def test_what_would_break_a_line_never_leaves_the_server(where: str, value: bytes) -> None:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        name, content = (value, b"x") if where == "name" else (b"x", value)
        kind = {
            "accept": {"type": "websocket.accept", "headers": [(name, content)]},
            "subprotocol": {"type": "websocket.accept", "subprotocol": value.decode()},
            "denial": {
                "type": "websocket.http.response.start",
                "status": 403,
                "headers": [(name, content)],
            },
        }.get(where)
        start = {"type": "http.response.start", "status": 200, "headers": [(name, content)]}
        try:
            await send(kind or start)
        except ASGIError as exc:
            raised.append(exc)
            raise

    with running(app) as server, Client(server) as client:
        websocket = where in ("accept", "subprotocol", "denial")
        client.send(upgrade("Sec-WebSocket-Protocol: a") if websocket else SMUGGLED)
        reply = client.read()
        assert reply.status == 500
        assert b"evil" not in reply.body
        assert client.rest() == b""
    assert len(raised) == 1


HOSTS = ["", "user@a", "user:pass@a", "a/b", "a\\b", "a b", "a, b", "a?b", "a#b", "[::1", "a:b:c"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_none_is_refused(victim: Any, host: str) -> None:
    """starlette CVE-2026-48710: what the application makes of Host must be a host."""
    for sent in (
        f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        upgrade(host=host),
        f"GET http://a/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
    ):
        with Client(victim) as client:
            client.send(sent)
            assert client.read().status == 400
    assert victim.app.paths == []


@pytest.mark.parametrize("hosts", [[], ["a", "a"], ["a", "b"]])
def test_a_request_has_one_host(victim: Any, hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    with Client(victim) as client:
        client.send(f"GET / HTTP/1.1\r\n{lines}\r\n".encode() + SMUGGLED)
        assert client.read().status == 400
        assert client.rest() == b""


# Log injection (uvicorn CVE-2020-7694).
def test_no_peer_writes_controls_or_lines_into_the_log(
    victim: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    evil = "\x1b[2J\x07\x9b31m"
    with Client(victim) as client:
        client.get("/%1b[2J%0d%0aINFO:%20forged?%1b]0;owned%07")
        client.get('/"%20200')
    for target in (f"/{evil}", f"/?{evil}"):
        with Client(victim) as client:
            client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
            assert client.read().status == 400
    with RawWebSocket(victim, "Sec-WebSocket-Protocol: a", target="/%1b%0a?%9b") as client:
        client.send(close_frame(3000, "\x1b[2J\r\nforged\u2028\u202e".encode()))
        assert client.close_code() == 3000
    with Client(victim) as client:
        client.send(upgrade("Sec-WebSocket-Protocol: \x9b"))
        assert client.read().status == 400
    victim.wait_until(lambda: not victim.server.serving.connections)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.count('"') == 2 for message in messages) >= 6
    for message in messages:
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", message), message


# Crashes in the handshake (granian CVE-2026-42544, ws CVE-2024-37890, CVE-2021-32640,
# websocket-extensions CVE-2020-7662).
CRASHES: dict[str, tuple[bytes, set[int]]] = {
    **{
        f"{name} of bytes over 127": (upgrade(f"Sec-WebSocket-{name}: \xff\xfe\x80"), {400, 426})
        for name in ("Key", "Version", "Protocol", "Extensions")
    },
    "Accept of bytes over 127": (upgrade("Sec-WebSocket-Accept: \xff\xfe"), {101}),
    "10,000 headers": (upgrade(*[f"X-{n}: y" for n in range(10_000)]), {431}),
    "5,000 short headers": (upgrade(*["a:b"] * 5000), {431}),
    "10,000 subprotocols": (upgrade("Sec-WebSocket-Protocol: " + "a," * 10_000), {400}),
    "5,000 good subprotocols": (
        upgrade("Sec-WebSocket-Protocol: " + ",".join(f"p{n}" for n in range(5000))),
        {400},
    ),
    "nested quotes": (upgrade("Sec-WebSocket-Extensions: " + 'a; b="\\"' * 5000), {400}),
    "semicolons": (upgrade("Sec-WebSocket-Extensions: a" + "; b" * 15_000), {400}),
    "empty offers": (upgrade("Sec-WebSocket-Extensions: " + "," * 60_000), {400}),
    "empty offers in many fields": (upgrade(*["Sec-WebSocket-Extensions: ,,"] * 40), {400}),
    "only semicolons": (upgrade("Sec-WebSocket-Extensions: " + ";" * 60_000), {400}),
    "backslashes in quotes": (upgrade('Sec-WebSocket-Extensions: a; b="' + "\\" * 60_000), {400}),
    "whitespace": (upgrade("Sec-WebSocket-Protocol: a" + " " * 60_000 + "b"), {400}),
    "a long key": (upgrade(sec_websocket_key="A" * 60_000), {400}),
    "a list of versions": (upgrade(sec_websocket_version="13, 8, 7"), {426}),
    "many versions": (upgrade(*["Sec-WebSocket-Version: 13"] * 90), {426}),
    "a version with a sign": (upgrade(sec_websocket_version="+13"), {426}),
    "a huge version": (upgrade(sec_websocket_version="9" * 50_000), {426}),
}


@pytest.mark.parametrize("name", CRASHES)
def test_no_handshake_crashes_the_server_or_takes_long(
    victim: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent, statuses = CRASHES[name]
    began = time.process_time()
    with Client(victim) as client:
        client.send(sent)
        assert client.read().status in statuses
        client.reset()
    assert time.process_time() - began < 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# Proxy spoofing.
V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_HEADERS: dict[str, bytes] = {
    "PROXY v1": b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n" + SMUGGLED,
    "PROXY v1 that is cut": b"PROXY TCP4 6.6.6.6\r\n\r\n",
    "PROXY v2": V2 + b"\x21\x11\x00\x0c" + bytes(12) + SMUGGLED,
    "PROXY v2 that is cut": V2[:14],
    "PROXY v2 that is oversized": V2 + b"\x21\x11\xff\xff" + bytes(70_000),
}


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_a_proxy_protocol_header_is_no_request(victim: Any, name: str) -> None:
    with Client(victim) as client:
        client.send(PROXY_HEADERS[name])
        client.finish()
        assert client.read().status in (400, 431, 505)
        assert client.rest() == b""
    assert victim.app.paths == []


@pytest.mark.parametrize(
    "lines",
    [
        ["X-Forwarded-For: 6.6.6.6"],
        ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7"] * 40,
        ["X-Forwarded-For: " + "6.6.6.6, " * 5000],
        ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"],
    ],
)
def test_an_untrusted_peer_is_not_believed(lines: list[str]) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with running(app, forwarded_allow_ips="10.0.0.1") as server, Client(server) as client:
        assert client.get("/", *lines).status == 200
    assert (scopes[0]["client"][0], scopes[0]["scheme"]) == ("127.0.0.1", "http")


def test_what_a_trusted_proxy_appends_outweighs_what_the_client_wrote() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with running(app) as server, Client(server) as client:
        client.get("/", "X-Forwarded-For: 127.0.0.1, 6.6.6.6", "X-Forwarded-For: 192.0.2.1")
        client.get("/", "X-Forwarded-For: 6.6.6.6, <script>, 127.0.0.1")
    assert [scope["client"][0] for scope in scopes] == ["192.0.2.1", "127.0.0.1"]


# Deserialisation (python-socketio CVE-2025-61765).
def test_nothing_in_the_package_can_make_objects_of_bytes() -> None:
    root = Path(asgiws.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Name):
                names = [node.id]
            assert not {"pickle", "marshal", "shelve", "dill", "eval", "exec"} & set(names), path


# Resources (tornado CVE-2025-47287).
def test_error_paths_leave_no_references_and_the_log_stays_quiet(
    victim: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = {"HTTPProtocol", "Session", "Opening", "Exchange", "Protocol"}

    def alive() -> int:
        gc.collect()
        return sum(type(thing).__name__ in kinds for thing in gc.get_objects())

    victim.wait_until(lambda: not victim.server.serving.connections)
    before = alive()
    for sent in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 100,
        upgrade(sec_websocket_key="bad"),
        upgrade(target="/denied"),
        upgrade() + b"\xff" * 100,
        upgrade() + client_frame(TEXT, b"\xff"),
        upgrade()[:50],
    ):
        for _ in range(10):
            with Client(victim) as client:
                client.send(sent)
                client.finish()
                client.rest()
    victim.wait_until(lambda: not victim.server.serving.connections)
    victim.wait_until(lambda: not victim.server.serving.tasks)
    assert victim.server.serving.websockets.members == set()
    deadline = time.monotonic() + DEADLINE
    while alive() > before:
        assert time.monotonic() < deadline
    assert not [record for record in caplog.records if record.name == "asgiws.error"]
