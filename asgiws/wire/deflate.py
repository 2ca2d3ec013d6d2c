"""permessage-deflate (RFC 7692): offers and answers, and the two directions of a connection."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from .errors import INVALID_DATA, MESSAGE_TOO_BIG, HandshakeRefused, ProtocolError
from .grammar import TOKEN, is_token

#: The libraries by name. All have zlib's functions, and each an error of its own.
LIBRARIES: Final = {"zlib": zlib}
with suppress(ImportError):
    from zlib_ng import zlib_ng

    LIBRARIES["zlib-ng"] = zlib_ng

_TAIL: Final = b"\x00\x00\xff\xff"  # section 7.2.1
_SLICE: Final = 262_144  # bytes inflated at once, so that a bomb's are never joined

# RFC 6455 section 9.1; a quoted string must be a token once unquoted. Each part takes the blanks
# behind it, and alternatives cannot overlap, so this runs in linear time.
_EMPTY: Final = re.compile(r"[ \t,]*")
_NAME: Final = re.compile(rf"({TOKEN})[ \t]*")
_PARAM: Final = re.compile(
    rf';[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*)?'
)
_ESCAPED: Final = re.compile(r"\\(.)")
_BITS: Final = {str(bits): bits for bits in range(8, 16)}

# Two bytes can end a stream, and each end costs a copy of what follows in the piece.
MAX_STREAMS: Final = 1024

Params = list[tuple[str, str | None]]


class Settings(NamedTuple):
    """The parameters that this server agrees to; bits are the log2 of a window's bytes."""

    window_bits: int = 12
    mem_level: int = 5
    level: int = 6
    context_takeover: bool = True
    min_size: int = 128
    library: str = "zlib"


class Agreed(NamedTuple):
    """The parameters of section 7.1 as they hold for one connection."""

    server_takeover: bool
    client_takeover: bool
    server_bits: int
    client_bits: int

    def header(self, answer_client_bits: bool) -> bytes:
        """The value of the response's Sec-WebSocket-Extensions."""
        value = b"permessage-deflate"
        if not self.server_takeover:
            value += b"; server_no_context_takeover"
        if not self.client_takeover:
            value += b"; client_no_context_takeover"
        if self.server_bits < 15:
            value += b"; server_max_window_bits=%d" % self.server_bits
        if answer_client_bits:
            value += b"; client_max_window_bits=%d" % self.client_bits
        return value


def negotiate(offers: Iterable[bytes], settings: Settings | None) -> tuple[Agreed, bytes] | None:
    """Answer the first acceptable offer (section 5.1), or None.

    ``offers`` are the values of the request's Sec-WebSocket-Extensions fields, in
    order. An offer with a parameter that is unknown, doubled or ill-valued is
    declined; without ``settings`` every offer is. Raises HandshakeRefused for a field
    that breaks the grammar, wherever it stands.
    """
    offers = list(offers)
    if len(offers) == 1 and settings is not None:
        answer = _usual(settings).get(offers[0])
        if answer is not None:
            return answer
    extensions = [extension for field in offers for extension in parse_extensions(field)]
    if settings is not None:
        for name, params in extensions:
            if name == "permessage-deflate":
                answer = _answer(params, settings)
                if answer is not None:
                    return answer
    return None


@lru_cache(8)
def _usual(settings: Settings) -> dict[bytes, tuple[Agreed, bytes] | None]:
    """The answers to what browsers and most libraries offer, made once."""
    return {
        offer: _answer(parse_extensions(offer)[0][1], settings)
        for offer in (
            b"permessage-deflate; client_max_window_bits",  # Chromium, Safari, websockets, ws
            b"permessage-deflate",  # Firefox
        )
    }


def parse_extensions(field: bytes) -> list[tuple[str, Params]]:
    """Parse one Sec-WebSocket-Extensions value.

    Raises HandshakeRefused where it breaks the grammar: "the recipient of such
    malformed data MUST immediately fail the WebSocket connection" (RFC 6455 section 9.1).
    """
    try:
        text = field.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed() from None
    found: list[tuple[str, Params]] = []
    size = len(text)
    at = _skip_empty(text, 0)
    if at == size and size and "," not in text:
        raise _malformed()  # blanks, and no element
    while at < size:
        match = _NAME.match(text, at)
        if match is None:
            raise _malformed()
        name = match[1]
        at = match.end()
        params: Params = []
        while at < size and text[at] == ";":
            match = _PARAM.match(text, at)
            if match is None:
                raise _malformed()
            key, value, quoted = match.groups()
            if quoted is not None:
                value = _ESCAPED.sub(r"\1", quoted)
                if not is_token(value.encode()):
                    raise _malformed()
            params.append((key, value))
            at = match.end()
        found.append((name, params))
        if at < size:
            if text[at] != ",":
                raise _malformed()
            at = _skip_empty(text, at)
    return found


