"""Frames: bytes in, frames out, and back (RFC 6455 section 5).

A frame that has arrived whole is read in one step. The payload of a frame that has not is handed on
in pieces, so only a cut header and a control frame of at most 125 bytes are buffered here. The only
copy made is the unmasked payload. A large message in one frame is not cut into pieces but filled in
place (``filling.py``).

This is an ordinary module that Cython also compiles (``frames.pxd`` is its
header). Code in C's terms, which builds a frame in one allocation, stands there and is
called if ``cython.compiled`` is true.
"""

from __future__ import annotations

from collections import deque
from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .errors import MESSAGE_TOO_BIG, PROTOCOL_ERROR, ProtocolError
from .filling import Filling
from .masking import unmask

MAX_REASON_BYTES: Final = 123  # of the reason in a close frame: 125 less the code (section 5.5)

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80

# The results of ``_read_header``.
CUT: Final = 0  # more bytes are needed
READ: Final = 1  # a frame, or its first piece
PASSED: Final = 2  # one whose payload is filled in place, or skipped

FILLING_BYTES: Final = 16_384  # from this size on a payload is filled in place


def frame(first: cython.uchar, payload: bytes) -> bytes:
    """Build one unmasked frame, as a server sends it (section 5.2).

    ``first`` is the first byte: FIN, the RSV bits and the opcode.
    """
    if cython.compiled:
        return join_frame(first, payload)  # type: ignore[name-defined,no-any-return] # noqa: F821
    return header(first, len(payload)) + payload


def text_frame(text: str) -> bytes:
    """Build one whole, uncompressed text frame.

    Raises UnicodeEncodeError where ``text`` holds lone surrogates.
    """
    if cython.compiled:
        return join_text_frame(text)  # type: ignore[name-defined,no-any-return] # noqa: F821
    return frame(0x81, text.encode())


def header(first: cython.uchar, size: cython.Py_ssize_t) -> bytes:
    """The header of an unmasked frame with a payload of ``size`` bytes (section 5.2)."""
    if size < 126:
        return bytes((first, size))
    length: bytes = size.to_bytes(2 if size < 65536 else 8, "big")
    return bytes((first, 126 if size < 65536 else 127)) + length


