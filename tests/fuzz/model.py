"""Frames to draw, and a model of a server that reads them: RFC 6455 in the plainest words.

The model knows whole frames only and keeps everything; it is slow, and easy to check
against the RFC.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from hypothesis import strategies as st

from ..toolkit.client_frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, deflated, mask

Message = str | bytes


class Frame(NamedTuple):
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0  # RSV1 to RSV3 as 4, 2 and 1
    masked: bool = True
    form: int = 7  # bits of the length, if more than needed
    key: bytes = b"\x37\xfa\x21\x3d"

    def encode(self) -> bytes:
        size = len(self.payload)
        form = max(self.form, 7 if size < 126 else 16 if size < 65536 else 64)
        bit = 0x80 if self.masked else 0
        data = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        if form == 7:
            data += bytes([bit | size])
        elif form == 16:
            data += struct.pack("!BH", bit | 126, size)
        else:
            data += struct.pack("!BQ", bit | 127, size)
        return data + (self.key + mask(self.payload, self.key) if self.masked else self.payload)


class Failed(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class Model:
    """Reads frames; ``messages``, ``pongs``, ``end`` and ``sent_close`` are what became of them.

    ``end`` is None while the connection is open, ("closed", code, reason) after the
    peer's close frame, ("failed", code) after an error.
    """

    def __init__(self, max_size: int = 1 << 30, deflate: bool = False) -> None:
        self.max_size = max_size
        self.deflate = deflate
        self.messages: list[Message] = []
        self.pongs: list[bytes] = []
        self.end: tuple[Any, ...] | None = None
        self.sent_close: bytes | None = None
        self._inflate = zlib.decompressobj(-15)
        self._kind: int | None = None
        self._packed = False
        self._data = b""

    def close(self, code: int, reason: str = "") -> None:
        """Our side closes."""
        if self.end is None and self.sent_close is None:
            self.sent_close = struct.pack("!H", code) + reason.encode()
            self._data = b""

    def read(self, frame: Frame) -> None:
        if self.end is not None:
            return
        try:
            self._check(frame)
            if frame.opcode in (CONT, TEXT, BINARY):
                if self.sent_close is None:  # behind our close nobody wants them
                    self._data_frame(frame)
            elif frame.opcode == PING:
                self.pongs.append(frame.payload)
            elif frame.opcode == CLOSE:
                self._close_frame(frame.payload)
        except Failed as exc:
            self.end = ("failed", exc.code)
            if self.sent_close is None:
                self.sent_close = struct.pack("!H", exc.code)

    def _check(self, frame: Frame) -> None:
        size = len(frame.payload)
        rsv1 = self.deflate and frame.opcode in (TEXT, BINARY)
        if frame.rsv and not (frame.rsv == 4 and rsv1):
            raise Failed(1002)  # section 5.2
        if frame.opcode not in (CONT, TEXT, BINARY, CLOSE, PING, PONG):
            raise Failed(1002)  # section 5.2
        if not frame.masked:
            raise Failed(1002)  # section 5.1
        if frame.opcode >= CLOSE and (not frame.fin or size > 125 or frame.form > 7):
            raise Failed(1002)  # section 5.5
        if (frame.form == 16 and size < 126) or (frame.form == 64 and size < 65536):
            raise Failed(1002)  # section 5.2, "the minimal number of bytes MUST be used"
        if frame.opcode < CLOSE and size > self.max_size - len(self._data):
            raise Failed(1009)

    def _data_frame(self, frame: Frame) -> None:
        if (frame.opcode == CONT) == (self._kind is None):
            raise Failed(1002)  # section 5.4
        if frame.opcode != CONT:
            self._kind, self._packed, self._data = frame.opcode, frame.rsv == 4, b""
        self._data += self._unpack(frame) if self._packed else frame.payload
        if len(self._data) > self.max_size:
            raise Failed(1009)
        if self._kind == TEXT and not may_go_on(self._data):
            raise Failed(1007)  # section 8.1
        if frame.fin:
            try:
                self.messages.append(self._data.decode() if self._kind == TEXT else self._data)
            except UnicodeDecodeError:
                raise Failed(1007) from None
            self._kind, self._data = None, b""

    def _unpack(self, frame: Frame) -> bytes:
        try:
            data = self._inflate.decompress(frame.payload)
            if frame.fin:
                data += self._inflate.decompress(b"\x00\x00\xff\xff")
        except zlib.error:
            raise Failed(1007) from None
        return data

    def _close_frame(self, payload: bytes) -> None:
        if not payload:
            self.end = ("closed", 1005, "")
        else:
            code = int.from_bytes(payload[:2], "big")
            defined = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
            if len(payload) == 1 or code not in defined:
                raise Failed(1002)  # sections 5.5.1 and 7.4
            try:
                self.end = ("closed", code, payload[2:].decode())
            except UnicodeDecodeError:
                raise Failed(1007) from None
        if self.sent_close is None:
            self.sent_close = payload


def may_go_on(data: bytes) -> bool:
    """Return whether some UTF-8 begins with ``data``."""
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        tail = data[exc.start :]
        ends = [b"\x80", b"\x90", b"\xa0", b"\x80\x80", b"\x90\x80", b"\xa0\x80", b"\x80\x80\x80"]
        ends.append(b"\x90\x80\x80")
        return len(tail) < 4 and any(_is_utf_8(tail + end) for end in ends)
    return True


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _drawn(*strategies: Any, **named: Any) -> st.SearchStrategy[Frame]:
    """Frames of these fields; the others keep their defaults."""
    return st.builds(lambda *fields, **others: Frame(*fields, **others), *strategies, **named)


_text = st.text(max_size=12).map(str.encode)
_bytes = st.binary(max_size=12)
_long = st.integers(120, 300).map(lambda size: b"long" * (size // 4) + b"." * (size % 4))
_keys = st.binary(min_size=4, max_size=4)
_codes = st.sampled_from([1000, 1001, 1011, 1014, 3000, 4999, 999, 1004, 1005, 1006, 1015, 2999])

good_frames = st.one_of(
    _drawn(st.just(TEXT), _text | _long, st.booleans(), key=_keys),
    _drawn(st.just(BINARY), _bytes | _long, st.booleans(), key=_keys),
    _drawn(st.just(CONT), _text | _long, st.booleans(), key=_keys),
    _drawn(st.sampled_from([PING, PONG]), _bytes, key=_keys),
)
close_frames = st.builds(
    lambda code, reason: Frame(CLOSE, struct.pack("!H", code) + reason), _codes, _text | _bytes
) | _drawn(st.just(CLOSE), st.binary(max_size=1))
bad_frames = st.one_of(
    _drawn(st.integers(0, 15), _bytes, st.booleans()),
    _drawn(st.integers(0, 10), _bytes, st.booleans(), st.integers(0, 7)),
    _drawn(st.integers(0, 10), _bytes | _long, masked=st.booleans()),
    _drawn(st.integers(0, 10), _bytes | _long, form=st.sampled_from([7, 16, 64])),
    _drawn(st.sampled_from([TEXT, CONT]), _bytes, st.booleans()),
    _drawn(st.sampled_from([CLOSE, PING, PONG]), _long | _bytes, st.booleans()),
).filter(lambda frame: frame.payload or frame.rsv != 4)
# What is left out is a compressed payload of no octets, which is no deflate stream
# (RFC 7692 section 7.2.3.6) and which readers cannot tell from one that goes on.

packed_frames = st.one_of(
    st.builds(
        lambda opcode, data: Frame(opcode, deflated(data), rsv=4),
        st.sampled_from([TEXT, BINARY]),
        _text | _long | _bytes,
    ),
    st.builds(
        lambda opcode, data: [
            Frame(opcode, deflated(data)[:4], fin=False, rsv=4),
            Frame(CONT, deflated(data)[4:]),
        ],
        st.sampled_from([TEXT, BINARY]),
        _text | _long,
    ),
)
