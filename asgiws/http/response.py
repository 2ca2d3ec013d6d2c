"""One HTTP/1.1 response onto the wire: the application's headers checked, its body framed.

Responses to requests, denials of WebSockets and the server's own errors are all
framed here. The result are bytes; this module does not know transports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..errors import ASGIError
from ..text import counted
from ..wire.grammar import holds_controls, is_low_token, is_token, lowered, tokens

Headers = list[tuple[bytes, bytes]]
DefaultHeaders = Callable[[Collection[bytes]], bytes]

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status >= 200
}

# The framing of the body (RFC 9112 section 6).
UNDECIDED: Final = 0
NONE: Final = 1  # HEAD, 204, 304: there is none, whatever the application sends
LENGTH: Final = 2
CHUNKED: Final = 3
CLOSE: Final = 4  # HTTP/1.0: the end of the connection ends the body

_MOST_DIGITS: Final = 18  # of a content-length: an exabyte

# Whether trailers follow the body.
TRAILERS_NONE: Final = 0
TRAILERS_DROPPED: Final = 1  # the application gives them, and the client has no use for them
TRAILERS_SENT: Final = 2

# Headers about the framing or the target of a message must not be trailers (RFC 9110 6.5.1).
_NO_TRAILERS: Final = frozenset(
    (
        *(b"authorization", b"cache-control", b"connection", b"content-encoding"),
        *(b"content-length", b"content-range", b"content-type", b"host", b"set-cookie", b"te"),
        *(b"trailer", b"transfer-encoding"),
    )
)


def phrase(status: int) -> str:
    """The reason phrase of ``status``, or nothing."""
    return _STATUS_LINES[status][13:-2].decode() if status in _STATUS_LINES else ""


def checked_headers(headers: Any) -> Headers:
    """The application's headers with lower-cased names.

    Raises ASGIError unless they are pairs of bytes, the names tokens and the values
    without control characters (RFC 9110 section 5.5): nothing that is sent may look
    like the end of a line.
    """
    if type(headers) is not list and type(headers) is not tuple:
        return _checked_one_by_one(headers)
    pairs: Headers = []
    for pair in headers:
        if type(pair) is not tuple or len(pair) != 2:
            return _checked_one_by_one(headers)
        name, value = pair
        if type(name) is not bytes or type(value) is not bytes or holds_controls(value):
            return _checked_one_by_one(headers)
        if not is_low_token(name):
            if not is_token(name):
                return _checked_one_by_one(headers)
            pair = (lowered(name, 0, len(name)), value)
        pairs.append(pair)
    return pairs


def _checked_one_by_one(headers: Any) -> Headers:
    """The same for any kind of pairs and bytes, and for headers that are to be refused."""
    try:
        pairs = [
            (bytes(memoryview(name)).lower(), bytes(memoryview(value))) for name, value in headers
        ]
    except (TypeError, ValueError):
        raise ASGIError(
            f"expected headers to be pairs of bytes, (name, value), got {headers!r:.200}"
        ) from None
    for name, value in pairs:
        if not is_token(name):
            raise ASGIError(
                f"expected a header's name to be a token (RFC 9110, 5.6.2), got {name!r:.200}"
            )
        if holds_controls(value):
            raise ASGIError(
                f"expected {name.decode()} to hold no control characters, got {value!r:.200}"
            )
    return pairs


def field_lines(first: bytes, pairs: Headers) -> bytes:
    """``first``, and behind it a line for each of the checked headers."""
    if cython.compiled:
        return joined_lines(first, pairs)  # type: ignore[name-defined, no-any-return] # noqa: F821
    return first + b"".join([b"%b: %b\r\n" % pair for pair in pairs])


def _says_close(pairs: Headers) -> bool:
    """Return whether the application's headers ask for the connection to be closed."""
    return b"close" in tokens([value for name, value in pairs if name == b"connection"])


def _is_event_stream(pairs: Headers) -> bool:
    """Return whether the application's headers announce server-sent events."""
    types = [value.lower() for name, value in pairs if name == b"content-type"]
    return any(value.startswith(b"text/event-stream") for value in types)


