"""RFC 6455 section 4.2: what a server must ask of an opening handshake, and how it must answer.

Each case is one sentence or numbered item of the RFC, and a request in raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ..toolkit.client_frames import TEXT, client_frame
from ..toolkit.raw_http import Client, Reply
from ..toolkit.raw_websocket import ACCEPT, KEY, RawWebSocket, upgrade
from ..toolkit.running import LOOPS_AND_PARSERS, Running, running

STOP = (
    "If the server, while reading the handshake, finds that the client did not send a handshake "
    "that matches the description below, including but not limited to any violations of the ABNF "
    "grammar specified for the components of the handshake, the server MUST stop processing the "
    "client's handshake and return an HTTP response with an appropriate error code."
)


class Case(NamedTuple):
    """An ``item`` of section 4.2.1, the request that breaks it, and the status that says so."""

    item: str
    sent: bytes
    status: int = 400


BROKEN = [
    # A request that does not ask for a WebSocket at all is answered as plain HTTP, 200 here.
    Case("1. An HTTP/1.1 or higher GET request", upgrade(method="POST"), 200),
    Case("1. An HTTP/1.1 or higher GET request", upgrade(version="1.0"), 200),
    Case("1. An HTTP/1.1 or higher GET request", upgrade(version="0.9"), 505),
    Case("1. including a Request-URI", upgrade(target="chat")),
    Case("1. including a Request-URI", upgrade(target="/#fragment")),
    Case("1. including a Request-URI", upgrade(target="ftp://localhost/")),
    Case("2. A Host header field", upgrade(host=None)),
    Case("2. A Host header field", upgrade("Host: localhost")),
    Case("2. A Host header field", upgrade(host="")),
    Case("2. A Host header field", upgrade(host="a@b")),
    Case("3. An Upgrade header field containing the value websocket", upgrade(upgrade=None), 200),
    Case(
        "3. An Upgrade header field containing the value websocket",
        upgrade(upgrade="web socket"),
        200,
    ),
    Case(
        "3. An Upgrade header field containing the value websocket",
        upgrade(upgrade="notwebsocket"),
        200,
    ),
    Case(
        "3. An Upgrade header field containing the value websocket",
        upgrade(upgrade="websocket2"),
        200,
    ),
    Case(
        "4. A Connection header field that includes the token Upgrade",
        upgrade(connection=None),
    ),
    Case(
        "4. A Connection header field that includes the token Upgrade", upgrade(connection="close")
    ),
    Case(
        "4. A Connection header field that includes the token Upgrade",
        upgrade(connection="Upgraded"),
    ),
    Case("5. A Sec-WebSocket-Key header field", upgrade(sec_websocket_key=None)),
    Case("5. A Sec-WebSocket-Key header field", upgrade(f"Sec-WebSocket-Key: {KEY}")),
    Case("5. with a base64-encoded value", upgrade(sec_websocket_key="dGhlIHNhbXBsZSBub25jZ!==")),
    Case("5. with a base64-encoded value", upgrade(sec_websocket_key=KEY[:-1])),
    Case("5. with a base64-encoded value", upgrade(sec_websocket_key="\xe9" * 24)),
    Case("5. that, when decoded, is 16 bytes in length", upgrade(sec_websocket_key="")),
    Case("5. that, when decoded, is 16 bytes in length", upgrade(sec_websocket_key="AAAA")),
    Case("5. that, when decoded, is 16 bytes in length", upgrade(sec_websocket_key="A" * 24)),
    Case(
        "6. A Sec-WebSocket-Version header field, with a value of 13",
        upgrade(sec_websocket_version=None),
        426,
    ),
    Case(
        "6. A Sec-WebSocket-Version header field, with a value of 13",
        upgrade(sec_websocket_version="013"),
        426,
    ),
    Case(
        "6. A Sec-WebSocket-Version header field, with a value of 13",
        upgrade(sec_websocket_version="13, 8"),
        426,
    ),
    Case(
        "6. A Sec-WebSocket-Version header field, with a value of 13",
        upgrade("Sec-WebSocket-Version: 8"),
        426,
    ),
    Case(
        "8. A Sec-WebSocket-Protocol header field, 1#token", upgrade("Sec-WebSocket-Protocol: a b")
    ),
    Case(
        "8. A Sec-WebSocket-Protocol header field, 1#token", upgrade("Sec-WebSocket-Protocol: a/b")
    ),
    Case(
        "8. A Sec-WebSocket-Protocol header field, 1#token", upgrade("Sec-WebSocket-Protocol: \xe9")
    ),
    Case("9. A Sec-WebSocket-Extensions header field", upgrade("Sec-WebSocket-Extensions: a;")),
    Case("9. A Sec-WebSocket-Extensions header field", upgrade("Sec-WebSocket-Extensions: a=b")),
    Case(
        "9. A Sec-WebSocket-Extensions header field", upgrade('Sec-WebSocket-Extensions: a; b="c')
    ),
    Case(
        "9. the value after quoted-string unescaping MUST conform to the token ABNF",
        upgrade('Sec-WebSocket-Extensions: a; b="c d"'),
    ),
]

ACCEPTED = {
    "the order of the header fields is not important": b"\r\n".join(
        [b"GET / HTTP/1.1", *sorted(upgrade().split(b"\r\n")[1:-2], reverse=True), b"", b""]
    ),
    "an absolute HTTP/HTTPS URI containing the resource name": upgrade(
        target="http://localhost/chat"
    ),
    "Upgrade is treated as an ASCII case-insensitive value": upgrade(upgrade="WebSocket"),
    "Upgrade may be a list": upgrade(upgrade="h2c, websocket"),
    "Connection is treated as an ASCII case-insensitive value": upgrade(
        connection="keep-alive, uPGRADE"
    ),
    "header field names are case-insensitive": upgrade()
    .upper()
    .replace(KEY.upper().encode(), KEY.encode()),
    "an Origin header field is optional": upgrade("Origin: http://elsewhere.example"),
    "unknown header fields are ignored": upgrade("X-Unknown: anything", "Cookie: a=b"),
    "a higher minor version of HTTP": upgrade(version="1.2"),
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes, under the subprotocol that the path asks for; /denied and /missing refuse."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})
        return
    await receive()
    path = scope["path"]
    if path == "/missing":
        start = {"type": "websocket.http.response.start", "status": 404, "headers": []}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"nothing here"})
    elif path == "/denied":
        await send({"type": "websocket.close"})
    else:
        await send({"type": "websocket.accept", "subprotocol": path[1:] or None})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})


@pytest.fixture(scope="module", params=LOOPS_AND_PARSERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    loop, parser = request.param
    with running(app, loop, http=parser) as server:
        yield server


def ask(server: Running, sent: bytes) -> Reply:
    with Client(server) as client:
        client.send(sent)
        return client.read()


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.item)
def test_the_server_must_stop_processing(server: Running, case: Case) -> None:
    reply = ask(server, case.sent)
    assert reply.status == case.status, STOP
    assert "sec-websocket-accept" not in reply.headers


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_handshake_that_matches_is_accepted(server: Running, name: str) -> None:
    sent = ACCEPTED[name].replace(b"/chat", b"/").replace(b"GET HTTP", b"GET http")
    reply = ask(server, sent)
    assert (reply.status, reply.headers["sec-websocket-accept"]) == (101, ACCEPT)


def test_a_version_not_understood_is_answered_with_the_one_that_is(server: Running) -> None:
    """Section 4.2.2, step 4, /version/: "the server MUST abort the WebSocket handshake and
    instead send an appropriate HTTP error code (such as 426 Upgrade Required) and a
    Sec-WebSocket-Version header field indicating the version(s) the server is capable of
    understanding"; section 4.4 says the same."""
    for version in ("25", "8", "0", "256", "-13", "\xe9", ""):
        reply = ask(server, upgrade(sec_websocket_version=version))
        assert (reply.status, reply.headers["sec-websocket-version"]) == (426, "13")