class FrameReader:
    """Reads a client's frames.

    After ``next()`` returned true, ``opcode``, ``fin`` and ``rsv1`` are those of
    the current frame and ``payload`` is what has arrived of it since; ``first`` and
    ``last`` tell whether it begins and ends the frame. ``limit`` (bytes) is what
    the next data frame may declare; ``backlog`` counts the bytes not yet read. While
    ``discarding`` is set data frames are skipped by their headers (see ``discard``).
    """

    __slots__ = (
        "_data",
        "_end",
        "_key",
        "_more",
        "_owner",
        "_phase",
        "_pos",
        "_remaining",
        "allow_rsv1",
        "backlog",
        "discarding",
        "filling",
        "fin",
        "first",
        "in_message",
        "last",
        "limit",
        "opcode",
        "payload",
        "rsv1",
    )

    def __init__(self, limit: int, allow_rsv1: bool) -> None:
        self.limit = limit
        self.allow_rsv1 = allow_rsv1
        self.fin = self.rsv1 = False
        self.first = self.last = True
        self.opcode = 0
        self.payload = b""
        self.backlog = 0
        self.in_message = False
        self.discarding = False
        self._owner = b""  # keeps alive what _data is
        self._data = self._owner
        self._pos = 0
        self._end = 0
        self._more: deque[bytes] | None = None
        self._key = b""
        self._phase = 0
        self._remaining = 0
        #: the payload that is being filled in place, if one is
        self.filling: Filling | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the peer; they are read by ``next()``."""
        size: cython.Py_ssize_t = len(data)
        if self.backlog == 0:
            self._owner = data
            self._data = self._owner
            self._pos = 0
            self._end = size
        else:
            if self._more is None:
                self._more = deque()
            self._more.append(data)
        self.backlog += size

    def borrow(self, data: cython.p_const_uchar, size: cython.Py_ssize_t) -> None:
        """Read from memory that is only lent until ``settle`` is called; compiled build only."""
        if self.backlog:
            self.feed(data[:size])
            return
        self._data = data
        self._pos = 0
        self._end = size
        self.backlog = size

    def settle(self) -> None:
        """Keep what has not been read, and nothing else."""
        self._owner = self._data[self._pos : self._end]
        self._data = self._owner
        self._end -= self._pos
        self._pos = 0

    def discard(self) -> None:
        """Skip data from here on: ``next`` gives control frames only."""
        self.discarding = True
        self.filling = None

    def left(self) -> cython.Py_ssize_t:
        """Return how many bytes of the payload in progress have not come yet."""
        return 0 if self.last else self._remaining

    def next(self) -> bool:
        """Read the next frame, or the next piece of one; false when more bytes are needed.

        Raises ProtocolError (1002, or 1009 for a length over ``limit``), as soon as
        the offending byte of a header is there; the reader is of no use afterwards.
        """
        found: cython.int
        while True:
            if not self.last:
                if self.filling is not None:
                    if self._fill(self.filling):
                        return True
                elif self._pos < self._end:
                    if not self.discarding:
                        return self._next_piece(False)
                    self._skip(min(self._end - self._pos, self._remaining))
                    continue
            elif self._end - self._pos >= 2:
                found = self._read_header(self._end - self._pos)
                if found == READ:
                    return True
                if found == PASSED:
                    continue
            if not self._more:
                self.settle()
                self._more = None
                self.payload = b""
                return False
            self._owner = self._data[self._pos : self._end] + self._more.popleft()
            self._data = self._owner
            self._pos = 0
            self._end = len(self._owner)

    def _read_header(self, available: cython.Py_ssize_t) -> int:
        """Read a header and what is there of its payload: CUT, READ or PASSED."""
        data = self._data
        pos: cython.Py_ssize_t = self._pos
        byte1: cython.Py_ssize_t = data[pos]
        byte2: cython.Py_ssize_t = data[pos + 1]
        size: cython.Py_ssize_t
        head: cython.Py_ssize_t = 6
        opcode: cython.Py_ssize_t = byte1 & 0x0F
        # Section 5.2: a set RSV bit that no negotiated extension defines fails the
        # connection; RFC 7692 section 6 defines RSV1 on the first frame of a message.
        if byte1 & 0x70 and not (byte1 & 0x70 == 0x40 and self.allow_rsv1 and 1 <= opcode <= 2):
            raise ProtocolError(PROTOCOL_ERROR, "reserved bit set")
        if opcode > 10 or 2 < opcode < 8:
            raise ProtocolError(PROTOCOL_ERROR, "reserved opcode")
        if not byte2 & 0x80:
            raise ProtocolError(PROTOCOL_ERROR, "frame is not masked")  # section 5.1
        size = byte2 & 0x7F
        if opcode >= 8:
            if not byte1 & 0x80:
                raise ProtocolError(PROTOCOL_ERROR, "fragmented control frame")  # section 5.5
            if size > 125:
                raise ProtocolError(PROTOCOL_ERROR, "control frame longer than 125 bytes")
            if available < 6 + size:
                return CUT
        else:
            if size == 126:
                if available < 4:
                    return CUT
                size = (data[pos + 2] << 8) | data[pos + 3]
                if size < 126:
                    raise ProtocolError(PROTOCOL_ERROR, "length not in its shortest form")
                head = 8
            elif size == 127:
                if available < 10:
                    return CUT
                if data[pos + 2] & 0x80:
                    raise ProtocolError(PROTOCOL_ERROR, "length of more than 63 bits")
                size = int.from_bytes(data[pos + 2 : pos + 10], "big")
                if size < 65536:
                    raise ProtocolError(PROTOCOL_ERROR, "length not in its shortest form")
                head = 14
            if size > self.limit:
                raise ProtocolError(MESSAGE_TOO_BIG, "message is too big")
            if available < head:
                return CUT
            if self.discarding:
                self._pos = pos + head
                self.backlog -= head
                self._remaining = size
                self._skip(min(available - head, size))
                return PASSED
        self.opcode = opcode
        self.fin = byte1 & 0x80 != 0
        self.rsv1 = byte1 & 0x40 != 0
        self.first = True
        pos += head
        available -= head
        if available >= size:
            self.payload = unmask(data, pos, size, data, pos - 4, 0) if size else b""
            self._pos = pos + size
            self.backlog -= head + size
            return READ
        self._key = data[pos - 4 : pos]
        self._phase = 0
        self._remaining = size
        self.last = False
        self._pos = pos
        self.backlog -= head
        if size >= FILLING_BYTES and self.fin and opcode and not self.rsv1 and not self.in_message:
            self.filling = Filling(size, self._key, opcode == TEXT)
            return PASSED
        self._next_piece(True)
        return READ

    def _skip(self, size: cython.Py_ssize_t) -> None:
        """Drop that number of bytes of a payload."""
        self._pos += size
        self.backlog -= size
        self._remaining -= size
        self.last = self._remaining == 0

    def _next_piece(self, first: cython.bint) -> bool:
        """Hand on the bytes of a payload that are there; the first piece may be empty."""
        size: cython.Py_ssize_t = min(self._end - self._pos, self._remaining)
        self.payload = unmask(self._data, self._pos, size, self._key, 0, self._phase)
        self.first = first
        self._phase = (self._phase + size) & 3
        self._pos += size
        self.backlog -= size
        self._remaining -= size
        self.last = self._remaining == 0
        return True

    def _fill(self, filling: Filling) -> bool:
        """Move the bytes that are there into the payload; return true when it is whole."""
        size: cython.Py_ssize_t = min(self._end - self._pos, self._remaining)
        if size:
            filling.put(self._data, self._pos, size)
            self._pos += size
            self.backlog -= size
            self._remaining -= size
        if self._remaining:
            return False
        self.payload = filling.result()
        self.filling = None
        self.last = True
        return True

    def filled(self, size: cython.Py_ssize_t) -> None:
        """``size`` bytes were written into the view of ``filling``; ``next`` goes on from there.

        Raises ProtocolError (1007) if they are text that is not UTF-8.
        """
        if self.filling is not None:
            self._remaining -= size
            self.filling.filled(size)
