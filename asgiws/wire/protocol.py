"""Messages, pings and the closing handshake, server's side (RFC 6455 sections 5.4 to 7).

Bytes go in by ``receive_data``; ``next_message`` gives back whole messages, a
``str`` for text and ``bytes`` for binary, until it returns None: more bytes are
needed, or the connection is no longer open. What must be answered on the way
(pongs, close frames) collects in ``replies``.

The closing handshake is the table TRANSITIONS; it is consulted for the rare
events only. A peer that breaks the protocol makes this side fail the connection
(section 7.1.7): the close frame with the code is in ``replies``, and nothing that
follows is parsed.
"""

from __future__ import annotations

from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .deflate import Inflator
from .errors import (
    INVALID_DATA,
    MESSAGE_TOO_BIG,
    NO_STATUS_RECEIVED,
    PROTOCOL_ERROR,
    ProtocolError,
    may_be_sent,
)
from .frames import BINARY, CLOSE, FIN, PING, PONG, TEXT, FrameReader, frame
from .utf8 import Utf8

OPEN: Final = 0
CLOSE_SENT: Final = 1  # our close frame is out, the peer's is awaited
CLOSED: Final = 2  # both close frames have been seen
FAILED: Final = 3  # the peer broke the protocol

SEND_CLOSE: Final = 0
RECEIVE_CLOSE: Final = 1
FAIL: Final = 2

# (state, event) -> (next state, whether our close frame goes out)
TRANSITIONS: Final = {
    (OPEN, SEND_CLOSE): (CLOSE_SENT, True),
    (OPEN, RECEIVE_CLOSE): (CLOSED, True),
    (OPEN, FAIL): (FAILED, True),
    (CLOSE_SENT, SEND_CLOSE): (CLOSE_SENT, False),
    (CLOSE_SENT, RECEIVE_CLOSE): (CLOSED, False),
    (CLOSE_SENT, FAIL): (FAILED, False),
    (CLOSED, SEND_CLOSE): (CLOSED, False),
    (CLOSED, RECEIVE_CLOSE): (CLOSED, False),
    (CLOSED, FAIL): (CLOSED, False),
    (FAILED, SEND_CLOSE): (FAILED, False),
    (FAILED, RECEIVE_CLOSE): (FAILED, False),
    (FAILED, FAIL): (FAILED, False),
}

