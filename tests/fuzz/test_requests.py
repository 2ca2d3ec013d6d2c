"""The heads of requests before both parsers: the same head, or the same refusal.

h11 is the reference. With httptools before it no request may mean anything else, be it
one that servers have disagreed about, one of RFC 9112's, or one that is made up here.
Nor with a parser that is not strict at all: no version of httptools is trusted.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..http.test_rfc6455_handshake import BROKEN
from ..http.test_rfc9112 import CASES
from ..toolkit.builds import BUILDS
from .smuggling import ODD_HEADS, with_every_byte
from .targets import judged, requests


@pytest.mark.parametrize("stream", ODD_HEADS)
def test_a_request_that_others_disagree_about_has_one_meaning(stream: bytes) -> None:
    requests(stream)


def test_any_byte_around_a_field_that_frames_a_body_has_one_meaning() -> None:
    for stream in with_every_byte():
        requests(stream)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.section)
def test_what_rfc_9112_speaks_of_has_one_meaning(case: object) -> None:
    requests(case.sent)  # type: ignore[attr-defined]


def test_a_broken_opening_handshake_has_one_meaning() -> None:
    for case in BROKEN:
        requests(case.sent)


PIECES = [
    *(b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b",", b"\0", b"\x0b", b"\x7f", b"\xff", b";", b"#"),
    *(b"Host: b", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close"),
    *(b"Upgrade: websocket", b"Connection: Upgrade", b"chunked", b"HTTP/1.1", b"GET ", b"\r\n\r\n"),
]
edits = st.lists(
    st.tuples(
        st.integers(0, 300), st.integers(0, 3), st.sampled_from(PIECES) | st.binary(max_size=2)
    ),
    max_size=4,
)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(ODD_HEADS), min_size=1, max_size=3), edits)
def test_requests_that_are_made_up_have_one_meaning(
    streams: list[bytes], edits: list[tuple[int, int, bytes]]
) -> None:
    stream = bytearray(b"".join(streams))
    for place, gone, piece in edits:
        at = place % (len(stream) + 1)
        stream[at : at + gone] = piece
    requests(bytes(stream))


tchar = st.sampled_from("!#$%&'*+-.^_`|~09azAZ").map(str.encode)
blanks = st.sampled_from([b"", b" ", b" ", b" ", b"\t", b"  "])
names = st.lists(tchar, min_size=1, max_size=8).map(b"".join) | st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect"]
)
values = st.binary(max_size=8) | st.sampled_from([b"a", b"5", b"chunked", b"close", b"upgrade"])
fields = st.builds(lambda *parts: b"".join(parts), names, st.just(b":"), blanks, values, blanks)
targets = st.binary(max_size=6).map(lambda tail: b"/" + tail) | st.sampled_from(
    [b"/", b"*", b"http://a/", b"a:1"]
)
methods = st.sampled_from([b"GET", b"POST", b"CONNECT", b"OPTIONS", b"SOURCE", b"X", b"PRI"])
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"RTSP/1.0"])


@settings(max_examples=400)
@given(st.lists(st.tuples(methods, targets, versions, st.lists(fields, max_size=5)), max_size=3))
def test_requests_of_the_grammar_have_one_meaning(
    made: list[tuple[bytes, bytes, bytes, list[bytes]]],
) -> None:
    stream = b""
    for method, target, version, lines in made:
        first = b" ".join((method, target, version))
        stream += b"\r\n".join([first, b"Host: a", *lines, b"", b""])
    requests(stream)


def test_the_fuzzer_sees_good_requests_and_bad_ones() -> None:
    for package in BUILDS.values():
        ends = [judged(package, stream, "httptools")[-2] for stream in ODD_HEADS]
        good = sum(type(end) is list for end in ends)
        assert 40 < good < len(ends) - 60
