"""The bodies of requests, unframed: where they end, and what their framing may cost."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS


def read_whole(package: ModuleType, data: bytes) -> tuple[Any, bytes]:
    """What a chunked body gives of ``data``, or what it is refused with; and what it leaves."""
    body = package.http.bodies.ChunkedBody()
    buffer = bytearray(data)
    try:
        return (body.read(buffer), body.complete), bytes(buffer)
    except package.errors.RequestRefused as exc:
        return (exc.status, exc.reason), b""


def read_byte_by_byte(package: ModuleType, data: bytes) -> Any:
    body = package.http.bodies.ChunkedBody()
    buffer = bytearray()
    taken = b""
    for octet in data:
        buffer.append(octet)
        taken += body.read(buffer)
        if body.complete:
            break
    return taken, body.complete


@pytest.mark.parametrize(
    "extension",
    [
        b";a",
        b";a=b",
        b' ; a = "b"',
        b"\t;a\t=\tb;c",
        b';a=""',
        b';a="\\"\\\\;=\\\t"',
        b';a="\xe9"',
        b";a" * 2000,
    ],
)
def test_an_extension_is_ignored_wherever_it_is_cut(package: ModuleType, extension: bytes) -> None:
    # RFC 9112 section 7.1.1.
    data = b"5%b\r\nhello\r\n0%b\r\nX: y\r\n\r\n" % (extension, extension)
    assert read_whole(package, data) == ((b"hello", True), b"")
    assert read_byte_by_byte(package, data) == (b"hello", True)


@given(st.text('0123456789abcF;= \t"\\x\r\n', max_size=30))
def test_both_builds_read_a_line_alike_whole_or_cut(text: str) -> None:
    data = b"1" + text.encode() + b"\r\nx\r\n0\r\n\r\n"
    read = [read_whole(package, data) for package in BUILDS.values()]
    assert all(result == read[0] for result in read)


def test_the_longest_line_is_counted_with_its_end(package: ModuleType) -> None:
    longest = package.http.bodies.MAX_CHUNK_LINE
    fits = b"1;" + b"a" * (longest - 4) + b"\r\nx\r\n"
    assert read_whole(package, fits) == ((b"x", False), b"")
    for data in (b"1;a" + fits[2:], b"1;" + b"a" * longest):
        refused, _ = read_whole(package, data)
        assert refused == (400, "a line of the chunked framing is too long")


def test_a_chunk_may_come_without_its_end_and_the_end_later(package: ModuleType) -> None:
    body = package.http.bodies.ChunkedBody()
    buffer = bytearray(b"5\r\nhello")
    assert body.read(buffer) == b"hello"
    buffer += b"\r"
    assert body.read(buffer) == b""
    buffer += b"\n0\r\n\r\nbehind"
    assert body.read(buffer) == b""
    assert body.complete
    assert buffer == b"behind"
