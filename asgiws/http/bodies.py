"""The bodies of requests, unframed (RFC 9112 sections 6 and 7).

They are read strictly: a malformed chunk must not hide a second request from us or
from a proxy.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import RequestRefused
from ..wire.grammar import TOKEN

# Most bytes of one line of a chunked body's framing, and of all its extensions and
# trailers together (RFC 9112 section 7.1.1 asks for a limit).
MAX_CHUNK_LINE: Final = 4096
MAX_CHUNK_EXTRA: Final = 65_536

# RFC 9112 section 7.1; blanks may only stand around the marks of an extension. The repetitions
# are possessive, so this runs in linear time.
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"((?:[ \t]*+;[ \t]*+%(token)b(?:[ \t]*+=[ \t]*+(?:%(token)b|\"%(quoted)b\"))?+)*+)\r\n"
    % {
        b"token": TOKEN.encode() + b"+",
        b"quoted": rb'(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+',
    }
)
_TRAILER_LINE: Final = re.compile(rb"%b:[^\x00-\x08\x0a-\x1f\x7f]*" % TOKEN.encode())


class SizedBody:
    """A body of Content-Length bytes (RFC 9112 section 6.2)."""

    __slots__ = ("complete", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.complete = not length

    def read(self, buffer: bytearray) -> bytes:
        """Take what there is of the body from the front of ``buffer``."""
        taken = bytes(memoryview(buffer)[: self.left])
        del buffer[: len(taken)]
        self.left -= len(taken)
        self.complete = not self.left
        return taken


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1); extensions and trailers are ignored."""

    __slots__ = ("_extra", "_left", "_trailers", "complete")

    left: Final = None  # how much is still to come is unknown

    def __init__(self) -> None:
        self.complete = False
        self._left = -2  # of the chunk with its CRLF; -2: a size line is due
        self._trailers = False
        self._extra = 0

    def read(self, buffer: bytearray) -> bytes:
        """Take what there is of the body from the front of ``buffer``.

        Raises RequestRefused where the framing is broken.
        """
        parts = []
        at = 0
        size = len(buffer)
        while not self.complete:
            if self._left > 0:
                part = bytes(memoryview(buffer)[at : at + self._left])
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif self._left == 0:
                if size - at < 2:
                    break
                if buffer[at : at + 2] != b"\r\n":
                    raise RequestRefused(400, "a chunk is longer than its size")
                at += 2
                self._left = -2
            elif not self._trailers and (match := _CHUNK_LINE.match(buffer, at)) is not None:
                if match.end() - at > MAX_CHUNK_LINE:
                    raise RequestRefused(400, "a line of the chunked framing is too long")
                at = match.end()
                length = int(match[1], 16)
                if match[2]:
                    self._count(len(match[2]))
                if not length:
                    self._trailers = True
                elif buffer[at + length : at + length + 2] == b"\r\n":
                    parts.append(bytes(memoryview(buffer)[at : at + length]))  # it is here whole
                    at += length + 2
                else:
                    self._left = length
            else:
                end = buffer.find(b"\r\n", at, at + MAX_CHUNK_LINE)
                if end < 0:
                    if size - at >= MAX_CHUNK_LINE:
                        raise RequestRefused(400, "a line of the chunked framing is too long")
                    if buffer.find(b"\n", at) >= 0:
                        raise RequestRefused(400, "a line of the chunked framing has no CRLF")
                    break
                if not self._trailers:
                    raise RequestRefused(400, "a chunk has no valid size")
                self._read_trailer(bytes(memoryview(buffer)[at:end]))
                at = end + 2
        del buffer[:at]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self.complete = True
        elif _TRAILER_LINE.fullmatch(line):
            self._count(len(line))
        else:
            raise RequestRefused(400, "a trailer is malformed")

    def _count(self, extra: int) -> None:
        """Count bytes of extensions or trailers that have come."""
        self._extra += extra
        if self._extra > MAX_CHUNK_EXTRA:
            raise RequestRefused(400, "too many chunk extensions or trailers")
