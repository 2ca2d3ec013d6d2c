"""The latest publications: one log in memory, which the workers of a machine can share.

All topics are numbered in one sequence. A writer appends under a lock of the system, which is
released if its process dies; a reader takes no lock. The oldest records make room for new ones.
So no worker owns a topic, and none has to hand one over. A worker that is killed leaves a whole
log, because a record counts only once ``head`` is behind it.

Each record knows the one before it in its topic. ``recover`` walks back along them and
answers only if nothing is missing. For that a reader remembers the last record of each topic:
``advance`` looks at every record once.

Positions in the log grow for ever; their remainder is the place in the memory.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

try:
    import fcntl
except ImportError:  # Windows, which has no workers either
    fcntl = None  # type: ignore[assignment]

# Numbers of eight bytes at the begin of the memory.
_SIZE: Final = 0  # of the data behind them, in bytes
_EPOCH: Final = 1
_LAST: Final = 2  # the number of the last record
_HEAD: Final = 3  # where the next record comes
_TAIL: Final = 4  # where the oldest record is
_EVICTED: Final = 5  # the highest number of those that had to make room
_LAP: Final = 6  # the head at the begin of its present round
_SPARED: Final = 7  # bytes that were written again since
_NUMBERS: Final = 16

_START: Final = _NUMBERS * 8
# length, checksum, number, time, number and position of the one before, sizes of name and key, kind
_HEADER: Final = struct.Struct("<IIQdQQHHB7x")
_LENGTH: Final = struct.Struct("<I")
_FILLER: Final = 0x8000_0000  # in a length: nothing until the end of the memory
_NO_KEY: Final = 0xFFFF

SMALLEST: Final = 65_536  # of the data, in bytes

# Of the oldest records an append looks at so many, ahead of need, and at one more for so many
# bytes of its own; and at so many at most: then it has to be called again. A record takes some
# microseconds.
AHEAD: Final = 16
AHEAD_BYTES: Final = 16
AT_ONCE: Final = 256


class Record(NamedTuple):
    """One message in the log."""

    number: int
    seconds: float  # CLOCK_MONOTONIC
    topic: str
    kind: int
    key: str | None
    payload: bytes
    before: int  # the number of the one before it in its topic, or a number above that
    place_before: int  # where that one is; 0 if that is not known


class Lost(NamedTuple):
    """Marks the place where records are missing, behind that number."""

    number: int


class Retention(NamedTuple):
    """The part of a topic that is kept: the last ``messages`` not older than ``seconds``."""

    messages: int
    seconds: float


class Wanted(NamedTuple):
    """The history that the options ask for, and the memory that the workers share."""

    messages: int = 0  # of each topic
    seconds: float = 300.0  # for how long
    memory: int = 16_777_216  # bytes of all that is kept
    log: int | None = None  # the descriptor of the memory that the workers share
    url: str | None = None  # of a broker that is to be used instead


def begin_log(fd: int, size: int) -> None:
    """Make a file in memory an empty log of ``size`` bytes. Raises OSError."""
    size = max(SMALLEST, size) // 8 * 8
    os.ftruncate(fd, _START + size)
    os.pwrite(fd, _beginning(size), 0)


def _beginning(size: int) -> bytes:
    """The numbers of an empty log."""
    numbers = [0] * _NUMBERS
    numbers[_SIZE] = size
    numbers[_EPOCH] = int.from_bytes(os.urandom(6), "big") | 1
    numbers[_HEAD] = numbers[_TAIL] = size  # place 0 stands for none
    return struct.pack(f"={_NUMBERS}Q", *numbers)


class History:
    """The log, as one process sees it. Only the functions of one event loop may call it."""

    def __init__(self, size: int, fd: int | None = None) -> None:
        """``size`` (bytes) is that of a log for this process alone; ``fd`` one of ``begin_log``,
        which others share.

        Raises OSError if the memory cannot be had.
        """
        self._fd = fd
        if fd is None:
            size = max(SMALLEST, size) // 8 * 8
            self._memory = mmap.mmap(-1, _START + size)
            self._memory[:_START] = _beginning(size)
        else:
            self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._numbers = memoryview(self._memory)[:_START].cast("Q")
        self._size = self._numbers[_SIZE]
        #: new with every log: positions of another one mean nothing here
        self.epoch = f"{self._numbers[_EPOCH]:x}"
        #: the highest number that ``advance`` has seen
        self.seen = 0
        self._last: dict[str, tuple[int, int]] = {}  # topic -> number, place of its last record
        self._place = self._numbers[_TAIL]  # up to where we have looked
        self._swept = self._place
        self._old = self._numbers[_HEAD]  # records before that are not new
        self._new: list[Record | Lost] = []
        #: the last ``append`` gave None because there was still something to be moved
        self.is_moving = False

    @property
    def largest(self) -> int:
        """The number of bytes topic, key and payload of a record may have together."""
        return int(self._size // 4) - _HEADER.size

    def position(self, number: int) -> str:
        """A number as applications and clients see it: ``epoch:offset``."""
        return f"{self.epoch}:{number}"

    def begin_at(self, number: int) -> None:
        """All records from that number on are new; before ``advance`` is called."""
        self._old = 0
        self.seen = number - 1

    # Writing.

    def append(
        self,
        topic: str,
        kind: int,
        key: str | None,
        payload: bytes,
        retention: Callable[[str], Retention],
    ) -> int | None:
        """Append a message; return its number, or None if it must be tried again, because another
        process appends, or because much has to be moved before there is room.

        ``retention`` says which topics keep their latest message only. That message outlives
        later records, as long as all such messages take less than a quarter of the memory.
        """
        self.is_moving = False
        self.advance()  # most of it while others can append
        if not self._lock():
            return None
        try:
            self.advance()
            record = Record(0, time.monotonic(), topic, kind, key, payload, 0, 0)
            self.is_moving = not self._make_room(self._need(record), retention)
            if self.is_moving:
                return None
            # Should this process die here, the number is never used.
            number = self._numbers[_LAST] = self._numbers[_LAST] + 1
            self._write(self._behind(record._replace(number=number)))
            self.advance()
            return int(number)
        finally:
            self._unlock()

    def _behind(self, record: Record) -> Record:
        """The record as the next one of its topic."""
        known = self._last.get(record.topic)
        if known is not None and known[1] >= self._numbers[_TAIL]:
            return record._replace(before=known[0], place_before=known[1])
        # All of its records had to make room.
        return record._replace(before=self._numbers[_EVICTED])

    def _need(self, record: Record) -> int:
        """Return how many bytes a record takes."""
        key = 0 if record.key is None else len(record.key.encode())
        size = _HEADER.size + len(record.topic.encode()) + key + len(record.payload)
        return (size + 7) // 8 * 8

    def _make_room(self, need: int, retention: Callable[[str], Retention]) -> bool:
        """Drop the oldest records, and write again those that stay; return whether there is room.

        Some room is made ahead, so that no append has to move very much.
        """
        numbers = self._numbers
        if numbers[_HEAD] - numbers[_LAP] >= self._size:
            numbers[_LAP] = numbers[_HEAD]
            numbers[_SPARED] = 0
        ahead = self._size // 16
        steps = min(max(AHEAD, need // AHEAD_BYTES), AT_ONCE)
        evicted = numbers[_EVICTED]
        spared: list[Record] = []
        size = largest = 0  # of those; as much as the largest may be lost at the end of the memory
        looked = 0
        while numbers[_TAIL] < numbers[_HEAD]:
            room = self._size - (numbers[_HEAD] - numbers[_TAIL]) - size - max(largest, need)
            if room >= need and (room >= need + ahead or looked >= steps):
                break
            if looked >= AT_ONCE and room + max(largest, need) >= largest:
                break
            looked += 1
            place = numbers[_TAIL]
            length, record = self._read(place)
            if not length:
                # No process can read on from here. That should not happen, and must not be waited
                # for.
                evicted = numbers[_LAST]
                numbers[_TAIL] = numbers[_HEAD]
                break
            if record is not None:
                if self._is_spared(record, place, retention):
                    spared.append(record._replace(place_before=0))
                    size += length
                    largest = max(largest, length)
                else:
                    evicted = max(evicted, record.number)
                # Until it is written again it counts as gone: this process may die.
                numbers[_EVICTED] = max(numbers[_EVICTED], record.number)
                if self._last.get(record.topic) == (record.number, place):
                    del self._last[record.topic]
            numbers[_TAIL] = place + length
        for record in spared:
            self._write(record)
        numbers[_SPARED] += size
        numbers[_EVICTED] = evicted
        if spared:
            self.advance()
        return bool(self._size - (numbers[_HEAD] - numbers[_TAIL]) >= 2 * need)

    def _is_spared(self, record: Record, place: int, retention: Callable[[str], Retention]) -> bool:
        """True if the oldest record stays: it is the latest of a topic that keeps only one."""
        if self._last.get(record.topic) != (record.number, place):
            return False
        kept = retention(record.topic)
        return (
            kept.messages == 1
            and time.monotonic() - record.seconds < kept.seconds
            # A quarter, and the records that may be met twice in one round because of the room
            # ahead.
            and self._numbers[_SPARED] + self._need(record) <= self._size * 5 // 16
        )

    def _write(self, record: Record) -> None:
        """Write a record at the head; there is room."""
        numbers = self._numbers
        name = record.topic.encode()
        key = b"" if record.key is None else record.key.encode()
        need = self._need(record)
        head = numbers[_HEAD]
        left = self._size - head % self._size
        if left < need:
            _LENGTH.pack_into(self._memory, _START + head % self._size, _FILLER | left)
            head += left
        at = _START + head % self._size
        fields = (
            record.number,
            record.seconds,
            record.before,
            record.place_before,
            len(name),
            _NO_KEY if record.key is None else len(key),
            record.kind,
        )
        body = name + key + record.payload
        size = _HEADER.size + len(body)
        checksum = zlib.crc32(body, zlib.crc32(_HEADER.pack(size, 0, *fields)))
        self._memory[at : at + size] = _HEADER.pack(size, checksum, *fields) + body
        numbers[_HEAD] = head + need

    # Reading.

    def _read(self, place: int) -> tuple[int, Record | None]:
        """Return the length of the record there, and the record; (0, None) if it is not whole."""
        at = _START + place % self._size
        (size,) = _LENGTH.unpack_from(self._memory, at)
        if size & _FILLER:
            left = size & ~_FILLER
            return (left, None) if left == self._size - place % self._size else (0, None)
        if not _HEADER.size <= size <= self._size - place % self._size:
            return 0, None
        data = self._memory[at : at + size]
        fields = _HEADER.unpack_from(data)
        checksum = fields[1]
        body = data[_HEADER.size :]
        if zlib.crc32(body, zlib.crc32(_HEADER.pack(size, 0, *fields[2:]))) != checksum:
            return 0, None
        number, seconds, before, place_before, name, key, kind = fields[2:]
        behind = name + (0 if key == _NO_KEY else key)
        record = Record(
            number,
            seconds,
            body[:name].decode(),
            kind,
            None if key == _NO_KEY else body[name:behind].decode(),
            body[behind:],
            before,
            place_before,
        )
        return (size + 7) // 8 * 8, record

    def advance(self, most: int = 0) -> bool:
        """Look at the new records, at most that many; return whether there are more."""
        numbers = self._numbers
        looked = 0
        while self._place < numbers[_HEAD]:
            if most and looked == most:
                return True
            length, record = (0, None)
            if self._place >= numbers[_TAIL]:
                length, record = self._read(self._place)
            if self._place < numbers[_TAIL]:
                # The record had to make room before or while we looked at it.
                if self._place >= self._old:
                    self._new.append(Lost(self.seen))
                self._last.clear()
                self._place = int(numbers[_TAIL])
                continue
            if not length:
                break  # another processor sees it later than ``head``
            if record is not None:
                looked += 1
                self._last[record.topic] = record.number, self._place
                # One with a lower number is the latest of its topic, written again.
                if record.number > self.seen:
                    self.seen = record.number
                    if self._place >= self._old:
                        self._new.append(record)
            self._place += length
        tail = numbers[_TAIL]
        if tail - self._swept > self._size:
            self._swept = tail
            self._last = {name: at for name, at in self._last.items() if at[1] >= tail}
        return False

    def new(self) -> list[Record | Lost]:
        """Return the records since the last call, and where some were lost."""
        found, self._new = self._new, []
        return found

    def recover(
        self, topic: str, since: int | None, retention: Retention
    ) -> tuple[list[Record], bool]:
        """Return the messages behind number ``since``, and whether they are complete.

        If it is not, nothing is given. With ``since`` None it is what is kept. What has come
        since the last ``advance`` is not looked at: it will be new.
        """
        found: list[Record] = []
        oldest = time.monotonic() - retention.seconds
        known = self._last.get(topic)
        if known is None or known[1] < self._numbers[_TAIL]:
            complete = since is not None and self._numbers[_EVICTED] <= since <= self.seen
            return found, complete
        place = known[1]
        while True:
            record = None
            if place >= self._numbers[_TAIL]:
                _, record = self._read(place)
                if place < self._numbers[_TAIL]:
                    record = None
            if record is None or record.topic != topic:
                complete = False
                break
            if since is not None and record.number <= since:
                complete = since <= self.seen
                break
            if len(found) == retention.messages or record.seconds < oldest:
                complete = False
                break
            found.append(record)
            if since is not None and record.before <= since:
                complete = True
                break
            if not record.place_before:
                complete = False
                break
            place = record.place_before
        if since is not None and not complete:
            found.clear()
        found.reverse()
        return found, complete

    # The lock.

    def _lock(self) -> bool:
        """Try to keep other processes from appending; return whether that worked."""
        if self._fd is None:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self) -> None:
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