# A message of 4 MiB in frames of 64 bytes has 65,536; no honest client sends twice as many.
MAX_FRAGMENTS: Final = 131_072


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a close frame (section 5.5.1); ``code`` 1005 gives an empty one.

    A reason longer than 123 bytes in UTF-8 is cut on a character boundary.
    """
    if code == NO_STATUS_RECEIVED:
        return b""
    cut = reason.encode()[:123].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + cut


class Protocol:
    """One connection after the opening handshake.

    ``max_size`` (bytes) bounds a message, both as it is on the wire and inflated;
    ``inflator`` is None where permessage-deflate was not agreed. While
    ``hold_pongs`` is set only the latest ping is remembered (section 5.5.3).
    """

    __slots__ = (
        "_arrived",
        "_deflated",
        "_fragments",
        "_held_pong",
        "_inflator",
        "_max_size",
        "_opcode",
        "_parts",
        "_utf8",
        "close_code",
        "close_reason",
        "hold_pongs",
        "pong",
        "reader",
        "replies",
        "size",
        "state",
    )

    def __init__(self, max_size: int, inflator: Inflator | None) -> None:
        self.reader: FrameReader | None = FrameReader(max_size, inflator is not None)
        self.state = OPEN
        self.replies: list[bytes] | None = None  # most connections have none for long
        #: code and reason: the peer's, or those of the failure
        self.close_code = NO_STATUS_RECEIVED
        self.close_reason = ""
        #: the payload of the last pong
        self.pong: bytes | None = None
        self.hold_pongs = False
        #: payload bytes of the last message, inflated
        self.size = 0
        self._held_pong: bytes | None = None
        self._max_size = max_size
        self._inflator = inflator
        self._opcode = 0  # of the message in progress, 0 when there is none
        self._deflated = False
        self._fragments = 0
        self._arrived = 0  # payload bytes of messages in more than one piece
        self._parts: bytearray | None = None
        self._utf8: Utf8 | None = None

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; after a close frame they are dropped (section 5.5.1)."""
        if self.reader is not None:
            self.reader.feed(data)

    def receive_lent(self, data: cython.p_const_uchar, size: cython.Py_ssize_t) -> None:
        """The same, from memory that must be given back by ``settle`` (compiled build only)."""
        if self.reader is not None:
            self.reader.borrow(data, size)

    def settle(self) -> None:
        """Let go of the lent memory."""
        if self.reader is not None:
            self.reader.settle()

    def room(self) -> memoryview | None:
        """The memory for the next bytes from the peer, if it is known; then call ``filled``."""
        if self.reader is None or self.reader.filling is None or self.reader.backlog:
            return None
        return self.reader.filling.view()

    def filled(self, size: cython.Py_ssize_t) -> None:
        """``size`` bytes from the peer were written into ``room``."""
        try:
            if self.reader is not None:
                self.reader.filled(size)
        except ProtocolError as exc:
            self._fail(exc.code, exc.reason)

    def backlog(self) -> int:
        """Return how many received bytes wait for ``next_message``."""
        return 0 if self.reader is None else self.reader.backlog

    def arrived(self) -> cython.Py_ssize_t:
        """A number that changes when a piece of a message comes, unless it is empty."""
        return self._arrived if self.reader is None else self._arrived - self.reader.left()

    def next_message(self) -> bytes | str | None:
        """Return the next whole message, or None; then look at ``state`` and ``replies``."""
        reader = self.reader
        if reader is None:
            return None
        try:
            while reader.next():
                if (
                    reader.opcode <= BINARY
                    and reader.fin
                    and reader.opcode
                    and reader.first
                    and reader.last
                    and not reader.rsv1
                    and not self._opcode
                ):
                    self.size = len(reader.payload)
                    if reader.opcode == TEXT:
                        return reader.payload.decode("utf-8", "strict")
                    return reader.payload
                if reader.opcode >= CLOSE:
                    self._control(reader)
                    if self.reader is None:
                        return None
                elif self._append(reader):
                    return self._finish(reader)
        except ProtocolError as exc:
            self._fail(exc.code, exc.reason)
        except UnicodeDecodeError:
            self._fail(INVALID_DATA, "invalid UTF-8")
        return None

    def close(self, code: cython.Py_ssize_t, reason: str = "") -> None:
        """Start the closing handshake (section 7.1.2), unless it has been started.

        Data that still come are not used: they are skipped by their headers.
        """
        self._move(SEND_CLOSE, code, reason)
        if self.reader is not None:
            self.reader.discard()
            self.reader.limit = self._max_size
        self._parts = None
        self._inflator = None
        self._utf8 = None

    def reply(self, data: bytes) -> None:
        """Add a frame to the ``replies``."""
        if self.replies is None:
            self.replies = [data]
        else:
            self.replies.append(data)

    def release_pongs(self) -> None:
        """The peer reads again: answer the latest ping that was held back."""
        self.hold_pongs = False
        if self._held_pong is not None and self.reader is not None:
            self.reply(frame(FIN | PONG, self._held_pong))
        self._held_pong = None

    def _append(self, reader: FrameReader) -> bool:
        """Add a piece of a frame to the message in progress; true when that is whole."""
        if reader.first:
            if reader.opcode:
                if self._opcode:
                    raise ProtocolError(PROTOCOL_ERROR, "data frame inside a fragmented message")
                self._opcode = reader.opcode
                self._deflated = reader.rsv1
                self._fragments = 0
                self._utf8 = Utf8() if reader.opcode == TEXT else None
                reader.in_message = True
            elif not self._opcode:
                raise ProtocolError(PROTOCOL_ERROR, "continuation frame without a message")
            self._fragments += 1
            if self._fragments > MAX_FRAGMENTS:
                raise ProtocolError(MESSAGE_TOO_BIG, "message has too many fragments")
        parts = self._parts
        if parts is None:
            parts = self._parts = bytearray()
        payload: bytes = reader.payload
        self._arrived += len(payload)
        final: bool = reader.last and reader.fin
        if self._deflated and self._inflator is not None:
            payload = self._inflator.inflate(payload, final, self._max_size - len(parts))
        if self._utf8 is not None and not self._utf8.accepts(payload, final):
            raise ProtocolError(INVALID_DATA, "invalid UTF-8")  # fails fast (section 8.1)
        parts += payload
        if reader.last:
            # A declared length counts before its bytes arrive.
            reader.limit = self._max_size - len(parts)
        return final

    def _finish(self, reader: FrameReader) -> bytes | str:
        """The message that ``_append`` has completed."""
        parts = self._parts or b""
        self.size = len(parts)
        message = parts.decode() if self._opcode == TEXT else bytes(parts)
        reader.limit = self._max_size
        self._opcode = 0
        self._parts = None
        self._utf8 = None
        reader.in_message = False
        return message

    def _control(self, reader: FrameReader) -> None:
        """Obey a control frame (section 5.5); it has arrived whole."""
        payload: bytes = reader.payload
        if reader.opcode == PING:
            # Section 5.5.2: due until the peer's close frame, also behind our own.
            if self.hold_pongs:
                self._held_pong = payload
            else:
                self.reply(frame(FIN | PONG, payload))
        elif reader.opcode == PONG:
            self.pong = payload
        else:
            if len(payload) == 1:
                raise ProtocolError(PROTOCOL_ERROR, "close frame with half a code")
            code = NO_STATUS_RECEIVED
            if payload:
                code = int.from_bytes(payload[:2], "big")
                if not may_be_sent(code):
                    raise ProtocolError(PROTOCOL_ERROR, "invalid close code")
            self.close_reason = payload[2:].decode("utf-8", "strict")
            self.close_code = code
            self._move(RECEIVE_CLOSE, code, self.close_reason)
            self.reader = None

    def _fail(self, code: cython.Py_ssize_t, reason: str) -> None:
        self.close_code = code
        self.close_reason = reason
        self._move(FAIL, code, reason)
        self.reader = None
        self._parts = None

    def _move(self, event: cython.Py_ssize_t, code: cython.Py_ssize_t, reason: str) -> None:
        self.state, send_close = TRANSITIONS[self.state, event]
        if send_close:
            self.reply(frame(FIN | CLOSE, close_payload(code, reason)))
