"""The opening handshake, server's side (RFC 6455 section 4): headers in, a verdict out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from .errors import HandshakeRefused
from .grammar import elements, is_token, tokens

Headers = Sequence[tuple[bytes, bytes]]  # lower-cased names, in order

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64


class Request(NamedTuple):
    """A valid request to open a WebSocket.

    ``key`` is the client's Sec-WebSocket-Key, ``subprotocols`` those offered, in the
    client's order of preference, ``offers`` the raw Sec-WebSocket-Extensions values.
    """

    key: bytes
    subprotocols: list[str]
    offers: list[bytes]


def requested(method: bytes, http_version: bytes, headers: Headers) -> bool:
    """Whether a request asks for a WebSocket at all; if not, it is plain HTTP.

    HTTP/1.0 ignores Upgrade (RFC 9110 section 7.8), and only GET opens one.
    """
    return (
        method == b"GET"
        and http_version == b"1.1"
        and any(name == b"upgrade" and b"websocket" in tokens((value,)) for name, value in headers)
    )


def check(headers: Headers) -> Request:
    """Check a request for which ``requested`` holds (section 4.2.1).

    Raises HandshakeRefused: 400, or 426 for a version other than 13 (section 4.2.2).
    That Host is there exactly once is checked for every request, before.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value)
    if b"upgrade" not in tokens(fields.get(b"connection", ())):
        raise HandshakeRefused(400, 'the Connection header must contain "Upgrade"')
    versions = fields.get(b"sec-websocket-version", [])
    if versions != [b"13"]:
        raise HandshakeRefused(
            426, "only version 13 of WebSocket is supported", ((b"sec-websocket-version", b"13"),)
        )
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
    if b"transfer-encoding" in fields or any(
        length.strip(b"0") for length in fields.get(b"content-length", ())
    ):
        raise HandshakeRefused(400, "a request to open a WebSocket must not have a body")
    return Request(
        keys[0],
        _subprotocols(fields.get(b"sec-websocket-protocol", ())),
        fields.get(b"sec-websocket-extensions", []),
    )


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (section 4.2.2, step 5.4)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def response(
    request: Request,
    subprotocol: str | None,
    extensions: bytes | None,
    headers: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """The head of the 101 response (section 4.2.2), with ``headers`` as they are."""
    parts = [
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
        accept_key(request.key),
        b"\r\n",
    ]
    if subprotocol is not None:
        parts += (b"sec-websocket-protocol: ", subprotocol.encode("ascii"), b"\r\n")
    if extensions is not None:
        parts += (b"sec-websocket-extensions: ", extensions, b"\r\n")
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _subprotocols(values: Iterable[bytes]) -> list[str]:
    """The offered subprotocols: tokens, each once (section 4.1, item 10)."""
    offered = elements(values)
    if len(set(offered)) != len(offered) or not all(map(is_token, offered)):
        raise HandshakeRefused(400, "Sec-WebSocket-Protocol must be a list of distinct tokens")
    return [item.decode("ascii") for item in offered]
