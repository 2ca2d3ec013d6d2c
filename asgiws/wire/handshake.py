"""The opening handshake, server's side (RFC 6455 section 4): headers in, a verdict out."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .errors import HandshakeRefused
from .grammar import count, elements, is_token, lists, table

Headers = list[tuple[bytes, bytes]]  # lower-cased names, in order

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
#: The header names of a 101 that are written only here.
OWN_HEADERS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    )
)
# The most that a client may offer, empty elements included: enough for the mistakes of senders,
# too few to keep the server busy (RFC 9110 section 5.6.1.2). Browsers offer one of each.
MAX_SUBPROTOCOLS: Final = 100
MAX_OFFERS: Final = 100  # commas and semicolons

# RFC 9110 section 15.5.22 asks for Upgrade, and section 7.8 for Connection with it.
_OTHER_VERSION: Final = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade, close"),
    (b"sec-websocket-version", b"13"),
)
# The headers that are looked at here; looking one up costs less than comparing.
CONNECTION: Final = 1
CONTENT_LENGTH: Final = 2
EXTENSIONS: Final = 3
KEY: Final = 4
PROTOCOL: Final = 5
UPGRADE: Final = 6
TRANSFER_ENCODING: Final = 7
VERSION: Final = 8
# With each, what it usually is: that stands once in memory, and not once for each open connection.
_FIELDS: Final[dict[bytes, tuple[int, tuple[tuple[bytes, bytes], ...]]]] = {
    b"connection": (
        CONNECTION,
        (
            (b"connection", b"Upgrade"),
            (b"connection", b"upgrade"),
            (b"connection", b"keep-alive, Upgrade"),
        ),
    ),
    b"content-length": (CONTENT_LENGTH, ()),
    b"sec-websocket-extensions": (
        EXTENSIONS,
        (
            (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
            (b"sec-websocket-extensions", b"permessage-deflate"),
        ),
    ),
    b"sec-websocket-key": (KEY, ()),
    b"sec-websocket-protocol": (PROTOCOL, ()),
    b"sec-websocket-version": (VERSION, ((b"sec-websocket-version", b"13"),)),
    b"transfer-encoding": (TRANSFER_ENCODING, ()),
    b"upgrade": (UPGRADE, ((b"upgrade", b"websocket"),)),
}
_KEY_CHARS: Final = table(  # base64
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


class Request:
    """A valid request to open a WebSocket.

    ``key`` is the client's Sec-WebSocket-Key, ``subprotocols`` those offered, in the
    client's order of preference, ``offers`` the raw Sec-WebSocket-Extensions values.
    """

    __slots__ = ("key", "offers", "subprotocols")

    def __init__(self, key: bytes, subprotocols: list[str], offers: list[bytes]) -> None:
        self.key = key
        self.subprotocols = subprotocols
        self.offers = offers


def requested(method: bytes, http_version: str, headers: Headers) -> bool:
    """Return whether a request asks for a WebSocket at all; if not, it is plain HTTP.

    HTTP/1.0 ignores Upgrade (RFC 9110 section 7.8), and only GET opens one.
    """
    if method != b"GET" or http_version != "1.1":
        return False
    return lists(b",".join([v for name, v in headers if name == b"upgrade"]), b"websocket")


def check(headers: Headers) -> Request:
    """Check a request for which ``requested`` holds (section 4.2.1).

    Usual pairs of ``headers`` are replaced by equal ones that all requests share.
    Raises HandshakeRefused: 400, or 426 for a version other than 13 (section 4.2.2).
    That there is exactly one Host was checked before, as for every request.
    """
    field: cython.int
    index: cython.Py_ssize_t
    upgrades = has_body = False
    keys: list[bytes] = []
    versions: list[bytes] = []
    protocols: list[bytes] = []
    offers: list[bytes] = []
    for index in range(len(headers)):
        name, value = headers[index]
        known = _FIELDS.get(name)
        if known is None:
            continue
        field = known[0]
        if field == KEY:
            keys.append(value)
        elif field == CONNECTION:
            upgrades = upgrades or lists(value, b"upgrade")
        elif field == VERSION:
            versions.append(value)
        elif field == PROTOCOL:
            protocols.append(value)
        elif field == EXTENSIONS:
            offers.append(value)
        elif field == TRANSFER_ENCODING or (field == CONTENT_LENGTH and value.strip(b"0")):
            has_body = True
        usual = known[1]
        for pair in usual:
            if pair[1] == value:
                headers[index] = pair
                break
    if not upgrades:
        raise HandshakeRefused(400, 'the Connection header must contain "Upgrade"')
    if versions != [b"13"]:
        raise HandshakeRefused(426, "only version 13 of WebSocket is supported", _OTHER_VERSION)
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
    if has_body:
        raise HandshakeRefused(400, "a request to open a WebSocket must not have a body")
    return Request(keys[0], _subprotocols(protocols), _offers(offers))


def _is_key(value: bytes) -> bool:
    """Return whether it may be 16 bytes in base64."""
    return len(value) == 24 and value[22:] == b"==" and count(value, _KEY_CHARS) == 22


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (section 4.2.2, step 5.4)."""
    return b2a_base64(sha1(key + _GUID).digest(), newline=False)


def response(
    request: Request,
    subprotocol: str | None,
    extensions: bytes | None,
    headers: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """The head of the 101 response (section 4.2.2), with ``headers`` as they are.

    Names have no case, but some clients in small devices compare it, so the names of the handshake
    are spelt as in the RFC.
    """
    parts = [
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        accept_key(request.key),
        b"\r\n",
    ]
    if subprotocol is not None:
        parts += (b"Sec-WebSocket-Protocol: ", subprotocol.encode("ascii"), b"\r\n")
    if extensions is not None:
        parts += (b"Sec-WebSocket-Extensions: ", extensions, b"\r\n")
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _subprotocols(values: Sequence[bytes]) -> list[str]:
    """The offered subprotocols, which are tokens (section 4.1, item 10).

    The client must offer each only once; a repeated one does no harm.
    """
    if not values:
        return []
    if len(values) + sum([value.count(b",") for value in values]) > MAX_SUBPROTOCOLS:
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol has too many elements")
    offered = elements(values)
    if [item for item in offered if not is_token(item)]:
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol must be a list of tokens")
    return [item.decode("ascii") for item in offered]


def _offers(values: list[bytes]) -> list[bytes]:
    """The offered extensions as they are, unless there are too many."""
    if len(values) + sum([v.count(b",") + v.count(b";") for v in values]) > MAX_OFFERS:
        raise HandshakeRefused(400, "Sec-WebSocket-Extensions has too many elements")
    return values
