"""What the fuzzer calls: bytes in, an AssertionError out if anything is wrong.

Each target runs the same input through both builds, with both libraries that inflate,
and in several cuts, compares, and checks what must hold for any input. An exception
that is not one of the wire's own errors is a finding, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from ..toolkit.builds import BUILDS, builds_with_libraries
from ..toolkit.client_frames import split
from .model import may_go_on
from .test_machine import Subject

Target = Callable[[bytes], None]

REQUEST = (
    "method",
    "target",
    "http_version",
    "headers",
    "keep_alive",
    "continues",
    "upgrade",
    "body",
)


def equal(outcomes: list[Any]) -> Any:
    """The one outcome that all builds and cuts must have."""
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
    return outcomes[0]


def stream(data: bytes) -> None:
    """Bytes of an open connection: byte 0 says how they are cut, byte 1 how the server is set."""
    if len(data) < 2:
        return
    step, deflate, max_size = data[0] + 1, bool(data[1] & 1), 1 << (data[1] >> 1 & 15)
    received = data[2:]
    cuts = [
        [received],
        [received[start : start + step] for start in range(0, len(received), step)],
    ]
    outcomes = []
    for chunks in cuts:
        same_cut = []
        for package in builds_with_libraries() if deflate else BUILDS.values():
            subject = Subject(package, deflate, max_size)
            for chunk in chunks:
                subject.feed(chunk)
            same_cut.append((subject.messages, subject.pongs, subject.sent_close, subject.end()))
            if subject.end() is None:
                assert subject.protocol.backlog() < 14 + 125
        outcomes.append(equal(same_cut))
    messages, pongs, sent_close, end = outcomes[0]
    if deflate and end is not None and end[0] == "failed":
        # Of two errors in compressed data the cut decides which is met first.
        equal([(outcome[:2], outcome[3][0]) for outcome in outcomes])
    else:
        equal(outcomes)
    assert (end is None) == (sent_close is None)
    for message in messages:
        assert len(message.encode() if isinstance(message, str) else message) <= max_size
    assert all(len(pong) <= 125 for pong in pongs)
    if end is not None:
        assert len(sent_close) <= 125
        if end[0] == "failed":
            assert end[1] in (1002, 1007, 1009)
            assert int.from_bytes(sent_close[:2], "big") == end[1]


def inflate(data: bytes) -> None:
    """One message's compressed payload: byte 0 is where it is cut, byte 1 the limit's power."""
    if len(data) < 2:
        return
    limit = 1 << (data[1] & 15)
    payload = data[2:]
    outcomes: list[Any] = []
    for package in builds_with_libraries():
        deflate = package.wire.deflate
        for places in [], [data[0]], list(range(len(payload))):
            inflator = deflate.Inflator(deflate.Agreed(True, True, 15, 15))
            pieces = split(payload, places)
            room, message = limit, b""
            try:
                for number, piece in enumerate(pieces, 1):
                    part = inflator.inflate(piece, number == len(pieces), room)
                    room -= len(part)
                    message += part
                assert len(message) <= limit
                outcomes.append(message)
            except package.wire.errors.ProtocolError:
                outcomes.append(None)  # of two errors the cut decides which is met first
    equal(outcomes)


def extensions(data: bytes) -> None:
    """Sec-WebSocket-Extensions: one value a line; byte 0 says what the server is willing to do."""
    if not data:
        return
    outcomes: list[Any] = []
    offers = data[1:].split(b"\n")
    for package in builds_with_libraries():
        deflate = package.wire.deflate
        settings = deflate.Settings(window_bits=9 + data[0] % 7, context_takeover=data[0] < 128)
        try:
            outcomes.append(deflate.negotiate(offers, settings))
        except package.wire.errors.HandshakeRefused as exc:
            outcomes.append((exc.status, exc.reason))
            continue
        if outcomes[-1] is None:
            continue
        agreed, value = outcomes[-1]
        ((name, params),) = deflate.parse_extensions(value)
        assert name == "permessage-deflate"
        assert 9 <= agreed.server_bits <= settings.window_bits
        assert 8 <= agreed.client_bits <= 15
        assert any(
            name == "permessage-deflate" and dict(offered).keys() >= {"client_max_window_bits"}
            for offer in offers
            for name, offered in deflate.parse_extensions(offer)
        ) or not any(key == "client_max_window_bits" for key, _ in params)
        inflator, deflator = deflate.Inflator(agreed), deflate.Deflator(agreed, settings)
        assert inflator.inflate(deflator.deflate(data), True, len(data)) == data
    equal(outcomes)


def handshake(data: bytes) -> None:
    """The headers of a request, one a line."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    headers = [(name.lower(), value.strip(b" \t\r")) for name, _, value in lines]
    outcomes: list[Any] = []
    for package in BUILDS.values():
        shaking = package.wire.handshake
        if not shaking.requested(b"GET", "1.1", headers):
            outcomes.append(None)
            continue
        try:
            request = shaking.check(headers)
        except package.wire.errors.HandshakeRefused as exc:
            outcomes.append((exc.status, exc.reason, exc.headers))
            continue
        assert len(request.key) == 24
        assert all(protocol.isascii() and protocol for protocol in request.subprotocols)
        answer = shaking.response(request, (request.subprotocols or [None])[0], None, ())
        assert answer.count(b"\r\n\r\n") == 1
        assert answer.count(b"\r\n") == 5 + bool(request.subprotocols)
        outcomes.append((request.key, request.subprotocols, request.offers, answer))
    equal(outcomes)


