"""Bytes to the raw head of a request: the only room that knows h11.

Every head is parsed by ``h11.Connection``, and refused where h11 refuses it. Splitting
the lines here would be faster, and a second parser beside it: heads are h11's.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from ..errors import RequestRefused
from ..wire.grammar import CONTROLS, count, tokens

Headers = list[tuple[bytes, bytes]]
# The method, the target, the version as "1.1", and the headers with lower-cased names.
RawHead = tuple[bytes, bytes, bytes, Headers]

# httpd's and gunicorn's limit, too: each header costs the parser much more than its bytes.
MAX_HEADERS: Final = 100

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_CODINGS: Final = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")
_LENGTHS: Final = re.compile(rb"(?im)^content-length:")


def head_size(buffer: bytearray, searched: int, limit: int) -> int:
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


def read_head(head: bytes) -> RawHead:
    """Take a request's head apart, from its first byte to the empty line that ends it.

    Raises RequestRefused where it is not a head by RFC 9112 sections 2 to 5, or by h11.
    """
    lines = head.count(b"\r\n")
    if count(head, CONTROLS) != 2 * lines:
        if head.count(b"\n") != lines or head.count(b"\r") != lines:  # section 2.2
            raise RequestRefused(400, "lines must end with CRLF")
        raise RequestRefused(400, "there is a control character in it")  # RFC 9110 section 5.5
    if lines - 2 > MAX_HEADERS:
        raise RequestRefused(431, f"there are more than {MAX_HEADERS} headers")
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
