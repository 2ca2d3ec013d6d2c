"""Bytes to the raw head of a request: the only room that knows the parsers.

``h11.Connection`` is the reference: what it refuses is refused, and in its words. But most
heads never come to it, because they have the one plain form that leaves nothing to a parser:
every piece of it holds only the bytes it may hold, and single marks stand between them.
``Plain`` takes such a head apart. ``Llhttp``, which is httptools, believes nothing: what it
has read is written out again in the plain form, and taken if these are the very bytes that
came. All else, and all that is to be refused, h11 reads. So no two can disagree: a head has
one meaning, whatever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import h11

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..errors import RequestRefused
from ..wire.grammar import CONTROLS, TOKEN_CHARS, count, is_token, lowered, span, table, tokens

Headers = list[tuple[bytes, bytes]]
# The method, the target, the version as "1.1", and the headers with lower-cased names.
RawHead = tuple[bytes, bytes, bytes, Headers]

# httpd's and gunicorn's limit, too: each header costs the parser much more than its bytes.
MAX_HEADERS: Final = 100

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
# What h11 takes for a Content-Length at most.
_MOST_DIGITS: Final = 20
_FRAMING_SIZES: Final = (len("content-length"), len("transfer-encoding"))
_VERSIONS: Final = (b"1.1", b"1.0")
_VISIBLE: Final = table(bytes(range(0x21, 0x7F)))  # what a target may hold
_VALUE: Final = bytes(1 - control for control in CONTROLS)  # what a header's value may hold
_CODINGS: Final = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")
_LENGTHS: Final = re.compile(rb"(?im)^content-length:")


def head_size(
    buffer: bytearray, searched: cython.Py_ssize_t, limit: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """How many bytes at the front of ``buffer`` are a request's head; 0 while it is not complete.

    Empty lines before it are dropped (RFC 9112 section 2.2). No head ends in the first
    ``searched`` bytes. Raises RequestRefused where it cannot become a good one, or
    is longer than ``limit``.
    """
    if buffer and buffer[0] == 13:
        del buffer[: _EMPTY_LINES.match(buffer).end()]  # type: ignore[union-attr]
    size = buffer.find(b"\r\n\r\n", searched) + 4
    if 4 <= size <= limit:
        return size
    if len(buffer) > limit:
        if buffer.find(b"\r\n", 0, limit) < 0:  # section 3
            raise RequestRefused(414, "the request's target is too long")
        raise RequestRefused(431, "the request's head is too long")
    if buffer and buffer[0] < 33 and buffer != b"\r":
        raise RequestRefused(400, "this is not a request")
    if _BARE_LF.search(buffer, searched):
        raise RequestRefused(400, "lines must end with CRLF")
    return 0


def whole(data: bytes, limit: cython.Py_ssize_t) -> bool:
    """Whether ``data`` is one head, no more and no less, and not longer than ``limit``."""
    size: cython.Py_ssize_t = len(data)
    return size <= limit and data.find(b"\r\n\r\n") == size - 4 >= 0 and data[0] > 32


def reader(name: str) -> Reader | None:
    """What ``read_head`` is to try first, by the name of a parser: plain, httptools or h11."""
    if name == "h11":
        return None
    if name == "plain":
        return Plain()
    import httptools

    errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
    return Llhttp(httptools.HttpRequestParser, errors)


class Reader:
    """What is asked before h11."""

    __slots__ = ()

    def read(self, head: bytes) -> RawHead | None:
        """Take a head apart; None where it is not plain: whether it is good, another must say."""
        raise NotImplementedError


class Plain(Reader):
    """Heads in the plain form, byte by byte."""

    __slots__ = ()

    def read(self, head: bytes) -> RawHead | None:
        """Take a head apart; None where it is not plain."""
        # No set holds the CR that ends every line, nor the NUL behind the last byte in memory.
        data: cython.p_const_uchar = head
        start: cython.Py_ssize_t
        at: cython.Py_ssize_t
        end: cython.Py_ssize_t
        hosts: cython.Py_ssize_t = 0
        framing = False
        end = span(head, 0, TOKEN_CHARS)
        start = end + 1
        at = span(head, start, _VISIBLE) if end and data[end] == 32 else start
        if at == start or head[at : at + 8] != b" HTTP/1." or head[at + 9 : at + 11] != b"\r\n":
            return None
        if data[at + 8] != 49 and data[at + 8] != 48:
            return None
        method = head[:end]
        target = head[start:at]
        version = b"1.1" if data[at + 8] == 49 else b"1.0"
        at += 11
        headers: Headers = []
        while data[at] != 13:
            start = at
            end = span(head, start, TOKEN_CHARS)
            if end == start or data[end] != 58 or data[end + 1] != 32:
                return None
            name = lowered(head, start, end)
            if end - start == 4:
                hosts += name == b"host"
            elif end - start == 14 or end - start == 17:
                framing = True  # perhaps
            start = end + 2
            at = span(head, start, _VALUE)
            if data[at] != 13 or data[at + 1] != 10:
                return None
            if at > start and (data[start] <= 32 or data[at - 1] <= 32):
                return None
            headers.append((name, head[start:at]))
            at += 2
        if hosts != 1 or len(headers) > MAX_HEADERS or (framing and not _frames_plainly(headers)):
            return None
        return (method, target, version, headers) if head[at:] == b"\r\n" else None


class Llhttp(Reader):
    """Heads by httptools, which is llhttp, the parser of Node; one at a time.

    ``make`` makes its parser, which may raise ``errors``. It need not be strict.
    """

    __slots__ = ("_errors", "_framing", "_headers", "_make", "_parser", "_persists", "_target")

    def __init__(self, make: Callable[[Any], Any], errors: tuple[type[Exception], ...]) -> None:
        self._make = make
        self._errors = errors
        self._parser: Any = None
        self._target = b""
        self._headers: Headers = []
        self._framing = False  # one of the headers says something about the message's length
        self._persists = False  # the parser is at the start of a message again

    def read(self, head: bytes) -> RawHead | None:
        """Take a head apart; None where it is not plain. Raises RequestRefused, see ``_lines``."""
        _lines(head)
        if not self._persists:
            self._parser = self._make(self)
        self._persists = False
        self._target = b""
        self._framing = False
        headers: Headers = []
        self._headers = headers
        try:
            self._parser.feed_data(head)
        except self._errors:
            pass  # an upgrade is one of them; a head that is refused is never whole
        target = self._target
        method: bytes = self._parser.get_method()
        at = len(method) + len(target) + 7
        version = head[at : at + 3]
        if not is_token(method) or version not in _VERSIONS:
            return None
        if not target or count(target, _VISIBLE) != len(target):
            return None
        parts = [method, b" ", target, b" HTTP/", version, b"\r\n"]
        hosts = 0
        for index, (name, value) in enumerate(headers):
            if not is_token(name):
                return None
            parts += (name, b": ", value, b"\r\n")
            name = name.lower()
            if name == b"host":
                hosts += 1
            headers[index] = (name, value)
        parts.append(b"\r\n")
        if b"".join(parts) != head or hosts != 1:
            return None
        if self._framing and not _frames_plainly(headers):
            return None
        return method, target, version, headers

    # What httptools calls.

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, as it was spelt."""
        if len(name) in _FRAMING_SIZES:
            self._framing = True
        self._headers.append((name, value.strip(b" \t")))

    def on_message_complete(self) -> None:
        """The head is whole, and no body follows."""
        self._persists = self._parser.should_keep_alive() and not self._parser.should_upgrade()


