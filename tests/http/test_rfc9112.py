"""RFC 9112 sections 2 to 9: every MUST of a server, sentence by sentence, each in raw bytes.

A case is a sentence, what is sent, the responses it must bring, and whether the
connection may go on. What RFC 9112 leaves open (MAY, SHOULD) is in the files beside it.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from ..toolkit.raw_http import Client, Reply, request
from ..toolkit.running import LOOPS_AND_PARSERS, Running, running

HOST = "Host: a.example"


def post(*lines: str, body: bytes = b"", target: str = "/", version: str = "1.1") -> bytes:
    return request(HOST, *lines, method="POST", target=target, version=version) + body


NEXT = request(HOST, target="/next")


def seen(reply: Reply) -> Any:
    """What the application saw of the request."""
    return json.loads(reply.body)


class Case(NamedTuple):
    """``statuses`` answer ``sent``; then the connection ends, or (``goes_on``) serves another."""

    section: str
    sentence: str
    sent: bytes
    statuses: tuple[int, ...]
    goes_on: bool = False
    holds: Callable[[list[Reply]], bool] = lambda replies: True


def clean_head(reply: Reply) -> bool:
    return all(
        not (set(line) & {"\r", "\n", "\0"}) for pair in reply.headers.items() for line in pair
    )


SUPERSET = (
    "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a "
    "superset of US-ASCII."
)
BARE_CR = (
    "A recipient of such a bare CR MUST consider that element to be invalid or replace each "
    "bare CR with SP before processing the element or forwarding the message."
)
NO_BARE_CR = (
    "A sender MUST NOT generate a bare CR (a CR character not immediately followed by LF) within "
    "any protocol elements other than the content."
)
LEADING = (
    "A recipient that receives whitespace between the start-line and the first header field MUST "
    "either reject the message as invalid or consume each whitespace-preceded line without further "
    "processing of it."
)
TOO_LONG = (
    "A server that receives a request-target longer than any URI it wishes to parse MUST respond "
    "with a 414 (URI Too Long) status code."
)
ONE_HOST = (
    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message "
    "that lacks a Host header field and to any request message that contains more than one Host "
    "header field line or a Host header field with an invalid field value."
)
ABSOLUTE_WINS = (
    "When an origin server receives a request with an absolute-form of request-target, the origin "
    "server MUST ignore the received Host header field (if any) and instead use the host "
    "information of the request-target."
)
ABSOLUTE = (
    "A server MUST accept the absolute-form in requests even though most HTTP/1.1 clients will "
    "only send the absolute-form to a proxy."
)
ASTERISK = (
    "When a client wishes to request OPTIONS for the server as a whole, the client MUST send only "
    '"*" as the request-target.'
)
PHRASE = (
    "A server MUST send the space that separates the status-code from the reason-phrase even when "
    "the reason-phrase is absent."
)
COLON = (
    "A server MUST reject, with a response status code of 400 (Bad Request), any received request "
    "message that contains whitespace between a header field name and colon."
)
NO_FOLD = "A sender MUST NOT generate a message that includes line folding."
FOLD = (
    "A server that receives an obs-fold in a request message that is not within a message/http "
    "container MUST either reject the message by sending a 400 (Bad Request), or replace each "
    "received obs-fold with one or more SP octets."
)
CHUNKED = (
    "A recipient MUST be able to parse the chunked transfer coding because it plays a crucial role "
    "in framing messages when the content size is not known in advance."
)
ONCE = "A sender MUST NOT apply the chunked transfer coding more than once to a message body."
NO_CODING_204 = (
    "A server MUST NOT send a Transfer-Encoding header field in any response with a status code of "
    "1xx (Informational) or 204 (No Content)."
)
NO_CODING_10 = (
    "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding "
    "request indicates HTTP/1.1 (or later minor revisions)."
)
BOTH = (
    "Regardless, the server MUST close the connection after responding to such a request to avoid "
    "the potential attacks."
)
OLD_CODING = (
    "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header "
    "field MUST treat the message as if the framing is faulty, even if a Content-Length is "
    "present, and close the connection after processing the message."
)
NOT_BOTH = (
    "A sender MUST NOT send a Content-Length header field in any message that contains a "
    "Transfer-Encoding header field."
)
NO_BODY = (
    "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No Content), "
    "or 304 (Not Modified) status code is always terminated by the first empty line after the "
    "header fields and thus cannot contain a message body or trailer section."
)
NOT_FINAL = (
    "If a Transfer-Encoding header field is present in a request and the chunked transfer coding "
    "is not the final encoding, the server MUST respond with the 400 (Bad Request) status code and "
    "then close the connection."
)
LENGTH = (
    "If a message is received without Transfer-Encoding and with an invalid Content-Length header "
    "field, then the message framing is invalid and the recipient MUST treat it as an "
    "unrecoverable error, unless all values of a comma-separated list are valid and the same."
)
UNRECOVERABLE = (
    "If the unrecoverable error is in a request message, the server MUST respond with a 400 (Bad "
    "Request) status code and then close the connection."
)
DECODE = "A recipient MUST be able to parse and decode the chunked transfer coding."
LARGE = (
    "Recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors "
    "due to integer conversion overflows or precision loss due to integer representation."
)
EXTENSIONS = "A recipient MUST ignore unrecognized chunk extensions."
TRAILERS = (
    "A recipient MUST NOT merge a received trailer field into the header section unless its "
    "corresponding header field definition explicitly permits it."
)
READ_ALL = (
    "A server MUST read the entire request message body or close the connection after sending its "
    "response; otherwise, the remaining data on a persistent connection would be misinterpreted as "
    "the next request."
)
ORDER = (
    "It MUST send the corresponding responses in the same order that the requests were received."
)
CLOSE = (
    'A server that receives a "close" connection option MUST initiate closure of the connection '
    "after it sends the final response to the request that contained the option."
)
CLOSE_LAST = "The server MUST NOT process any further requests received on that connection."
SAYS_CLOSE = (
    'A server that sends a "close" connection option MUST initiate closure of the connection after '
    "it sends the response containing the option."
)

FIVE = b"5\r\nhello\r\n0\r\n\r\n"
TE = "Transfer-Encoding: chunked"

CASES = [
    Case(
        "2.2",
        SUPERSET,
        request(HOST, "X: caf\xc3\xa9"),
        (200,),
        True,
        lambda r: ["x", "caf\xc3\xa9"] in seen(r[0])["headers"],
    ),
    Case("2.2", SUPERSET, request(HOST, "X: \xe5\n\x80"), (400,)),
    Case("2.2", BARE_CR, request(HOST, "X: a\rEvil: b"), (400,)),
    Case("2.2", BARE_CR, b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("2.2", BARE_CR, b"GET / HTTP/1.1\r\rHost: a\r\n\r\n", (400,)),
    Case("2.2", NO_BARE_CR, request(HOST, target="/cr"), (500,)),
    Case(
        "2.2", NO_BARE_CR, request(HOST, target="/stream"), (200,), True, lambda r: clean_head(r[0])
    ),
    Case("2.2", LEADING, b"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n", (400,)),
    Case("2.2", LEADING, b"GET / HTTP/1.1\r\n\tX: a\r\nHost: b\r\n\r\n", (400,)),
    Case("3", TOO_LONG, request(HOST, target="/" + "a" * 70_000), (414,)),
    Case("3.2", ONE_HOST, request(), (400,)),
    Case("3.2", ONE_HOST, request(HOST, HOST), (400,)),
    Case("3.2", ONE_HOST, request(HOST, "Host: b.example"), (400,)),
    Case("3.2", ONE_HOST, request(HOST, "hOST: b.example", version="1.0"), (400,)),
    Case("3.2", ONE_HOST, request("Host: a b"), (400,)),
    Case("3.2", ONE_HOST, request("Host: user@a.example"), (400,)),
    Case("3.2", ONE_HOST, request("Host: a.example/path"), (400,)),
    Case("3.2", ONE_HOST, request("Host: a.example, b.example"), (400,)),
    Case(
        "3.2.2",
        ABSOLUTE_WINS,
        request("Host: b.example", target="http://c.example:81/p?q"),
        (200,),
        True,
        lambda r: seen(r[0])["host"] == "c.example:81" and seen(r[0])["path"] == "/p",
    ),
    Case(
        "3.2.2",
        ABSOLUTE,
        request(HOST, target="http://a.example/p"),
        (200,),
        True,
        lambda r: seen(r[0])["path"] == "/p",
    ),
    Case(
        "3.2.2",
        ABSOLUTE,
        request(HOST, target="HTTP://a.example"),
        (200,),
        True,
        lambda r: seen(r[0])["path"] == "/",
    ),
    Case(
        "3.2.4",
        ASTERISK,
        request(HOST, target="*", method="OPTIONS"),
        (200,),
        True,
        lambda r: seen(r[0])["path"] == "*",
    ),
    Case("4", PHRASE, request(HOST, target="/599"), (599,), True),
    Case("5.1", COLON, request(HOST, "X : y"), (400,)),
    Case("5.1", COLON, request(HOST, "X\t: y"), (400,)),
    Case("5.1", COLON, request(HOST, "Content-Length : 5") + b"hello", (400,)),
    Case("5.1", COLON, request(HOST, "Transfer-Encoding : chunked") + FIVE, (400,)),
    Case("5.2", NO_FOLD, request(HOST, target="/fold"), (500,)),
    Case("5.2", FOLD, request(HOST, "X: a", " b"), (400,)),
    Case("5.2", FOLD, request(HOST, "Transfer-Encoding:", " chunked") + FIVE, (400,)),
    Case(
        "6.1", CHUNKED, post(TE, body=FIVE), (200,), True, lambda r: seen(r[0])["body"] == "hello"
    ),
    Case(
        "6.1",
        ONCE,
        request(HOST, target="/chunked"),
        (200,),
        True,
        lambda r: r[0].names.count("transfer-encoding") == 1 and r[0].body == b"one two",
    ),
    Case(
        "6.1",
        NO_CODING_204,
        request(HOST, target="/204"),
        (204,),
        True,
        lambda r: "transfer-encoding" not in r[0].headers,
    ),
    Case(
        "6.1",
        NO_CODING_10,
        request(HOST, target="/stream", version="1.0"),
        (200,),
        False,
        lambda r: "transfer-encoding" not in r[0].headers and r[0].body == b"one two",
    ),
    Case(
        "6.1",
        NO_CODING_10,
        request(HOST, target="/chunked", version="1.0"),
        (200,),
        False,
        lambda r: "transfer-encoding" not in r[0].headers and r[0].body == b"one two",
    ),
    Case("6.1", BOTH, post(TE, "Content-Length: 5", body=FIVE), (400,)),
    Case("6.1", BOTH, post("Content-Length: 15", TE, body=FIVE), (400,)),
    Case("6.1", OLD_CODING, post(TE, body=FIVE, version="1.0"), (400,)),
    Case("6.1", OLD_CODING, post(TE, "Content-Length: 15", body=FIVE, version="1.0"), (400,)),
    Case(
        "6.2",
        NOT_BOTH,
        request(HOST, target="/both"),
        (200,),
        True,
        lambda r: "content-length" not in r[0].headers and r[0].body == b"one two",
    ),
    Case("6.3", NO_BODY, request(HOST, method="HEAD"), (200,), True, lambda r: not r[0].body),
    Case("6.3", NO_BODY, request(HOST, target="/204"), (204,), True, lambda r: not r[0].body),
    Case("6.3", NO_BODY, request(HOST, target="/304"), (304,), True, lambda r: not r[0].body),
    Case("6.3", NOT_FINAL, post("Transfer-Encoding: chunked, gzip", body=FIVE), (400,)),
    Case("6.3", NOT_FINAL, post("Transfer-Encoding: gzip", body=b"hello"), (400,)),
    Case(
        "6.3",
        NOT_FINAL,
        post("Transfer-Encoding: identity", "Content-Length: 5", body=b"hello"),
        (400,),
    ),
    Case(
        "6.3",
        LENGTH,
        post("Content-Length: 5, 5", body=b"hello"),
        (200,),
        True,
        lambda r: seen(r[0])["body"] == "hello",
    ),
    Case(
        "6.3",
        LENGTH,
        post("Content-Length: 5", "Content-Length: 5", body=b"hello"),
        (200,),
        True,
        lambda r: seen(r[0])["body"] == "hello",
    ),
    *[
        Case("6.3", UNRECOVERABLE, post(f"Content-Length: {value}", body=b"hello"), (400,))
        for value in ("5, 6", "+5", "-5", "0x5", "5 5", "5;", "5.0", "", "\xb2", "1" * 40)
    ],
    Case(
        "6.3", UNRECOVERABLE, post("Content-Length: 5", "Content-Length: 6", body=b"hello"), (400,)
    ),
    Case(
        "7.1",
        DECODE,
        post(TE, body=b"2\r\nhe\r\n003\r\nllo\r\n00\r\n\r\n"),
        (200,),
        True,
        lambda r: seen(r[0])["body"] == "hello",
    ),
    Case(
        "7.1",
        DECODE,
        post(TE, body=b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
        (200,),
        True,
        lambda r: seen(r[0])["body"] == "0123456789" * 2,
    ),
    Case("7.1", LARGE, post(TE, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n"), (400,)),
    Case("7.1", LARGE, post(TE, body=b"100000005\r\nhello\r\n0\r\n\r\n", target="/early"), (200,)),
    Case("7.1", LARGE, post(TE, body=b"-5\r\nhello\r\n0\r\n\r\n"), (400,)),
    Case(
        "7.1.1",
        EXTENSIONS,
        post(TE, body=b'5;name="va;lue" ; x=y\r\nhello\r\n0;z\r\n\r\n'),
        (200,),
        True,
        lambda r: seen(r[0])["body"] == "hello",
    ),
    Case(
        "7.1.2",
        TRAILERS,
        post(TE, body=b"5\r\nhello\r\n0\r\nX-Late: y\r\nHost: evil\r\n\r\n"),
        (200,),
        True,
        lambda r: "late" not in r[0].body.decode() and "evil" not in r[0].body.decode(),
    ),
    Case("9.3", READ_ALL, post("Content-Length: 5", body=b"hello", target="/early"), (200,), True),
    Case("9.3", READ_ALL, post(TE, body=FIVE, target="/early"), (200,), True),
    Case("9.3", READ_ALL, post("Content-Length: 1000000", body=NEXT, target="/early"), (200,)),
    Case(
        "9.3.2",
        ORDER,
        request(HOST, target="/slow") + request(HOST, target="/fast"),
        (200, 200),
        True,
        lambda r: [seen(reply)["path"] for reply in r] == ["/slow", "/fast"],
    ),
    Case("9.6", CLOSE, request(HOST, "Connection: close"), (200,)),
    Case("9.6", CLOSE, request(HOST, "Connection: x, CLOSE"), (200,)),
    Case("9.6", CLOSE, request(HOST, "Connection: x", "connection: close"), (200,)),
    Case("9.6", CLOSE_LAST, request(HOST, "Connection: close") + NEXT, (200,)),
    Case(
        "9.6",
        SAYS_CLOSE,
        request(HOST, target="/close"),
        (200,),
        False,
        lambda r: r[0].headers["connection"] == "close",
    ),
    Case("9.6", CLOSE_LAST, request(HOST, target="/close") + NEXT, (200,)),
]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it saw of a request; some paths ask for a response of a certain form."""
    path = scope["path"]
    body = b""
    while path not in ("/early", "/slow"):
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    if path in ("/204", "/304", "/599"):
        start["status"] = int(path[1:])
    start["headers"] = {
        "/cr": [(b"x", b"a\rb")],
        "/fold": [(b"x", b"a\r\n b")],
        "/chunked": [(b"transfer-encoding", b"chunked")],
        "/both": [(b"transfer-encoding", b"chunked"), (b"content-length", b"7")],
        "/close": [(b"connection", b"close")],
    }.get(path, [])
    await send(start)
    if path in ("/stream", "/chunked", "/both"):
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b" two"})
        return
    headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    seen = {"path": path, "host": dict(headers).get("host"), "headers": headers}
    answer = json.dumps({**seen, "body": body.decode("latin-1")}).encode()
    await send({"type": "http.response.body", "body": b"" if path == "/204" else answer})