def _skip_empty(text: str, at: int) -> int:
    """The begin of the next element; empty ones do not count (RFC 9110 section 5.6.1.2)."""
    return _EMPTY.match(text, at).end()  # type: ignore[union-attr]


def _malformed() -> HandshakeRefused:
    return HandshakeRefused(400, "Sec-WebSocket-Extensions is malformed")


def _answer(params: Params, settings: Settings) -> tuple[Agreed, bytes] | None:
    offered = dict(params)
    if len(offered) != len(params):
        return None
    server_bits = settings.window_bits
    client_bits = 15
    for name, value in params:
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            # zlib cannot deflate raw with a window of 8 bits: decline.
            bits = _BITS.get(value or "", 8)
            if bits == 8:
                return None
            server_bits = min(server_bits, bits)
        elif name == "client_max_window_bits":
            if value is not None and value not in _BITS:
                return None
            client_bits = min(settings.window_bits, _BITS[value or "15"])
        else:
            return None
    agreed = Agreed(
        settings.context_takeover and "server_no_context_takeover" not in offered,
        settings.context_takeover and "client_no_context_takeover" not in offered,
        server_bits,
        client_bits,
    )
    return agreed, agreed.header("client_max_window_bits" in offered)


class Inflator:
    """Inflates a client's messages (section 7.2.2); made when the first one comes."""

    __slots__ = ("_bits", "_ends", "_inflate", "_takeover", "_zlib")

    def __init__(self, agreed: Agreed, library: str = "zlib") -> None:
        self._bits = max(9, agreed.client_bits)
        self._takeover = agreed.client_takeover
        self._zlib = LIBRARIES[library]
        self._ends = 0  # of zlib streams, in the message in progress
        self._inflate: zlib._Decompress | None = None

    def inflate(self, piece: bytes, final: bool, limit: int) -> bytes:
        """Inflate a piece of a message's payload; ``final`` says that it is the last one.

        Raises ProtocolError: 1009 once more than ``limit`` bytes come out (what is
        over is never allocated), 1007 for data that are not a deflate stream.
        """
        if final:
            piece += _TAIL
        parts = []
        room = limit
        more = False  # zlib stopped at the size of a slice
        while piece or more:
            inflate = self._inflate
            if inflate is None:
                if final and piece == _TAIL:
                    break  # nothing is open that the tail would have to end
                inflate = self._inflate = self._zlib.decompressobj(-self._bits)
            try:
                data = inflate.decompress(piece, min(room + 1, _SLICE))
            except self._zlib.error:
                raise ProtocolError(INVALID_DATA, "invalid deflate stream") from None
            room -= len(data)
            if room < 0:
                raise ProtocolError(MESSAGE_TOO_BIG, "message is too big when inflated")
            parts.append(data)
            more = len(data) == _SLICE
            piece = inflate.unconsumed_tail
            if not inflate.eof:
                continue
            # A block with BFINAL set ends zlib's stream (section 7.2.3.4): the
            # next message, or what is left of this one, begins a new one.
            self._inflate = None
            more = False
            self._ends += 1
            if self._ends > MAX_STREAMS:
                raise ProtocolError(MESSAGE_TOO_BIG, "message has too many deflate streams")
            piece = inflate.unused_data
        if final:
            self._ends = 0
            if not self._takeover:
                self._inflate = None
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Deflator:
    """Deflates our messages (section 7.2.1); its state is made when first needed."""

    __slots__ = ("_bits", "_deflate", "_level", "_mem_level", "_takeover", "_zlib")

    def __init__(self, agreed: Agreed, settings: Settings) -> None:
        self._bits = agreed.server_bits
        self._takeover = agreed.server_takeover
        self._zlib = LIBRARIES[settings.library]
        self._level = settings.level
        self._mem_level = settings.mem_level
        self._deflate: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """Deflate one whole message."""
        deflate = self._deflate
        if deflate is None:
            deflate = self._zlib.compressobj(
                self._level, zlib.DEFLATED, -self._bits, self._mem_level
            )
            if self._takeover:
                self._deflate = deflate
        data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return data[:-4]