def utf8(data: bytes) -> None:
    """Text that comes whole, cut at byte 0, and octet by octet."""
    text = data[1:]
    right = may_go_on(text)
    for package in BUILDS.values():
        for places in [], [data[0]] if data else [], list(range(len(text))):
            check = package.wire.utf8.Utf8()
            assert all(check.accepts(piece, False) for piece in split(text, places)) == right


class Lax:
    """A parser that is not strict at all: it splits lines where it can, and refuses nothing."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._method = b""

    def feed_data(self, head: bytes) -> None:
        """Take the head apart."""
        line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self._method, _, rest = line.partition(b" ")
        self._protocol.on_url(rest.rpartition(b" ")[0])
        for field in fields:
            name, _, value = field.partition(b":")
            self._protocol.on_header(name, value)
        self._protocol.on_message_complete()

    def get_method(self) -> bytes:
        """What stands before the first blank."""
        return self._method

    def should_keep_alive(self) -> bool:
        """Always."""
        return True

    def should_upgrade(self) -> bool:
        """Never."""
        return False


def judged(package: Any, stream: bytes, parser: str) -> list[Any]:
    """What a build makes of the requests in ``stream``, up to the first that it refuses.

    ``parser`` is h11, h11 by its connection, httptools, or one that is lax.
    """
    http = package.http
    if parser == "connection":
        with mock.patch.object(http.heads, "KNOWN_H11", False):
            return judged(package, stream, "h11")
    first = http.heads.Llhttp(Lax, ()) if parser == "lax" else http.heads.reader(parser)
    buffer = bytearray(stream)
    outcomes: list[Any] = []
    try:
        while size := http.heads.head_size(buffer, 0, 65_536):
            request = http.request.parse(bytes(buffer[:size]), first)
            outcomes.append([getattr(request, name) for name in REQUEST])
            body = outcomes[-1][-1]
            outcomes[-1][-1] = body and (type(body).__name__, body.left)
            del buffer[:size]
    except package.errors.RequestRefused as exc:
        outcomes.append((exc.status, exc.reason))
    return [*outcomes, bytes(buffer)]


def requests(data: bytes) -> None:
    """The heads of requests, one behind the other: each has one meaning, or none."""
    equal(
        [
            judged(package, data, parser)
            for package in BUILDS.values()
            for parser in ("h11", "connection", "httptools", "lax")
        ]
    )


TARGETS: dict[str, Target] = {
    "stream": stream,
    "inflate": inflate,
    "extensions": extensions,
    "handshake": handshake,
    "utf8": utf8,
    "requests": requests,
}
