"""Bytes to the raw head of a request: the only room that knows the parsers.

``h11.Connection`` is the reference: a head that it refuses is refused, and in its words. With
httptools, which is faster, most heads never come to h11. The result of httptools is compared
with the bytes that came. It is taken if the bytes are its pieces in the one plain form that can be
read in one way only. h11 reads all other heads, and all that are to be refused. So the two cannot
disagree: a head has one meaning, whatever is installed.
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
from ..wire.grammar import CONTROLS, count, is_token, lowered, stands, table, tokens

# The function that reads a head is not public, and neither are its regular expressions. In these
# versions a connection (``Connection.next_event``) adds nothing to what the function refuses or
# returns; of any other version the connection is used, until somebody has compared the two and has
# added it here.
KNOWN_H11 = getattr(h11, "__version__", "") in ("0.16.0",)
if KNOWN_H11:
    from h11._readers import header_field_re, maybe_read_from_IDLE_client, request_line_re

    _REQUEST_LINE: Final = request_line_re.fullmatch
    _FIELD: Final = header_field_re.fullmatch

Headers = list[tuple[bytes, bytes]]
Pieces = list[bytes]  # the names and the values of headers in turn
# The method, the target, the version as "1.1", and the headers with lower-cased names.
RawHead = tuple[bytes, bytes, bytes, Headers]

# httpd's and gunicorn's limit, too: each header costs the parser much more than its bytes.
MAX_HEADERS: Final = 100
MOST_PIECES: Final = 2 * MAX_HEADERS

_SPELT: Final = (
    b"Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection "
    b"Content-Length Content-Type Cookie DNT Expect Forwarded Host If-Modified-Since "
    b"If-None-Match Origin Pragma Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile "
    b"Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User "
    b"Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version "
    b"TE Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Via X-Forwarded-For "
    b"X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP X-Request-ID"
).split()
# Usual names in lower case, by these, and by their usual spellings: they need not be looked at
# letter by letter, and stand once in memory, not once for each open connection.
_USUAL: Final = {name.lower(): name.lower() for name in _SPELT}
_USUAL.update({name: _USUAL[name.lower()] for name in _SPELT})
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
# The longest Content-Length that h11 takes.
_MOST_DIGITS: Final = 20
BLANK: Final = 32  # a value holds no smaller character but the tab
COLON: Final = 58
CR: Final = 13
LF: Final = 10
_VERSIONS: Final = (b"1.1", b"1.0")
_VISIBLE: Final = table(bytes(range(0x21, 0x7F)))  # the characters of a target
_CODINGS: Final = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")
_LENGTHS: Final = re.compile(rb"(?im)^content-length:")


def head_size(
    buffer: bytearray, searched: cython.Py_ssize_t, limit: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the size of the head at the front of ``buffer``; 0 while it is not complete.

    Empty lines before it are dropped (RFC 9112 section 2.2). No head ends in the first
    ``searched`` bytes. Raises RequestRefused if it cannot become a good head, or
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
        raise RequestRefused(400, "this is not an HTTP request")
    if _BARE_LF.search(buffer, searched):
        raise RequestRefused(400, "lines must end with CRLF")
    return 0


def whole(data: bytes, limit: cython.Py_ssize_t) -> bool:
    """Return whether ``data`` is one head, no more and no less, and not longer than ``limit``."""
    size: cython.Py_ssize_t = len(data)
    return size <= limit and data.find(b"\r\n\r\n") == size - 4 >= 0 and data[0] > 32


def reader(name: str) -> Llhttp | None:
    """The parser that ``read_head`` tries first, by its name: h11 or httptools."""
    if name == "h11":
        return None
    import httptools

    errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
    return Llhttp(httptools.HttpRequestParser, errors)


class Llhttp:
    """Heads by httptools, which is llhttp, the parser of Node; one at a time.

    ``make`` makes its parser, which may raise ``errors``. It need not be strict.
    """

    __slots__ = ("_errors", "_make", "_parser", "_persists", "_pieces", "_target")

    def __init__(self, make: Callable[[Any], Any], errors: tuple[type[Exception], ...]) -> None:
        self._make = make
        self._errors = errors
        self._parser: Any = None
        self._target = b""
        self._pieces: list[bytes] = []  # the names and the values of headers in turn
        self._persists = False  # the parser is at the start of a message again

    def read(self, head: bytes, controls: cython.Py_ssize_t) -> RawHead | None:
        """Take a head apart, in which there are so many control characters.

        None if h11 must decide about it: it is not in the plain form, or httptools has not read it
        as it stands. Every byte of it is compared.
        """
        at: cython.Py_ssize_t
        colon: cython.Py_ssize_t
        end: cython.Py_ssize_t
        index: cython.Py_ssize_t
        size: cython.Py_ssize_t = len(head)
        if not self._persists:
            self._parser = self._make(self)
        self._persists = False
        self._target = b""
        pieces: list[bytes] = []
        self._pieces = pieces
        try:
            self._parser.feed_data(head)
        except self._errors:
            pass  # an upgrade is one of them; a head that is refused is never whole
        target = self._target
        method: bytes = self._parser.get_method()
        if not is_token(method) or not target or count(target, _VISIBLE) != len(target):
            return None
        at = len(method)
        if not (stands(head, method, 0) and stands(head, b" ", at)):
            return None
        end = at + 1 + len(target)
        if not stands(head, target, at + 1):
            return None
        if stands(head, b" HTTP/1.1\r\n", end):
            version = b"1.1"
        elif stands(head, b" HTTP/1.0\r\n", end):
            version = b"1.0"
        else:
            return None
        # The ends of the lines are all of them, so no value goes on in another line.
        if controls != len(pieces) + 4:
            return None
        at = end + 11
        for index in range(0, len(pieces), 2):
            name = pieces[index]
            value = pieces[index + 1]
            colon = at + len(name)
            end = colon + 2 + len(value)
            if end + 2 > size or head[colon] != COLON or head[colon + 1] != BLANK:
                return None
            if head[end] != CR or head[end + 1] != LF:
                return None
            if not (stands(head, name, at) and stands(head, value, colon + 2)):
                return None
            if value and (value[0] <= BLANK or value[len(value) - 1] <= BLANK):
                return None
            at = end + 2
        if at + 2 != size or not stands(head, b"\r\n", at):
            return None
        headers = _undisputed(pieces)
        return None if headers is None else (method, target, version, headers)

    # Called by httptools.

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, as it was spelt."""
        if len(self._pieces) >= MOST_PIECES:
            raise ValueError("too many headers")  # which ends the parser's work
        self._pieces.append(name)
        self._pieces.append(value)

    def on_message_complete(self) -> None:
        """The head is whole, and no body follows."""
        self._persists = self._parser.should_keep_alive() and not self._parser.should_upgrade()