def _frames_plainly(headers: Headers) -> bool:
    """Whether at most one header tells the length of the body, as all agree on."""
    found = 0
    for name, value in headers:
        if name == b"content-length":
            found += 1
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                return False
        elif name == b"transfer-encoding":
            found += 1
            if value != b"chunked":
                return False
    return found <= 1


def _lines(head: bytes) -> int:
    """How many lines the head has; raises RequestRefused where none of its readers may read it."""
    lines = head.count(b"\r\n")
    if count(head, CONTROLS) != 2 * lines:
        if head.count(b"\n") != lines or head.count(b"\r") != lines:  # section 2.2
            raise RequestRefused(400, "lines must end with CRLF")
        raise RequestRefused(400, "there is a control character in it")  # RFC 9110 section 5.5
    if lines - 2 > MAX_HEADERS:
        raise RequestRefused(431, f"there are more than {MAX_HEADERS} headers")
    return lines


def read_head(head: bytes, first: Reader | None = None) -> RawHead:
    """Take a request's head apart, from its first byte to the empty line that ends it.

    ``first`` is tried first, if there is one. Raises RequestRefused where it is not a head
    by RFC 9112 sections 2 to 5, or by h11.
    """
    if first is not None:
        raw = first.read(head)
        if raw is not None:
            return raw
    lines = _lines(head)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        # h11's own frame holds the error that holds the frame, and everything below it.
        exc.__traceback__ = None
        status = exc.error_status_hint
        reason = str(exc).partition(": b")[0]  # not what the client sent, which h11 quotes
        raise RequestRefused(_coding_status(head) if status == 501 else status, reason) from None
    assert type(event) is h11.Request
    headers = [(name.lower(), value) for name, value in event.headers.raw_items()]
    if len(headers) != lines - 2 and (b"\n " in head or b"\n\t" in head):  # section 5.2
        raise RequestRefused(400, "a header must stand on one line")
    return event.method, event.target, event.http_version, headers


def _coding_status(head: bytes) -> int:
    """What to answer to codings that h11 does not know (section 6.3, item 4).

    501 where the body's length can be told, because chunked is the last coding.
    """
    codings = tokens(_CODINGS.findall(head))
    final = codings[-1:] == [b"chunked"] and codings.count(b"chunked") == 1
    return 501 if final and not _LENGTHS.search(head) else 400
