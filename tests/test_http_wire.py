"""Requests and responses as bytes: the parts of HTTP that know no socket."""

from __future__ import annotations

import itertools
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgiws.errors import ASGIError
from asgiws.http.request import ChunkedBody, RequestRefused, SizedBody, parse
from asgiws.http.response import Response, error_response


def read_in_pieces(
    body: SizedBody | ChunkedBody, data: bytes, cuts: list[int]
) -> tuple[bytes, bytes]:
    """What ``body`` takes of ``data`` when it arrives cut, and what it leaves."""
    buffer = bytearray()
    taken = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        buffer += data[start:end]
        if not body.complete:
            taken += body.read(buffer)
    return taken, bytes(buffer)


cuts = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.binary(), st.binary(), cuts)
def test_a_sized_body_ends_where_its_length_says(
    content: bytes, behind: bytes, cuts: list[int]
) -> None:
    body = SizedBody(len(content))
    assert read_in_pieces(body, content + behind, cuts) == (content, behind)
    assert body.complete


@given(st.lists(st.binary(min_size=1)), st.binary(), cuts)
def test_a_chunked_body_may_be_cut_anywhere(
    chunks: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    data = b"".join(b"%X;x=y\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    body = ChunkedBody()
    whole = data + b"0\r\nTrailer: z\r\n\r\n" + behind
    assert read_in_pieces(body, whole, cuts) == (b"".join(chunks), behind)
    assert body.complete


@given(st.binary(max_size=40), cuts)
def test_garbage_is_a_broken_body_or_one_that_is_not_complete_yet(
    garbage: bytes, cuts: list[int]
) -> None:
    body = ChunkedBody()
    try:
        taken, left = read_in_pieces(body, garbage, cuts)
    except RequestRefused:
        return
    assert len(taken) + len(left) <= len(garbage)
    assert body.complete or not left.count(b"\n")


def test_ten_thousand_tiny_chunks_in_one_read_are_one_piece() -> None:
    buffer = bytearray(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
    body = ChunkedBody()
    assert body.read(buffer) == b"x" * 10_000
    assert body.complete
    assert not buffer


fragments = st.sampled_from(
    [
        *(
            "GET",
            "HEAD",
            "M-SEARCH",
            "get",
            "G\u00c9T",
            "/",
            "/a?b",
            "*",
            "http://a/",
            "/\xe9",
            "/a b",
        ),
        *("HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", " ", "  ", "\t", "\r\n", ":"),
        *("Host: a", "Host: b", "host : a", "Content-Length: 5", "Content-Length: 5, 5"),
        *("Content-Length: +5", "Content-Length: 5\xb2", "Transfer-Encoding: chunked", "X: y"),
        *("X-\xe9: y", "X: \x0b", "X:\0", "X:\xff\t", ": y", "Connection: close", "\r", "\n"),
    ]
)
ordinary_lines = st.sampled_from(
    [
        "Host: a",
        "X: y",
        "Content-Length: 5",
        "x-UPPER:y ",
        "Cookie: \xe9;\ta",
        "Expect: 100-continue",
    ]
)


@given(
    st.one_of(
        st.lists(ordinary_lines, max_size=5).map(
            lambda lines: "GET /a HTTP/1.1\r\n" + "\r\n".join(lines)
        ),
        st.tuples(st.lists(ordinary_lines, max_size=3), fragments).map(
            lambda some: "\r\n".join(["POST / HTTP/1.1", *some[0], some[1]])
        ),
        st.lists(fragments).map("".join),
        st.text(st.characters(max_codepoint=255)),
    )
)
def test_whatever_comes_is_a_request_or_refused(text: str) -> None:
    head = (text + "\r\n\r\n").encode("latin-1")
    status = 200
    try:
        request = parse(head)
    except RequestRefused as exc:
        status = exc.status
    else:
        assert request.http_version in ("1.0", "1.1")
        assert all(name == name.lower() for name, _ in request.headers)
    assert status in (200, 400, 431, 501, 505)


def test_a_request_is_taken_apart() -> None:
    request = parse(
        b"PUT /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\nX-A:  b \r\n"
        b"Connection: x, Close\r\nExpect: 100-Continue\r\nUpgrade: y\r\n\r\n"
    )
    assert (request.method, request.target, request.http_version) == (b"PUT", b"/a?b", "1.1")
    assert request.headers[2] == (b"x-a", b"b")
    assert isinstance(request.body, SizedBody)
    assert request.body.left == 7
    assert (request.keep_alive, request.continues, request.upgrade) == (False, True, True)


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        ("HTTP/1.1\r\nHost: a", True),
        ("HTTP/1.1\r\nHost: a\r\nConnection: keep-alive", True),
        ("HTTP/1.1\r\nHost: a\r\nConnection: closed", True),
        ("HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close", False),
        ("HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_a_connection_persists_unless_the_client_says_otherwise(
    lines: str, keep_alive: bool
) -> None:
    assert parse(f"GET / {lines}\r\n\r\n".encode()).keep_alive is keep_alive


# Responses, with h11's client as the judge of what they mean.


def judge(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes, Any]:
    """The head, the body and the client's state after ``data`` and the end of the connection."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(b"")
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert isinstance(event, h11.EndOfMessage)
            return head, body, client.states[h11.SERVER]


def written(
    pieces: list[bytes],
    status: int = 200,
    headers: Any = (),
    method: bytes = b"GET",
    version: str = "1.1",
    keep_alive: bool = True,
) -> bytes:
    response = Response(method, version, keep_alive, lambda given: b"date: today\r\n")
    response.start(status, headers)
    parts = [response.body(piece, True) for piece in pieces[:-1]]
    parts.append(response.body(pieces[-1], False))
    assert response.complete
    return b"".join(piece for part in parts for piece in part)


@given(
    st.lists(st.binary(), min_size=1),
    st.sampled_from([200, 204, 304, 404, 599, 999]),
    st.sampled_from([b"GET", b"HEAD"]),
    st.sampled_from(["1.0", "1.1"]),
    st.sampled_from(["nothing", "content-length", "transfer-encoding"]),
    st.booleans(),
)
def test_whatever_is_sent_arrives(
    pieces: list[bytes], status: int, method: bytes, version: str, framing: str, keep_alive: bool
) -> None:
    content = b"".join(pieces)
    headers = {
        "nothing": [],
        "content-length": [(b"Content-Length", b"%d" % len(content))],
        "transfer-encoding": [(b"Transfer-Encoding", b"chunked"), (b"content-length", b"999")],
    }[framing]
    keep_alive = keep_alive and version == "1.1"
    data = written(pieces, status, headers, method, version, keep_alive)
    head, body, state = judge(data, method.decode())
    assert head.status_code == status
    assert body == (b"" if method == b"HEAD" or status in (204, 304) else content)
    assert (state is h11.DONE) is keep_alive
    if status == 204:
        assert {b"content-length", b"transfer-encoding"}.isdisjoint(dict(head.headers))
    if version == "1.0":
        assert b"transfer-encoding" not in dict(head.headers)


def test_a_whole_response_is_one_head_and_its_body() -> None:
    assert written([b"hello"], headers=[(b"X-A", b"b")]) == (
        b"HTTP/1.1 200 OK\r\nx-a: b\r\ndate: today\r\ncontent-length: 5\r\n\r\nhello"
    )


def test_a_status_without_a_phrase_has_none() -> None:
    assert written([b""], 299).startswith(b"HTTP/1.1 299 \r\n")


def test_the_connection_closes_if_the_application_says_so() -> None:
    response = Response(b"GET", "1.1", True, lambda given: b"")
    response.start(200, [(b"connection", b"x , CLOSE")])
    assert b"connection: close" not in b"".join(response.body(b"", False))
    assert not response.keep_alive
    assert (
        written([b""], headers=[(b"connection", b"upgrade")], keep_alive=False).count(
            b"connection: "
        )
        == 2
    )


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\rb")],
        [(b"x", b"\0")],
        [(b"x", b"\x7f")],
        [(b"x", b"\x1b[0m")],
        [(b"x y", b"")],
        [(b"x\r\ny", b"")],
        [(b"x:", b"")],
        [(b"\xe9", b"")],
        [(b"", b"")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"")],
        [(b"content-length", b"1, 1")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [("x", "y")],
        [(b"x", "y")],
        [(b"x", None)],
        [(b"x",)],
        [b"x"],
        None,
        5,
    ],
)
def test_headers_that_may_not_be_sent_are_refused(headers: Any) -> None:
    response = Response(b"GET", "1.1", True, lambda given: b"")
    with pytest.raises(ASGIError, match="expected"):
        response.start(200, headers)
    assert not response.status


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_no_header_makes_more_lines_than_one(headers: list[tuple[bytes, bytes]]) -> None:
    response = Response(b"HEAD", "1.1", True, lambda given: b"")
    try:
        response.start(200, headers)
    except ASGIError:
        return
    head = b"".join(response.body(b"", False))
    assert (
        head.count(b"\n")
        == head.count(b"\r\n")
        == 2 + len([name for name, _ in headers if name.lower() != b"transfer-encoding"])
    )


def test_a_body_may_be_any_kind_of_bytes() -> None:
    for body in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert written([body]).endswith(b"content-length: 3\r\n\r\nabc")  # type: ignore[list-item]


def test_headers_may_hold_tabs_and_bytes_over_127() -> None:
    assert b"x: a\tb\xe9\r\n" in written([b""], headers=[(b"x", b"a\tb\xe9")])


def test_an_error_of_the_server_s_own_is_one_line_of_text() -> None:
    data = error_response(b"GET", 426, "", [(b"sec-websocket-version", b"13")], lambda given: b"")
    head, body, _ = judge(data)
    assert (head.status_code, body) == (426, b"Upgrade Required\n")
    assert dict(head.headers)[b"connection"] == b"close"
    assert dict(head.headers)[b"sec-websocket-version"] == b"13"
    assert judge(error_response(b"HEAD", 400, "why", [], lambda given: b""), "HEAD")[1] == b""