def _undisputed(pieces: Pieces) -> Headers | None:
    """The headers, given their pieces; None if h11 must decide what they mean.

    There is one Host in them, and at most one plain header about the body.
    """
    index: cython.Py_ssize_t
    headers: Headers = []
    hosts = 0
    framing = False
    for index in range(0, len(pieces), 2):
        spelt = pieces[index]
        name = _USUAL.get(spelt)
        if name is None:
            if not is_token(spelt):
                return None
            name = lowered(spelt, 0, len(spelt))
            name = _USUAL.get(name, name)
        if name == b"host":
            hosts += 1
        elif name == b"content-length" or name == b"transfer-encoding":
            framing = True
        headers.append((name, pieces[index + 1]))
    if hosts != 1 or (framing and not _frames_plainly(headers)):
        return None
    return headers


def _frames_plainly(headers: Headers) -> bool:
    """Return whether at most one header tells the length of the body, in an undisputed way."""
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


def read_head(head: bytes, first: Llhttp | None = None) -> RawHead:
    """Take a request's head apart, from its first byte to the empty line that ends it.

    ``first`` is tried first, if there is one. Raises RequestRefused where it is not a head
    by RFC 9112 sections 2 to 5, or by h11.
    """
    controls: cython.Py_ssize_t = count(head, CONTROLS)
    if first is not None:
        raw = first.read(head, controls)
        if raw is not None:
            return raw
    lines: cython.Py_ssize_t = head.count(b"\r\n")
    if controls != 2 * lines:
        if head.count(b"\n") != lines or head.count(b"\r") != lines:  # section 2.2
            raise RequestRefused(400, "lines must end with CRLF")
        raise RequestRefused(
            400, "the request's head contains a control character"
        )  # RFC 9110 section 5.5
    if lines - 2 > MAX_HEADERS:
        raise RequestRefused(431, f"there are more than {MAX_HEADERS} headers")
    if KNOWN_H11:
        raw = _by_grammar(head)
        if raw is not None:
            return raw
    try:
        event = _by_reader(head) if KNOWN_H11 else _by_connection(head)
    except h11.ProtocolError as exc:
        # h11's own frame holds the error that holds the frame, and everything below it.
        exc.__traceback__ = None
        status = exc.error_status_hint
        reason = str(exc).partition(": b")[0]  # not what the client sent, which h11 quotes
        raise RequestRefused(_coding_status(head) if status == 501 else status, reason) from None
    headers = [
        (_USUAL.get(lower := name.lower(), lower), value)
        for name, value in event.headers.raw_items()
    ]
    if len(headers) != lines - 2 and (b"\n " in head or b"\n\t" in head):  # section 5.2
        raise RequestRefused(400, "a header must stand on one line")
    return event.method, event.target, event.http_version, headers


