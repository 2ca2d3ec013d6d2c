"""The output of the processes of a fleet. A reader that does not read must not make them wait.

A pipe whose reader stalls fills up, and then a write to it waits. A supervisor must still
accept, replace and end. A worker that waited would be taken for one that hangs; it would be killed,
and its successor as well. A file on a full disk takes nothing either.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_PIECE = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512  # bytes that a pipe takes whole

NOBODY = "nobody read them"


class Impatient(io.RawIOBase):
    """Writes as much as is taken at once. The rest is lost, and its size is told later."""

    def __init__(self, fd: int) -> None:
        """Write to the file of ``fd``, which the caller still has to close."""
        self._fd = _own(fd)
        self._lost = 0
        self._why = NOBODY
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Write it, or lose it; raises BrokenPipeError if no reader is left."""
        if self._lost and self._put(self._told()):
            self._lost, self._why = 0, NOBODY
        if self._lost or not self._put(bytes(data)):
            self._lost += 1
        return len(data)

    def _told(self) -> bytes:
        writes = "1 write was" if self._lost == 1 else f"{self._lost} writes were"
        return f"({writes} lost: {self._why})\n".encode()

    def _put(self, data: bytes) -> bool:
        """Return whether all of it was taken."""
        for first in range(0, len(data), _PIECE):
            piece = data[first : first + _PIECE]
            try:
                if not self._poll.poll(0) or os.write(self._fd, piece) < len(piece):
                    return False
            except BrokenPipeError:
                raise
            except BlockingIOError:
                return False
            except OSError as exc:  # a full disk
                self._why = exc.strerror or NOBODY
                return False
        return True


def _own(fd: int) -> int:
    """Open the pipe once more: this descriptor does not block, and other writers still do."""
    path = f"/proc/self/fd/{fd}"
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass  # another user's, or another system: it is asked before each write
    return os.dup(fd)


@contextmanager
def impatient_output(*, terminals: bool) -> Iterator[None]:
    """Let no output in the block wait for a reader.

    If ``terminals`` are left as they are, ``input()`` and a debugger can edit a line there.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        _impatient(stream, fd) if terminals or not os.isatty(fd) else stream
        for stream, fd in zip(before, (1, 2), strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _impatient(stream: TextIO, fd: int) -> TextIO:
    """The same stream over an Impatient, if it writes to that descriptor."""
    try:
        if stream.fileno() != fd:
            return stream
        stream.flush()
        raw: Any = Impatient(fd)
    except (AttributeError, OSError, ValueError):
        return stream  # closed, or a stand-in of somebody's
    return io.TextIOWrapper(
        raw,
        encoding=stream.encoding,
        errors=stream.errors,
        write_through=True,
    )
