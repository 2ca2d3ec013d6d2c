"""What a server must not accept (RFC 9110, RFC 9112): the status, the close, the next client.

Nothing behind a refused request is parsed, and the application never sees it.
"""

from __future__ import annotations

from typing import Any

import pytest

from ..toolkit.raw_http import Client, request
from ..toolkit.running import LOOPS, running

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def with_host(*lines: str, **kwargs: str) -> bytes:
    return request("Host: a", *lines, **kwargs)


def chunked(body: bytes) -> bytes:
    return with_host("Transfer-Encoding: chunked", method="POST") + body


# name -> (what is sent, the status that the RFC or common sense asks for)
REFUSED: dict[str, tuple[bytes, int]] = {
    # RFC 9112 section 2.2: message parsing.
    "bare LF ends the head": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "one bare LF": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "bare CR ends a line": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    "whitespace before the first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    "whitespace before the request line": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # Section 2.3 and RFC 9110 section 15.6.6: versions.
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2.0": (with_host(version="2.0"), 505),
    "HTTP/0.9": (with_host(version="0.9"), 505),
    "HTTP/3.1 without a Host": (request(version="3.1"), 505),
    "a version in lower case": (with_host().replace(b"HTTP", b"http"), 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "a version of two digits": (with_host(version="1.10"), 400),
    # Section 3: the request line.
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a tab between the words": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "whitespace at the end of the line": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "a method that is no token": (with_host(method="G(T"), 400),
    "a fragment in the target": (with_host(target="/a#b"), 400),
    "a space in the target": (with_host(target="/a b"), 400),
    "a control character in the target": (with_host(target="/a\x01"), 400),
    "a byte over 127 in the target": (with_host(target="/\xe9"), 400),
    "a target that is too long": (with_host(target="/" + "a" * 70_000), 414),
    "a request line without an end": (b"GET /" + b"a" * 70_000, 414),
    # Section 3.2: forms of the target.
    "no form of a target": (with_host(target="path"), 400),
    "the asterisk without OPTIONS": (with_host(target="*"), 400),
    "the authority without CONNECT": (with_host(target="a:80"), 400),
    "CONNECT": (with_host(target="a:80", method="CONNECT"), 501),
    "CONNECT with a path": (with_host(target="/a", method="CONNECT"), 501),
    "CONNECT with an absolute target": (with_host(target="http://a/", method="CONNECT"), 501),
    "CONNECT with an asterisk": (with_host(target="*", method="CONNECT"), 501),
    "CONNECT that upgrades": (
        with_host("Connection: Upgrade", "Upgrade: websocket", method="CONNECT"),
        501,
    ),
    "an absolute target without a host": (with_host(target="http:///path"), 400),
    "an absolute target with userinfo": (with_host(target="http://user@a/"), 400),
    "an absolute target of another scheme": (with_host(target="ftp://a/"), 400),
    # Section 3.2: Host.
    "no Host": (request(), 400),
    "no Host in HTTP/1.2": (request(version="1.2"), 400),
    "two Hosts": (with_host("Host: b"), 400),
    "the same Host twice": (with_host("Host: a"), 400),
    "two Hosts in HTTP/1.0": (with_host("Host: b", version="1.0"), 400),
    "an empty Host": (request("Host:"), 400),
    "a Host with userinfo": (request("Host: user@a"), 400),
    "a Host with a slash": (request("Host: a/b"), 400),
    "a Host with a space": (request("Host: a b"), 400),
    "a Host that is a list": (request("Host: a:80, b"), 400),
    "a Host with a port that is none": (request("Host: a:http"), 400),
    "a Host with half an address": (request("Host: [::1"), 400),
    "a Host with a query": (request("Host: a?b"), 400),
    "a Host with a byte over 127": (request("Host: \xe9"), 400),
    "a Host that is nearly an IPv6 address": (request("Host: [1:2]"), 400),
    "a Host with an address that is not escaped": (request("Host: [::1%eth0]"), 400),
    "an absolute target with a bad address": (with_host(target="http://[1:2]/"), 400),
    "a bad Host beside an absolute target": (request("Host: a b", target="http://a/"), 400),
    # Section 5: fields.
    "whitespace before the colon": (with_host("X : y"), 400),
    "a line without a colon": (with_host("X"), 400),
    "an empty name": (with_host(": y"), 400),
    "a name that is no token": (with_host("X(Y): z"), 400),
    "NUL in a value": (with_host("X: a\0b"), 400),
    **{
        f"the control character {octet:02x} in a value": (with_host(f"X: a{octet:c}b"), 400)
        for octet in (0x01, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
    },
    "a control character in front of a value": (with_host("X:\x1bb"), 400),
    "a control character behind a value": (with_host("X: b\x07"), 400),
    "a control character in a name": (with_host("X\x1b: b"), 400),
    "a control character in the method": (with_host(method="GE\x1bT"), 400),
    "a control character in a subprotocol": (
        with_host("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: a\x1bb"),
        400,
    ),
    "a folded line": (with_host("X: a", " b"), 400),
    "a folded Transfer-Encoding": (with_host("Transfer-Encoding:", "\tchunked"), 400),
    "a head over the limit": (with_host(*[f"X-{n}: {'a' * 1000}" for n in range(70)]), 431),
    "a head over the limit without an end": (with_host(*["X: " + "a" * 70_000])[:-4], 431),
    "10,000 headers": (with_host(*[f"X-{n}: a" for n in range(10_000)]), 431),
    "101 headers": (with_host(*["X: a"] * 100), 431),
    # Section 6: the body's length.
    "Content-Length and Transfer-Encoding": (
        with_host("Content-Length: 4", "Transfer-Encoding: chunked"),
        400,
    ),
    "Transfer-Encoding and Content-Length": (
        with_host("Transfer-Encoding: chunked", "Content-Length: 4"),
        400,
    ),
    "two lengths": (with_host("Content-Length: 4", "Content-Length: 5"), 400),
    "a list of lengths": (with_host("Content-Length: 4, 5"), 400),
    "a length with a sign": (with_host("Content-Length: +4"), 400),
    "a negative length": (with_host("Content-Length: -1"), 400),
    "a length in hexadecimal": (with_host("Content-Length: 0x4"), 400),
    "an empty length": (with_host("Content-Length:"), 400),
    "a length with an underscore": (with_host("Content-Length: 1_0"), 400),
    "a length of a hundred digits": (with_host("Content-Length: " + "9" * 100), 400),
    "a length over the limit of 64 bits": (with_host("Content-Length: " + "9" * 30), 400),
    "a coding that is not known": (with_host("Transfer-Encoding: gzip, chunked"), 501),
    "a coding that is not known, in lines": (
        with_host("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
        501,
    ),
    "a final coding that is not chunked": (with_host("Transfer-Encoding: chunked, gzip"), 400),
    "a coding that is not chunked": (with_host("Transfer-Encoding: identity"), 400),
    "chunked twice": (with_host("Transfer-Encoding: chunked, chunked"), 400),
    "chunked twice, in lines": (with_host(*["Transfer-Encoding: chunked"] * 2), 400),
    "an obfuscated coding": (with_host("Transfer-Encoding: xchunked"), 400),
    "a coding with a control": (with_host("Transfer-Encoding: \x0bchunked"), 400),
    "a coding between quotes": (with_host('Transfer-Encoding: "chunked"'), 400),
    "an empty coding": (with_host("Transfer-Encoding:"), 400),
    "an unknown coding and a length": (
        with_host("Transfer-Encoding: gzip, chunked", "Content-Length: 4"),
        400,
    ),
    "Transfer-Encoding in HTTP/1.0": (
        with_host("Transfer-Encoding: chunked", version="1.0"),
        400,
    ),
    # Section 7.1: chunks.
    "a chunk without a size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk size that is no number": (chunked(b"g\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk size with a sign": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk size with a prefix": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk size with an underscore": (chunked(b"1_0\r\n"), 400),
    "a chunk size of 17 digits": (chunked(b"10000000000000005\r\nhello\r\n"), 400),
    "whitespace before a chunk size": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk that is longer than its size": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    "a chunk that ends with other bytes than CRLF": (chunked(b"5\r\nhelloXX0\r\n\r\n"), 400),
    "a chunk that ends with LF": (chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    "a chunk size that ends with LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "a blank behind a chunk size": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400),
    "a tab behind a chunk size": (chunked(b"5\t\r\nhello\r\n0\r\n\r\n"), 400),
    "a blank behind the last chunk's size": (chunked(b"5\r\nhello\r\n0 \r\n\r\n"), 400),
    "a blank behind a chunk extension": (chunked(b"5;a \r\nhello\r\n0\r\n\r\n"), 400),
    "an extension without a name": (chunked(b"5;\r\nhello\r\n0\r\n\r\n"), 400),
    "an extension that is blank": (chunked(b"5; \r\nhello\r\n0\r\n\r\n"), 400),
    "two semicolons": (chunked(b"5;;a\r\nhello\r\n0\r\n\r\n"), 400),
    "a semicolon at the end": (chunked(b"5;a;\r\nhello\r\n0\r\n\r\n"), 400),
    "an extension with a value only": (chunked(b"5;=a\r\nhello\r\n0\r\n\r\n"), 400),
    "an extension with an empty value": (chunked(b"5;a=\r\nhello\r\n0\r\n\r\n"), 400),
    "an extension with half a quotation": (chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n'), 400),
    "an extension that ends in a backslash": (chunked(b'5;a="b\\"\r\nhello\r\n0\r\n\r\n'), 400),
    "an extension that is not a token": (chunked(b"5;a/b\r\nhello\r\n0\r\n\r\n"), 400),
    "a control character in a chunk extension": (chunked(b'5;a="\x1b"\r\nhello\r\n0\r\n\r\n'), 400),
    "bare CR in a chunk extension": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    "bare LF in a chunk extension": (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    "a huge chunk extension": (chunked(b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    "many chunk extensions": (chunked((b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 20), 400),
    "a trailer that ends with LF": (chunked(b"0\r\nX: y\n\r\n"), 400),
    "a trailer without a colon": (chunked(b"0\r\nX\r\n\r\n"), 400),
    "a trailer that folds": (chunked(b"0\r\nX: y\r\n z\r\n\r\n"), 400),
    "many trailers": (chunked(b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"), 400),
}

ACCEPTED: dict[str, bytes] = {
    "Host with a port": request("Host: a:80"),
    "Host with an empty port": request("Host: a:"),
    "Host that is an IPv6 address": request("Host: [::1]:80"),
    "Host that is an IPv4 address": request("Host: 127.0.0.1"),
    "Host that is an address of the future": request("Host: [v1.fe80::a+en1]:80"),
    "Host that has a zone": request("Host: [fe80::1%25eth0]"),
    "Host with a port of leading zeros": request("Host: a:0000000080"),
    "100 headers": with_host(*["X: a"] * 99),
    "a tab in a value": with_host("X: a\tb"),
    "HTTP/1.0 without a Host": request(version="1.0"),
    "HTTP/1.9 as the highest we know": with_host(version="1.9"),
    "an unknown method": with_host(method="BREW"),
    "the same length twice": with_host("Content-Length: 0", "Content-Length: 0"),
    "a coding in other letters": with_host("transfer-ENCODING: ChunKed") + b"0\r\n\r\n",
    "a head that is exactly at the limit": with_host("X: " + "a" * (65536 - len(with_host("X: ")))),
    "bytes over 127 in a value": with_host("X: \xe9"),
    "no space behind the colon": with_host("X:y"),
    "chunk extensions and trailers": (
        chunked(b'5;a=b;c="d \\" e" ;f\t= g ; h\r\nhello\r\n000;g\r\nX: y\r\nZ:\r\n\r\n')
    ),
}


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest) -> Any:
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            more = event["more_body"]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"served"})

    with running(app, request.param) as server:
        server.paths = paths
        yield server


@pytest.mark.parametrize("name", REFUSED)
def test_what_rfc_9112_forbids_is_refused(server: Any, name: str) -> None:
    sent, status = REFUSED[name]
    server.paths.clear()
    with Client(server) as client, Client(server) as other:
        client.send(sent + SMUGGLED)
        reply = client.read()
        assert reply.status == status
        assert reply.headers["connection"] == "close"
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert 0 < len(reply.body) < 200
        assert client.rest() == b"", "something behind a refused request was answered"
        assert other.get("/next").status == 200
    # A large body is not read at once, so the application is called before it is refused.
    assert server.paths[-1:] == ["/next"]
    assert server.paths[:-1] in ([], ["/"] if len(sent) > 65_536 else [])


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_rfc_9112_allows_is_served(server: Any, name: str) -> None:
    with Client(server) as client:
        client.send(ACCEPTED[name])
        assert client.read().status == 200


def test_a_refusal_says_why(server: Any) -> None:
    with Client(server) as client:
        client.send(request())
        assert client.read().body == b"Missing mandatory Host: header\n"
    with Client(server) as client:
        client.send(with_host("<script>" * 100))
        assert client.read().body == b"illegal header line\n"


def test_a_refused_head_request_gets_no_body(server: Any) -> None:
    with Client(server) as client:
        client.send(request("Host: a b", method="HEAD"))
        assert client.read(head_only=True).status == 400
        assert client.rest() == b""


def test_a_refusal_comes_behind_the_responses_to_what_came_before(server: Any) -> None:
    with Client(server) as client:
        client.send(with_host() + with_host() + request() + SMUGGLED)
        assert [client.read().status for _ in range(3)] == [200, 200, 400]
        assert client.rest() == b""


def test_a_broken_chunk_is_refused_before_its_line_ends(server: Any) -> None:
    for start in (b"5\n", b"5;" + b"a" * 4096, b"5\r\nhelloX1"):
        with Client(server) as client:
            client.send(chunked(start))
            assert client.read().status == 400


def test_a_broken_body_cuts_a_response_that_has_begun() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"too late"})

    with running(app) as server, Client(server) as client:
        client.send(chunked(b""))
        client.read_head()
        assert client.read_chunk() == b"begun"
        client.send(b"x\r\n")
        assert client.rest() == b""


def test_the_limit_of_a_head_can_be_set() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with running(app, h11_max_incomplete_event_size=256) as server:
        for size, status in ((200, 200), (300, 431)):
            with Client(server) as client:
                assert client.get("/", "X: " + "a" * size).status == status


def test_a_head_that_comes_too_slowly_is_answered_408() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with running(app, timeout_request_head=0.3) as server:
        with Client(server) as client:
            assert client.rest() == b""  # not a byte: not a word
        with Client(server) as client:
            client.get()
            client.send(b"GET / HTTP/1.1\r\n")
            for _ in range(10):
                if not client.is_silent(0.1):
                    break
                client.send(b"X: y\r\n")
            reply = client.read()
            assert (reply.status, reply.phrase) == (408, "Request Timeout")
            assert client.rest() == b""


def test_a_client_that_never_closes_is_cut_off_after_a_while() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("never called")

    with running(app) as server, Client(server) as client:
        client.send(request())
        assert client.read().status == 400
        assert client.rest() == b""  # the FIN, and we do not answer it
        server.wait_until(lambda: not server.server.serving.connections)
