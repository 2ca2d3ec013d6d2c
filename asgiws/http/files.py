"""A file as the body of a response, read in pieces without blocking the event loop.

Bytes in the page cache are copied at once; for bytes that must come from the disk first a thread
waits. The kernel tells which they are (RWF_NOWAIT, on Linux); on other systems the thread reads
everything.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any, Final

PIECE: Final = 131_072  # bytes read at once

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


# Without it opening a pipe would wait for a writer.
_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NONBLOCK)


class File:
    """A regular file that is open for reading, from its first byte on; ``size`` is its length."""

    __slots__ = ("_at", "_buffer", "_file", "_nowait", "_reading", "size")

    def __init__(self, path: str) -> None:
        """Open it; raises OSError where it cannot be read or is not a regular file."""
        self._file = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise OSError(f"{path} is not a regular file")
        self.size = status.st_size
        self._at = 0
        self._buffer = bytearray()
        self._nowait = bool(_NOWAIT)
        self._reading: asyncio.Future[Any] | None = None

    async def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes at most; none at the end of the file. Raises OSError."""
        data = self._read_cached(size) if self._nowait else b""
        if not data:
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(None, self._read, self._at, size)
            # The thread uses the file until it is done, even if the call is cancelled.
            data = await asyncio.shield(self._reading)
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close it, when no thread reads it any more."""
        if self._reading is None or self._reading.done():
            self._file.close()
        else:
            self._reading.add_done_callback(lambda _reading: self._file.close())

    def _read_cached(self, size: int) -> bytes:
        """Return the next bytes that are in memory; none if that is not known."""
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        try:
            count = os.preadv(self._file.fileno(), [view], self._at, _NOWAIT)
        except BlockingIOError:
            return b""
        except OSError:
            self._nowait = False  # a file system that cannot do it
            return b""
        return bytes(view[:count])

    def _read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)