def test_an_unwanted_origin_is_refused() -> None:
    """Step 4, /origin/: "If the server does not wish to accept this connection, it MUST return
    an appropriate HTTP error code (e.g., 403 Forbidden)"."""
    with running(app, ws_origins="https://a.example") as server:
        assert ask(server, upgrade("Origin: https://b.example")).status == 403
        assert ask(server, upgrade("Origin: https://a.example")).status == 101


def test_a_service_that_is_not_available_is_refused(server: Running) -> None:
    """Step 4, /resource name/: "the server MUST send an appropriate HTTP error code (such as 404
    Not Found) and abort the WebSocket handshake"."""
    reply = ask(server, upgrade(target="/missing"))
    assert (reply.status, reply.body) == (404, b"nothing here")
    assert ask(server, upgrade(target="/denied")).status == 403


def test_the_subprotocol_is_one_of_the_client_s_or_none(server: Running) -> None:
    """Step 4, /subprotocol/: "The value chosen MUST be derived from the client's handshake";
    "if the server does not wish to agree to one of the suggested subprotocols, it MUST NOT send
    back a Sec-WebSocket-Protocol header field in its response"."""
    offer = "Sec-WebSocket-Protocol: chat, superchat"
    reply = ask(server, upgrade(offer, target="/superchat"))
    assert reply.headers["sec-websocket-protocol"] == "superchat"
    assert "sec-websocket-protocol" not in ask(server, upgrade(offer)).headers
    assert ask(server, upgrade(offer, target="/other")).status == 500
    assert ask(server, upgrade(target="/chat")).status == 500


@pytest.mark.parametrize(
    "offer", ["x-unknown", "permessage-bzip2; a=b", "x, y; z", "permessage-deflate; unknown"]
)
def test_extensions_not_listed_by_the_client_are_not_listed(server: Running, offer: str) -> None:
    """Step 4, /extensions/: "Extensions not listed by the client MUST NOT be listed"."""
    assert "sec-websocket-extensions" not in ask(server, upgrade()).headers
    reply = ask(server, upgrade(f"Sec-WebSocket-Extensions: {offer}"))
    assert reply.status == 101
    assert "sec-websocket-extensions" not in reply.headers


def test_the_response_has_everything_it_must_have(server: Running) -> None:
    """Step 5: "it MUST reply with a valid HTTP response indicating the following"."""
    with Client(server) as client:
        client.send(upgrade())
        reply = client.read()
        assert (reply.version, reply.status, reply.phrase) == (
            "HTTP/1.1",
            101,
            "Switching Protocols",
        )
        assert reply.headers["upgrade"] == "websocket"
        assert reply.headers["connection"] == "Upgrade"
        assert reply.headers["sec-websocket-accept"] == ACCEPT
        assert len(reply.headers) == len(reply.names)
        assert not {"content-length", "transfer-encoding"} & set(reply.headers)


def test_frames_are_masked_one_way_only(server: Running) -> None:
    """Section 5.1: "The server MUST close the connection upon receiving a frame that is not
    masked"; "A server MUST NOT mask any frames that it sends to the client"."""
    with RawWebSocket(server) as client:
        client.send(client_frame(TEXT, b"hello"))
        assert client.read_frame() == (TEXT, b"hello")  # which looks at the mask bit
        client.send(b"\x81\x05hello")
        assert client.close_code() == 1002
