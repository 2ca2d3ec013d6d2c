"""A client's side of the wire, written from RFC 6455 section 5.2 and nothing else.

Tests speak with it, so that what they send and expect does not come from the code
they prove.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = b"\x37\xfa\x21\x3d"


def mask(payload: bytes, key: bytes = KEY) -> bytes:
    """Section 5.3, octet by octet."""
    masked = bytearray(payload)
    for i, octet in enumerate(key):
        masked[i::4] = payload[i::4].translate(_masked_with(octet))
    return bytes(masked)


@functools.cache
def _masked_with(octet: int) -> bytes:
    return bytes(other ^ octet for other in range(256))


def length_bytes(size: int, masked: bool) -> bytes:
    """The length in its shortest form, behind the MASK bit."""
    bit = 0x80 if masked else 0
    if size < 126:
        return struct.pack("!B", bit | size)
    if size < 65536:
        return struct.pack("!BH", bit | 126, size)
    return struct.pack("!BQ", bit | 127, size)


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes = KEY,
) -> bytes:
    """One masked frame; ``rsv`` holds RSV1 to RSV3 as the number 0 to 7."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    return bytes([first]) + length_bytes(len(payload), True) + key + mask(payload, key)


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's close frame; without a code it is empty."""
    return client_frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def server_frames(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Read what a server wrote: (first byte, opcode, payload) of each whole, unmasked frame."""
    pos = 0
    while pos < len(data):
        first, size = data[pos], data[pos + 1]
        assert not size & 0x80, "a server must not mask (section 5.1)"
        pos += 2
        if size == 126:
            (size,) = struct.unpack_from("!H", data, pos)
            assert size >= 126
            pos += 2
        elif size == 127:
            (size,) = struct.unpack_from("!Q", data, pos)
            assert size >= 65536
            pos += 8
        payload = data[pos : pos + size]
        assert len(payload) == size, "a frame is cut"
        pos += size
        yield first, first & 0x0F, payload


def deflated(payload: bytes, bits: int = 15) -> bytes:
    """RFC 7692 section 7.2.1, with an empty window before."""
    compressor = zlib.compressobj(wbits=-bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(b"\x00\x00\xff\xff")
    return data[:-4]


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """``data`` whole, cut once at every place, and in single bytes."""
    yield [data]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]
    yield [bytes([octet]) for octet in data]


def split(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at ``places`` (any numbers, as Hypothesis draws them)."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]
