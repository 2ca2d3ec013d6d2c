"""Bytes to the raw head of a request: where it ends, and which bytes it may hold."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS

LIMIT = 1000
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("behind", [b"", b"x", HEAD, b"\r\n"])
def test_a_head_ends_with_an_empty_line(package: ModuleType, behind: bytes) -> None:
    buffer = bytearray(HEAD + behind)
    assert package.http.heads.head_size(buffer, 0, LIMIT) == len(HEAD)
    assert buffer == HEAD + behind


def test_a_head_that_is_not_complete_has_no_size(package: ModuleType) -> None:
    for size in range(len(HEAD)):
        buffer = bytearray(HEAD[:size])
        assert package.http.heads.head_size(buffer, max(0, size - 4), LIMIT) == 0


def test_empty_lines_before_a_head_are_dropped(package: ModuleType) -> None:
    buffer = bytearray(b"\r\n\r\n" + HEAD)
    assert package.http.heads.head_size(buffer, 0, LIMIT) == len(HEAD)
    assert buffer == HEAD


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * LIMIT, 414),
        (HEAD[:-2] + b"X: " + b"a" * LIMIT, 431),
        (HEAD[:-2] + b"X: " + b"a" * LIMIT + b"\r\n\r\n", 431),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\n", 400),
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(
    package: ModuleType, data: bytes, status: int
) -> None:
    with pytest.raises(package.errors.RequestRefused) as caught:
        package.http.heads.head_size(bytearray(data), 0, LIMIT)
    assert caught.value.status == status


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_every_byte_of_a_value_is_judged(package: ModuleType, parser: str) -> None:
    # RFC 9110 section 5.5.
    first = package.http.heads.reader(parser)
    for octet in range(256):
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: a%cb\r\n\r\n" % octet
        if octet == 9 or 32 <= octet != 127:
            raw = package.http.heads.read_head(head, first)
            assert raw == (b"GET", b"/", b"1.1", [(b"host", b"a"), (b"x", b"a%cb" % octet)])
        else:
            with pytest.raises(package.errors.RequestRefused) as caught:
                package.http.heads.read_head(head, first)
            assert caught.value.status == 400
            said = "CRLF" if octet in b"\r\n" else "control character"
            assert said in caught.value.reason


def test_a_head_has_a_hundred_headers_at_most(package: ModuleType) -> None:
    most = package.http.heads.MAX_HEADERS
    head = b"GET / HTTP/1.1\r\n" + b"a:\r\n" * most + b"\r\n"
    # A request without a Host, which h11 refuses.
    for data, status in ((head, 400), (head[:-2] + b"a:\r\n\r\n", 431)):
        with pytest.raises(package.errors.RequestRefused) as caught:
            package.http.heads.read_head(data)
        assert caught.value.status == status
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * (most - 1) + b"\r\n"
    assert len(package.http.heads.read_head(head)[3]) == most


@given(st.lists(st.sampled_from([b"Host: a", b"X: y", b"\x1b: z", b"X:\x7f", b"X", b" y"])))
def test_both_builds_judge_alike(lines: list[bytes]) -> None:
    head = b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])
    verdicts = []
    for package in BUILDS.values():
        try:
            verdicts.append(package.http.heads.read_head(head))
        except package.errors.RequestRefused as exc:
            verdicts.append((exc.status, exc.reason))
    assert all(verdict == verdicts[0] for verdict in verdicts)


RAW = (b"GET", b"/", b"1.1", [(b"host", b"a")])
PLAIN = [
    HEAD,
    HEAD.replace(b"1.1", b"1.0"),
    HEAD.replace(b"Host", b"hOSt"),
    HEAD.replace(b"GET", b"DELETE"),
    HEAD[:-2] + b"Content-Length: 5\r\n\r\n",
    HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    HEAD[:-2] + b"Connection: close\r\n\r\n",
    HEAD[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    HEAD[:-2] + b"X: \xff y\r\nX: z\r\n\r\n",
]


def taken(reader: Any, head: bytes) -> Any:
    """What ``reader`` makes of it before h11 is asked."""
    return reader.read(head, sum((byte < 32 and byte != 9) or byte == 127 for byte in head))


def test_a_plain_head_is_read_without_h11_whatever_came_before_it(package: ModuleType) -> None:
    heads = package.http.heads
    reader = heads.reader("httptools")
    for before, head in itertools.product(PLAIN, repeat=2):
        assert taken(reader, before) == heads.read_head(before)
        assert taken(reader, head) == heads.read_head(head)


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b": ", b":"),
        HEAD.replace(b": a", b": a "),
        HEAD.replace(b"Host: a\r\n", b""),
        HEAD[:-2] + b"Host: a\r\n\r\n",
        HEAD[:-2] + b"X:\r\n\r\n",
        HEAD[:-2] + b"Content-Length: 5, 5\r\n\r\n",
        HEAD[:-2] + b"Content-Length: +5\r\n\r\n",
        HEAD[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD[:-2] + b"Transfer-Encoding: Chunked\r\n\r\n",
        HEAD.replace(b"1.1", b"1.2"),
        HEAD.replace(b"1.1", b"2.1"),
        HEAD.replace(b"HTTP", b"http"),
        HEAD.replace(b" /", b"  /"),
        HEAD.replace(b"/ ", b"/  "),
        HEAD.replace(b"/ ", b" "),
        HEAD.replace(b"GET ", b""),
        HEAD.replace(b"GET", b"G(T"),
        HEAD[:-2] + b"X :a\r\n\r\n",
        HEAD[:-2] + b": a\r\n\r\n",
        HEAD[:-2] + b"X: a\r\n b\r\n\r\n",
        HEAD[:-2] + b"X: \ta\r\n\r\n",
        HEAD[:-2] + b"X: a\0b\r\n\r\n",
        HEAD[:-2] + b"X: a\x7fb\r\n\r\n",
        HEAD[:-2] + b"X: a\rb\r\n\r\n",
        HEAD[:-2] + b"X: a\r\n" + b"X: a\n\r\n",
        HEAD[:-2] + b"X: a\n\n" + b"X: a\r\r\r\n",
        HEAD[:-2] + b"X: a\r\n" * 101 + b"\r\n",
        b"\r\n" + HEAD,
    ],
)
def test_what_is_not_plain_is_left_to_h11(package: ModuleType, head: bytes) -> None:
    reader = package.http.heads.reader("httptools")
    assert taken(reader, head) is None
    assert taken(reader, HEAD) == RAW


class Liar:
    """A parser that reports pieces of its own, whatever it is fed."""

    def __init__(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._answers = method, target, headers
        self._asks: Any = None

    def __call__(self, asks: Any) -> Liar:
        self._asks = asks
        return self

    def feed_data(self, _head: bytes) -> None:
        self._asks.on_url(self._answers[1])
        for name, value in self._answers[2]:
            self._asks.on_header(name, value)

    def get_method(self) -> bytes:
        return self._answers[0]


TWO = HEAD[:-2] + b"X: y\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"POST", b"/", [(b"Host", b"a"), (b"X", b"y")]),
        (b"GE", b"/", [(b"Host", b"a"), (b"X", b"y")]),
        (b"GET", b"/x", [(b"Host", b"a"), (b"X", b"y")]),
        (b"GET", b"", [(b"Host", b"a"), (b"X", b"y")]),
        (b"GET", b"/ HTTP/1.1\r\nHost:", [(b"Host", b"a"), (b"X", b"y")]),
        (b"GET", b"/", [(b"Host", b"a")]),
        (b"GET", b"/", [(b"Host", b"a\r\nX: y")]),
        (b"GET", b"/", [(b"Host", b"a"), (b"X", b"y"), (b"X", b"y")]),
        (b"GET", b"/", [(b"X", b"y"), (b"Host", b"a")]),
        (b"GET", b"/", [(b"Host", b"b"), (b"X", b"y")]),
        (b"GET", b"/", [(b"Host", b"a"), (b"X", b"")]),
        (b"GET", b"/", [(b"Host", b"a"), (b"X", b"y\r\n\r\n")]),
        (b"GET", b"/", [(b"Host", b"a"), (b"", b"y")]),
        (b"GET", b"/", [(b"Host", b"a"), (b"Xx", b"y")]),
    ],
)
def test_a_parser_is_not_believed(
    package: ModuleType, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    told = package.http.heads.Llhttp(Liar(method, target, headers), ())
    assert taken(told, TWO) is None
    truth = Liar(b"GET", b"/", [(b"Host", b"a"), (b"X", b"y")])
    assert taken(package.http.heads.Llhttp(truth, ()), TWO) is not None


@pytest.mark.parametrize("build", BUILDS)
def test_bytes_that_are_one_head_are_known(build: str) -> None:
    whole = BUILDS[build].http.heads.whole
    assert whole(HEAD, len(HEAD))
    assert not whole(HEAD, len(HEAD) - 1)
    for other in (b"", b"\r\n\r\n", HEAD[:-1], HEAD + b"x", HEAD + HEAD, b"\r\n" + HEAD):
        assert not whole(other, 1000)


def test_nothing_is_read_before_h11_if_h11_is_asked_for(package: ModuleType) -> None:
    assert package.http.heads.reader("h11") is None


def test_a_version_of_h11_that_nobody_has_compared_is_used_by_its_connection(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = package.http.heads
    made = []

    class Connection(h11.Connection):
        def __init__(self, role: Any) -> None:
            made.append(role)
            super().__init__(role)

    monkeypatch.setattr(h11, "Connection", Connection)
    assert heads.read_head(HEAD) == RAW
    assert not made
    monkeypatch.setattr(heads, "KNOWN_H11", False)
    assert heads.read_head(HEAD) == RAW
    assert made == [h11.SERVER]