def _length(pairs: Headers) -> int:
    """The application's content-length; raises ASGIError."""
    values = [value for name, value in pairs if name == b"content-length"]
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > _MOST_DIGITS:
        raise ASGIError(f"expected one content-length, of digits, got {values!r:.200}")
    return int(values[0])


class Response:
    """The bytes of one response: ``start`` once, then ``body`` until it is complete.

    The head leaves together with the first piece of the body, or alone (``head``) if that takes
    long to come. Until then ``keep_alive`` may be cleared, to announce that the connection
    closes; afterwards it says whether the connection can persist. ``begun``: the head has
    left. ``is_event_stream``: it is a text/event-stream without an end in sight.
    """

    __slots__ = (
        "_body_allowed",
        "_default_headers",
        "_framing",
        "_lines",
        "_modern",
        "_says_close",
        "begun",
        "body_begun",
        "body_complete",
        "complete",
        "is_event_stream",
        "keep_alive",
        "left",
        "status",
        "trailers",
    )

    def __init__(
        self, method: bytes, http_version: str, keep_alive: bool, default_headers: DefaultHeaders
    ) -> None:
        self._body_allowed = method != b"HEAD"
        self._modern = http_version != "1.0"
        self._default_headers = default_headers
        self.keep_alive = keep_alive
        self.status = 0  # once there is one, the response is started
        self.begun = False
        self.body_begun = False
        self.body_complete = False
        self.complete = False
        self.trailers = TRAILERS_NONE
        self.is_event_stream = False
        self._framing = UNDECIDED
        self.left = 0  # of a Content-Length
        self._says_close = False
        self._lines: list[bytes] = []

    def start(self, status: Any, headers: Any, trailers: cython.int = TRAILERS_NONE) -> None:
        """Take the head; raises ASGIError, and takes nothing, if it cannot be sent.

        ``trailers`` says whether trailers will follow the body, and reach the client.
        """
        number = int(status) if isinstance(status, int) else 0
        if not 200 <= number <= 999:
            raise ASGIError(f"expected status to be an int from 200 to 999, got {status!r:.200}")
        status = number
        pairs = checked_headers(headers)
        says_close = coded = False
        sized = typed = False
        given: list[bytes] = []
        for name, _value in pairs:
            # Looking at a length costs less than comparing.
            size = len(name)
            if size == 10:
                says_close = says_close or name == b"connection"
            elif size == 12:
                typed = typed or name == b"content-type"
            elif size == 14:
                sized = sized or name == b"content-length"
            elif size == 17:
                coded = coded or name == b"transfer-encoding"
            given.append(name)
        says_close = says_close and _says_close(pairs)
        length: cython.Py_ssize_t = -1
        if trailers == TRAILERS_SENT and self._modern:
            coded = True  # there is a place for them behind chunks only
        if coded:
            # The server chooses the coding: chunked or none.
            if [p for p in pairs if p[0] == b"transfer-encoding" and p[1].lower() != b"chunked"]:
                raise ASGIError("expected no transfer-encoding other than chunked")
            pairs = [p for p in pairs if p[0] not in (b"transfer-encoding", b"content-length")]
        elif sized:
            length = _length(pairs)
            if status == 204:  # RFC 9110 section 8.6
                pairs = [pair for pair in pairs if pair[0] != b"content-length"]
        line = _STATUS_LINES.get(status)
        if line is None:
            line = b"HTTP/1.1 %d \r\n" % status
        lines = [field_lines(line, pairs), self._default_headers(given)]
        if not self._body_allowed or status == 204 or status == 304:
            self._framing = NONE
        elif length >= 0:
            self._framing = LENGTH
            self.left = length
        else:
            self.is_event_stream = typed and _is_event_stream(pairs)
            if not self._modern:
                self._framing = CLOSE
            elif coded:
                self._framing = CHUNKED
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._framing = UNDECIDED
        if says_close:
            self.keep_alive = False
            self._says_close = True
        self.status = status
        self._lines = lines
        self.trailers = trailers

    def declare(self, size: int) -> int:
        """The body has ``size`` bytes; return how many of them may be sent after this head."""
        if self._framing == UNDECIDED:
            self._framing = LENGTH
            self.left = size
            self._lines.append(b"content-length: %d\r\n" % size)
        if self._framing == LENGTH:
            return min(size, int(self.left))
        return 0 if self._framing == NONE else size

    def early_hint(self, links: Any) -> bytes:
        """A 103 with Link headers (RFC 8297), or nothing for a client of HTTP/1.0.

        Raises ASGIError for ``links`` that may not be sent.
        """
        if not isinstance(links, (list, tuple)):
            raise ASGIError(f"expected links to be a list of bytes, got {links!r:.200}")
        pairs = checked_headers([(b"link", link) for link in links])
        if not pairs or not self._modern:
            return b""
        return field_lines(b"HTTP/1.1 103 Early Hints\r\n", pairs) + b"\r\n"

    def trail(self, headers: Any, more: Any) -> list[bytes]:
        """The bytes to write for trailers (RFC 9112 section 7.1.2), behind the body.

        Raises ASGIError for those that may not be sent.
        """
        pairs = checked_headers(headers)
        for name, _value in pairs:
            if name in _NO_TRAILERS:
                raise ASGIError(f"expected no {name.decode()} among the trailers")
        parts: list[bytes] = []
        if self._framing == CHUNKED and self.trailers == TRAILERS_SENT:
            parts.append(field_lines(b"", pairs))
            if not more:
                parts.append(b"\r\n")
        if not more:
            self.complete = True
        return parts

    def body(self, data: Any, more: Any) -> list[bytes]:
        """The bytes to write for a piece of the body, the head before the first one.

        Raises ASGIError, and counts nothing, for a body longer than its Content-Length.
        One that ends too early leaves ``left`` over zero: the connection must be cut.
        """
        if type(data) is not bytes:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise ASGIError(f"expected body to be bytes, got {data!r:.200}")
            data = bytes(data)
        size = len(data)
        if self._framing == UNDECIDED:
            if more:
                self._framing = CHUNKED
                self._lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._framing = LENGTH
                self.left = size
                self._lines.append(b"content-length: %d\r\n" % size)
        if self._framing == LENGTH:
            if size > self.left:
                raise ASGIError(
                    f"expected no more than {counted(self.left, 'byte')}, as content-length says, "
                    f"got {size}"
                )
            self.left -= size
        self.body_begun = True
        if not more:
            self.body_complete = True
            self.complete = self.trailers == TRAILERS_NONE
        parts: list[bytes] = [] if self.begun else self._begin()
        if self._framing == CHUNKED:
            if size:
                parts += (b"%x\r\n" % size, data, b"\r\n")
            if not more:
                parts.append(b"0\r\n" if self.trailers == TRAILERS_SENT else b"0\r\n\r\n")
        elif size and self._framing != NONE:
            parts.append(data)
        return parts

    def head(self) -> list[bytes]:
        """The bytes to write for the head alone, while the body is not known yet."""
        if self._framing == UNDECIDED:
            self._framing = CHUNKED
            self._lines.append(b"transfer-encoding: chunked\r\n")
        return self._begin()

    def _begin(self) -> list[bytes]:
        self.begun = True
        parts = self._lines
        if not self.keep_alive and not self._says_close:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self._lines = []
        return parts

    @property
    def is_endless(self) -> bool:
        """True if it is an event stream that has begun and goes on."""
        return self.is_event_stream and self.begun and not self.complete

    @property
    def is_stream(self) -> bool:
        """True if it has begun and may end at any time: no length was declared."""
        return self.begun and (self._framing == CHUNKED or self._framing == CLOSE)

    def finish(self) -> list[bytes]:
        """The bytes that end a response for which ``is_stream`` is true, as a whole one."""
        self.complete = True
        if self._framing != CHUNKED:
            return []
        return [b"\r\n" if self.body_complete else b"0\r\n\r\n"]

    @property
    def cut_is_visible(self) -> bool:
        """True if a client can tell an early end of the connection from the body's end."""
        return self._framing != CLOSE


def error_response(
    method: bytes, status: int, reason: str, headers: Headers, default_headers: DefaultHeaders
) -> bytes:
    """A whole response of the server itself, with one line of text; then the connection closes."""
    response = Response(method, "1.1", False, default_headers)
    text = (reason or phrase(status)).encode("ascii", "backslashreplace") + b"\n"
    response.start(
        status,
        [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            *headers,
        ],
    )
    return b"".join(response.body(text, False))
