"""The raw head of a request to a checked request (RFC 9110, RFC 9112).

h11 lets through more than RFC 9112 allows a server to accept, so what ``heads`` hands
over is checked once more.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import RequestRefused
from ..wire.grammar import lists
from ..wire.host import is_host
from .bodies import ChunkedBody, SizedBody
from .heads import Headers, Llhttp, read_head

# The headers that the server uses; looking one up costs less than comparing.
HOST: Final = 1
CONNECTION: Final = 2
CONTENT_LENGTH: Final = 3
TRANSFER_ENCODING: Final = 4
EXPECT: Final = 5
UPGRADE: Final = 6
_FIELDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
}

_ABSOLUTE: Final = re.compile(rb"(?i:https?|wss?)://([^/?#]*)([^#]*)")


class Request:
    """The head of a valid request, and the body that is to follow it, if any.

    ``http_version`` is "1.0" or "1.1", ``target`` in origin-form or ``*``; header
    names are lower-cased. ``keep_alive``: the client lets the connection persist.
    ``continues``: it waits for 100 Continue. ``upgrade``: it names some other protocol.
    """

    __slots__ = (
        "body",
        "continues",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        http_version: str,
        headers: Headers,
        body: SizedBody | ChunkedBody | None,
        keep_alive: bool,
        continues: bool,
        upgrade: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.continues = continues
        self.upgrade = upgrade


def parse(head: bytes, first: Llhttp | None = None) -> Request:
    """Parse a request's head, from its first byte to the empty line that ends it.

    ``first`` is the parser to try first. Raises RequestRefused with the status that
    RFC 9110 and RFC 9112 ask for.
    """
    method, target, version, headers = read_head(head, first)
    return _check(method, target, version, headers)


def _check(method: bytes, target: bytes, version: bytes, headers: Headers) -> Request:
    if version[:2] != b"1.":
        raise RequestRefused(505, "only HTTP/1.0 and HTTP/1.1 are supported")
    if method == b"CONNECT":
        raise RequestRefused(501, "this server is not a proxy")
    modern = version != b"1.0"
    host = length = None
    chunked = continues = upgrade = False
    keep_alive = modern
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is None:
            continue
        if field == HOST:
            host = value
        elif field == CONNECTION:
            if lists(value, b"close"):
                keep_alive = False
        elif field == CONTENT_LENGTH:
            length = value
        elif field == TRANSFER_ENCODING:
            chunked = True
        elif field == EXPECT:
            continues = modern and lists(value, b"100-continue")
        else:
            upgrade = True
    if host is None:
        if modern:  # section 3.2
            raise RequestRefused(400, "the Host header is missing")
    elif not is_host(host):
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


def _other_form(method: bytes, target: bytes, headers: Headers) -> bytes:
    """A target that is not a path (section 3.2), as a path; ``headers`` get its host."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not is_host(match[1]):
        raise RequestRefused(400, "the request's target is malformed")
    # Section 3.2.2: the target's host is the one that counts.
    for index, (name, _value) in enumerate(headers):
        if name == b"host":
            headers[index] = (name, match[1])
            break
    else:  # as HTTP/1.0 allows
        headers.append((b"host", match[1]))
    path = match[2]
    if path[:1] == b"/":
        return path
    return b"*" if method == b"OPTIONS" and not path else b"/" + path
