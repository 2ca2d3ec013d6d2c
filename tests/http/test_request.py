"""Requests and responses as bytes: the parts of HTTP that know no socket."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgiws.errors import RequestRefused
from asgiws.http.bodies import ChunkedBody, SizedBody
from asgiws.http.request import parse


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
