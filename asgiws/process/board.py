"""Shared memory in which a supervisor and its workers tell each other how they are.

Every process of a fleet has a seat, a row of numbers of eight bytes. Each number is
written by one process only and may be read by any. An aligned number of eight bytes is written
at once, so no lock is needed and no write is lost.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from ..options.config import MOST_WORKERS
from .descriptors import memory_file

SEATS: Final = 2 * MOST_WORKERS  # each may have a successor beside it
_ROW: Final = 16  # numbers: a cache line for the supervisor's, one for the worker's
_BYTES: Final = SEATS * _ROW * 8

# The supervisor's.
_GIVEN: Final = 0
_SHARES: Final = 1
# The worker's.
_ENDED: Final = 8
_BEAT: Final = 9
_TAKES: Final = 10


DEBUGGED: Final = -1  # the beat of a worker that stands at a breakpoint


class Board:
    """All seats, in memory that is shared with all processes that have the descriptor ``fd``."""

    def __init__(self, fd: int | None = None) -> None:
        """Without ``fd`` it is new, and all its numbers are 0."""
        self.fd = _new_file() if fd is None else fd
        self._memory = mmap.mmap(self.fd, _BYTES)
        self._numbers = memoryview(self._memory).cast("q")

    def seat(self, index: int) -> Seat:
        """The seat with that number, from 0 to SEATS - 1."""
        return Seat(self._numbers[index * _ROW : (index + 1) * _ROW])

    def close(self) -> None:
        """Close the descriptor; seats can be used on."""
        os.close(self.fd)


class Seat:
    """The numbers of one worker."""

    __slots__ = ("_row",)

    def __init__(self, row: memoryview) -> None:
        self._row = row

    def clear(self) -> None:
        """Clear the seat of a former worker; no process may be writing to it."""
        for index in range(_ROW):
            self._row[index] = 0

    @property
    def given(self) -> int:
        """The number of connections that the supervisor has handed over, less those taken back."""
        return int(self._row[_GIVEN])

    @given.setter
    def given(self, number: int) -> None:
        self._row[_GIVEN] = number

    @property
    def shares(self) -> int:
        """The number of workers that share the limits of the fleet; the supervisor writes it."""
        return int(self._row[_SHARES])

    @shares.setter
    def shares(self, number: int) -> None:
        self._row[_SHARES] = number

    @property
    def ended(self) -> int:
        """The number of those connections that have ended; the worker writes it."""
        return int(self._row[_ENDED])

    @ended.setter
    def ended(self, number: int) -> None:
        self._row[_ENDED] = number

    @property
    def beat(self) -> int:
        """The time at which the worker's event loop last ran: CLOCK_MONOTONIC in nanoseconds."""
        return int(self._row[_BEAT])

    @beat.setter
    def beat(self, nanoseconds: int) -> None:
        self._row[_BEAT] = nanoseconds

    @property
    def takes(self) -> bool:
        """True if the worker has descriptors left for more connections; the worker writes it."""
        return bool(self._row[_TAKES])

    @takes.setter
    def takes(self, takes: bool) -> None:
        self._row[_TAKES] = takes

    def takes_since(self, nanoseconds: int) -> bool:
        """True if the event loop has run since then and has descriptors left, read together."""
        row = self._row
        return bool(row[_BEAT] >= nanoseconds and row[_TAKES])

    @property
    def load(self) -> int:
        """The number of connections that the worker has, in its inbox and open."""
        row = self._row
        return int(row[_GIVEN] - row[_ENDED])


def _new_file() -> int:
    fd = memory_file()
    os.ftruncate(fd, _BYTES)
    return fd
