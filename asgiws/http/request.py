"""One HTTP/1.1 request off the wire: its head checked, its body unframed (RFC 9112).

Every head is parsed by ``h11.Connection``, and refused where h11 refuses it. Splitting
the lines here would be faster, and a second parser beside it: heads are h11's. It lets
through more than RFC 9112 allows a server to accept, so what it hands over is checked
once more. Bodies are read here, as strictly: a malformed chunk must not hide a second
request from us or from a proxy.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import h11

# Most bytes of one line of a chunked body's framing, and of all its extensions and
# trailers together (RFC 9112 section 7.1.1 asks for a limit).
MAX_CHUNK_LINE: Final = 4096
MAX_CHUNK_EXTRA: Final = 65_536

# RFC 9110 section 7.2, with the host of RFC 3986 section 3.2.2; never empty.
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::[0-9]{0,5})?"
    rb"|\[[0-9A-Fa-fvV:.%\-._~!$&'()*+,;=]+\](?::[0-9]{0,5})?"
)
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_ABSOLUTE: Final = re.compile(rb"(?i:https?|wss?)://([^/?#]*)([^#]*)")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*((?:;[^\x00-\x08\x0a-\x1f\x7f]*)?)")
_TRAILER_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_CODINGS: Final = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")
_LENGTHS: Final = re.compile(rb"(?im)^content-length:")

Headers = list[tuple[bytes, bytes]]


class RequestRefused(Exception):
    """A request that is answered ``status`` by the server itself; then the connection closes.

    ``reason`` is a short sentence for the response's body.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class SizedBody:
    """A body of Content-Length bytes (RFC 9112 section 6.2)."""

    __slots__ = ("complete", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.complete = not length

    def read(self, buffer: bytearray) -> bytes:
        """Take what there is of the body from the front of ``buffer``."""
        taken = bytes(memoryview(buffer)[: self.left])
        del buffer[: len(taken)]
        self.left -= len(taken)
        self.complete = not self.left
        return taken


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1); extensions and trailers are ignored."""

    __slots__ = ("_extra", "_left", "_trailers", "complete")

    left: Final = None  # how much is still to come is unknown

    def __init__(self) -> None:
        self.complete = False
        self._left = -2  # of the chunk with its CRLF; -2: a size line is due
        self._trailers = False
        self._extra = 0

    def read(self, buffer: bytearray) -> bytes:
        """Take what there is of the body from the front of ``buffer``.

        Raises RequestRefused where the framing is broken.
        """
        parts = []
        at = 0
        size = len(buffer)
        while not self.complete:
            if self._left > 0:
                part = bytes(memoryview(buffer)[at : at + self._left])
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif self._left == 0:
                if size - at < 2:
                    break
                if buffer[at : at + 2] != b"\r\n":
                    raise RequestRefused(400, "a chunk is longer than its size")
                at += 2
                self._left = -2
            else:
                end = buffer.find(b"\r\n", at, at + MAX_CHUNK_LINE)
                if end < 0:
                    if size - at >= MAX_CHUNK_LINE:
                        raise RequestRefused(400, "a line of the chunked framing is too long")
                    if buffer.find(b"\n", at) >= 0:
                        raise RequestRefused(400, "a line of the chunked framing has no CRLF")
                    break
                self._read_line(bytes(memoryview(buffer)[at:end]))
                at = end + 2
        del buffer[:at]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_line(self, line: bytes) -> None:
        if not self._trailers:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise RequestRefused(400, "a chunk has no valid size")
            self._extra += len(match[2])
            self._left = int(match[1], 16)
            if not self._left:
                self._trailers = True
                self._left = -2
        elif not line:
            self.complete = True
        elif _TRAILER_LINE.fullmatch(line):
            self._extra += len(line)
        else:
            raise RequestRefused(400, "a trailer is malformed")
        if self._extra > MAX_CHUNK_EXTRA:
            raise RequestRefused(400, "too many chunk extensions or trailers")


class Request(NamedTuple):
    """The head of a valid request, and the body that is to follow it, if any.

    ``http_version`` is "1.0" or "1.1", ``target`` in origin-form or ``*``; header
    names are lower-cased. ``keep_alive``: whether the client lets the connection
    persist. ``continues``: it waits for 100 Continue. ``upgrade``: it names some
    other protocol.
    """

    method: bytes
    target: bytes
    http_version: str
    headers: Headers
    body: SizedBody | ChunkedBody | None
    keep_alive: bool
    continues: bool
    upgrade: bool


def head_size(buffer: bytearray, searched: int, limit: int) -> int:
    """How many bytes at the front of ``buffer`` are a request's head; 0 while it is not complete.

    Empty lines before it are dropped (section 2.2). No head ends in the first
    ``searched`` bytes. Raises RequestRefused where it cannot become a good one, or
    is longer than ``limit``.
    """
    if buffer[:1] == b"\r":
        del buffer[: _EMPTY_LINES.match(buffer).end()]  # type: ignore[union-attr]
    size = buffer.find(b"\r\n\r\n", searched) + 4
    if 4 <= size <= limit:
        return size
    if len(buffer) > limit:
        if buffer.find(b"\r\n", 0, limit) < 0:  # section 3
            raise RequestRefused(414, "the request's target is too long")
        raise RequestRefused(431, "the request's head is too long")
    if buffer and buffer[0] < 33 and buffer != b"\r":
        raise RequestRefused(400, "this is no request")
    if _BARE_LF.search(buffer, searched):
        raise RequestRefused(400, "lines must end with CRLF")
    return 0


def parse(head: bytes) -> Request:
    """Parse a request's head, from its first byte to the empty line that ends it.

    Raises RequestRefused with the status that RFC 9110 and RFC 9112 ask for.
    """
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:  # section 2.2
        raise RequestRefused(400, "lines must end with CRLF")
    method, target, version, headers = _read_by_h11(head)
    if len(headers) != lines - 2 and (b"\n " in head or b"\n\t" in head):  # section 5.2
        raise RequestRefused(400, "a header must stand on one line")
    return _check(method, target, version, headers)


def _read_by_h11(head: bytes) -> tuple[bytes, bytes, bytes, Headers]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as exc:
        status = exc.error_status_hint
        reason = str(exc).partition(": b")[0]  # not what the client sent, which h11 quotes
        raise RequestRefused(_coding_status(head) if status == 501 else status, reason) from None
    assert type(event) is h11.Request
    headers = [(name.lower(), value) for name, value in event.headers.raw_items()]
    return event.method, event.target, event.http_version, headers


def quoted(target: bytes) -> str:
    """A target, or what was sent in its place, for a log that puts it between quotes."""
    return target.decode("latin-1").replace('"', "%22")


def _check(method: bytes, target: bytes, version: bytes, headers: Headers) -> Request:
    if version[:2] != b"1.":
        raise RequestRefused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    modern = version != b"1.0"
    host = length = None
    chunked = continues = upgrade = False
    keep_alive = modern
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"connection":
            if b"close" in value.lower() and b"close" in _tokens(value):
                keep_alive = False
        elif name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"expect":
            continues = modern and b"100-continue" in _tokens(value)
        elif name == b"upgrade":
            upgrade = True
    if host is None:
        if modern:  # section 3.2
            raise RequestRefused(400, "the Host header is missing")
    elif not _HOST.fullmatch(host):
        raise RequestRefused(400, "the Host header is malformed")
    body: SizedBody | ChunkedBody | None = None
    if chunked:
        # Section 6.1: a server ought to answer the first with 400, and must not
        # trust the framing of the second.
        if length is not None:
            raise RequestRefused(400, "Content-Length and Transfer-Encoding exclude each other")
        if not modern:
            raise RequestRefused(400, "HTTP/1.0 has no Transfer-Encoding")
        body = ChunkedBody()
    elif length is not None and (size := int(length)):
        body = SizedBody(size)
    if target[:1] != b"/" or b"#" in target:
        target = _other_form(method, target, headers)
    return Request(
        method,
        target,
        "1.1" if modern else "1.0",
        headers,
        body,
        keep_alive,
        continues and body is not None,
        upgrade,
    )


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def _other_form(method: bytes, target: bytes, headers: Headers) -> bytes:
    """A target that is no path (section 3.2), as one; ``headers`` get its host."""
    if method == b"CONNECT":
        raise RequestRefused(501, "this is no proxy")
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _HOST.fullmatch(match[1]):
        raise RequestRefused(400, "the request's target is malformed")
    # Section 3.2.2: the target's host is the one that counts.
    for index, (name, _value) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, match[1])
    path = match[2]
    if path[:1] == b"/":
        return path
    return b"*" if method == b"OPTIONS" and not path else b"/" + path


def _coding_status(head: bytes) -> int:
    """What to answer to codings that h11 does not know (section 6.3, item 4).

    501 where the body's length can be told, because chunked is the last coding.
    """
    codings = _tokens(b",".join(_CODINGS.findall(head)))
    final = codings[-1] == b"chunked" and codings.count(b"chunked") == 1
    return 501 if final and not _LENGTHS.search(head) else 400