def _by_grammar(head: bytes) -> RawHead | None:
    """Take a head apart by h11's regular expressions; None if more of h11 must decide about it.

    h11's reader applies the same two to each line. All that it does besides is about folded
    lines, Host and the length of the body, and about the errors, and takes most of its time.
    """
    lines = head[:-4].split(b"\r\n")
    found = _REQUEST_LINE(lines[0])
    if found is None:
        return None
    method, target, version = found.group("method", "target", "http_version")
    if version not in _VERSIONS:
        return None
    pieces: list[bytes] = []
    for line in lines[1:]:
        found = _FIELD(line)
        if found is None:
            return None
        pieces += found.group("field_name", "field_value")
    headers = _undisputed(pieces)
    return None if headers is None else (method, target, version, headers)


def _by_connection(head: bytes) -> h11.Request:
    """Read a head by h11's public way; raises h11.RemoteProtocolError if it is not a good one."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    event = connection.next_event()
    assert type(event) is h11.Request
    return event


class _Whole:
    """h11's buffer, as its reader uses it, for a whole head whose lines end with CRLF."""

    __slots__ = ("_lines",)

    def __init__(self, head: bytes) -> None:
        self._lines = head[:-4].split(b"\r\n")

    def maybe_extract_lines(self) -> list[bytes]:
        """The lines without their ends and without the empty one."""
        return self._lines


def _by_reader(head: bytes) -> h11.Request:
    """Read a head without a connection's buffer and states; raises h11.LocalProtocolError.

    Both are about bytes that follow a head, which h11 never sees here, and take half of its time.
    """
    event = maybe_read_from_IDLE_client(_Whole(head))  # type: ignore[arg-type]
    assert event is not None
    return event


def _coding_status(head: bytes) -> int:
    """The status for codings that h11 does not know (section 6.3, item 4).

    501 where the body's length can be told, because chunked is the last coding.
    """
    codings = tokens(_CODINGS.findall(head))
    final = codings[-1:] == [b"chunked"] and codings.count(b"chunked") == 1
    return 501 if final and not _LENGTHS.search(head) else 400