@pytest.fixture(scope="module", params=LOOPS_AND_PARSERS, ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    loop, parser = request.param
    with running(app, loop, http=parser, timeout_keep_alive=1.0) as server:
        yield server


def name_of(case: Case) -> str:
    return f"{case.section}: {case.sentence[:40]} {case.sent[:20]!r}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_server_must(server: Running, case: Case) -> None:
    method = case.sent.split(b" ", 1)[0]
    with Client(server) as client:
        client.send(case.sent)
        replies = [client.read(head_only=method == b"HEAD") for _ in case.statuses]
        assert [reply.status for reply in replies] == list(case.statuses), case.sentence
        assert case.holds(replies), case.sentence
        if case.goes_on:
            assert seen(client.get("/next"))["path"] == "/next"
        else:
            assert client.rest() == b"", "a request behind the last one was answered"
            assert replies[-1].headers.get("connection", "close") == "close"
    with Client(server) as other:
        assert other.get("/next").status == 200


def test_an_interim_response_has_no_framing(server: Running) -> None:
    with Client(server) as client:
        client.send(post(TE, "Expect: 100-continue"))
        interim = client.read()
        assert (interim.status, interim.names) == (100, []), NO_CODING_204
        client.send(FIVE)
        assert seen(client.read())["body"] == "hello"


def test_a_body_that_stops_short_is_incomplete_and_the_connection_closes(server: Running) -> None:
    """Section 6.3: "If the sender closes the connection or the recipient times out before the
    indicated number of octets are received, the recipient MUST consider the message to be
    incomplete and close the connection." """
    with Client(server) as client:
        client.send(post("Content-Length: 100", body=b"hello"))
        client.finish()
        assert b"hello" not in client.rest()


def test_tls_ends_with_a_closure_alert(tmp_path: Path) -> None:
    """Section 9.8: "Servers MUST attempt to initiate an exchange of closure alerts with the
    client before closing the connection." """
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = tmp_path / "cert.pem"
    pem.write_bytes(
        certificate.private_key_pem.bytes()
        + b"".join(part.bytes() for part in certificate.cert_chain_pems)
    )
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    with running(app, ssl_certfile=str(pem)) as server:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        # Without this a connection that is merely cut reads like one that ended.
        with trusting.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as tls:
            tls.sendall(request(HOST, "Connection: close"))
            received = b""
            while piece := tls.recv(65536):
                received += piece
            assert received.startswith(b"HTTP/1.1 200 ")
