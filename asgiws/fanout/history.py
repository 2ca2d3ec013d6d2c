"""What was published lately: one log in memory, which the workers of a machine can share.

All topics are numbered in one sequence. Whoever publishes appends under a lock of the
system, which a process that dies lets go of; whoever reads takes no lock. The oldest
records make room for new ones. So no worker owns a topic, none has to hand one over, and
one that is killed leaves a log that is whole: a record is there once ``head`` is behind it.

Each record knows the one before it in its topic. ``recover`` walks back along them and
answers only if nothing is missing.

Positions in the log grow for ever; where they are in the memory is their remainder.
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

VERSION: Final = 1

# Numbers of eight bytes at the begin of the memory.
_VERSION: Final = 0
_SIZE: Final = 1  # of the data behind them, in bytes
_EPOCH: Final = 2
_LAST: Final = 3  # the number of the last record
_HEAD: Final = 4  # where the next record comes
_TAIL: Final = 5  # where the oldest record is
_EVICTED: Final = 6  # the highest number of those that had to make room
_NUMBERS: Final = 16

_START: Final = _NUMBERS * 8
# length, checksum, number, time, number and position of the one before, sizes of name and key, kind
_HEADER: Final = struct.Struct("<IIQdQQHHB7x")
_LENGTH: Final = struct.Struct("<I")
_FILLER: Final = 0x8000_0000  # in a length: nothing until the end of the memory
_NO_KEY: Final = 0xFFFF

SMALLEST: Final = 65_536  # of the data, in bytes


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


class Retention(NamedTuple):
    """How much of a topic is kept: the last ``messages`` that are not older than ``seconds``."""

    messages: int
    seconds: float


class Wanted(NamedTuple):
    """What a server keeps, as its options say, and the memory that its workers share."""

    messages: int = 0  # of each topic
    seconds: float = 300.0  # for how long
    memory: int = 16_777_216  # bytes of all that is kept
    log: int | None = None  # the descriptor of the memory that the workers share


class History:
    """The log. Only the functions of one event loop may call it."""

    def __init__(self, size: int, fd: int | None = None) -> None:
        """``size`` (bytes) is that of a new log; ``fd`` a file in memory that others share.

        Raises OSError if the memory cannot be had.
        """
        self._fd = fd
        size = max(SMALLEST, size) // 8 * 8
        if fd is None:
            self._memory = mmap.mmap(-1, _START + size)
            self._numbers = memoryview(self._memory)[:_START].cast("Q")
            self._begin(size)
        else:
            self._lock(wait=True)
            try:
                if not os.fstat(fd).st_size:
                    os.ftruncate(fd, _START + size)
                self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
                self._numbers = memoryview(self._memory)[:_START].cast("Q")
                if not self._numbers[_VERSION]:
                    self._begin(size)
            finally:
                self._unlock()
        self._size = self._numbers[_SIZE]
        #: new with every log: positions of another one mean nothing here
        self.epoch = f"{self._numbers[_EPOCH]:x}"
        self._last: dict[str, tuple[int, int]] = {}  # topic -> number, place of its last record
        self._seen = self._numbers[_TAIL]  # up to where _last knows the log
        self._swept = self._seen

    def _begin(self, size: int) -> None:
        self._numbers[_SIZE] = size
        self._numbers[_EPOCH] = int.from_bytes(os.urandom(6), "big") | 1
        # Place 0 stands for none.
        self._numbers[_HEAD] = self._numbers[_TAIL] = size
        self._numbers[_VERSION] = VERSION

    @property
    def largest(self) -> int:
        """How many bytes topic, key and payload of a record may have together."""
        return int(self._size // 4) - _HEADER.size

    @property
    def last(self) -> int:
        """The number of the last record."""
        return int(self._numbers[_LAST])

    @property
    def head(self) -> int:
        """Where the next record comes; who reads begins there, or where it has stopped."""
        return int(self._numbers[_HEAD])

    def position(self, number: int) -> str:
        """A number as applications and clients see it: ``epoch:offset``."""
        return f"{self.epoch}:{number}"

    # Writing.

    def append(
        self,
        topic: str,
        kind: int,
        key: str | None,
        payload: bytes,
        retention: Callable[[str], Retention],
    ) -> int | None:
        """Append a message; its number, or None while another process appends.

        ``retention`` says which topics keep their latest message only: that one outlives
        what came after it.
        """
        if not self._lock():
            return None
        try:
            self._index()
            number = self._numbers[_LAST] + 1
            record = Record(number, time.monotonic(), topic, kind, key, payload, 0, 0)
            spared = self._make_room(self._need(record), retention)
            for old in spared:
                self._write(old)
            if spared:
                self._index()
            self._write(self._behind(record))
            self._numbers[_LAST] = number
            self._index()
            return int(number)
        finally:
            self._unlock()

    def _behind(self, record: Record) -> Record:
        """The record as the next one of its topic."""
        known = self._last.get(record.topic)
        if known is not None and known[1] >= self._numbers[_TAIL]:
            return record._replace(before=known[0], place_before=known[1])
        # Whatever there was of it had to make room.
        return record._replace(before=self._numbers[_EVICTED])

    def _need(self, record: Record) -> int:
        """How many bytes a record takes."""
        key = 0 if record.key is None else len(record.key.encode())
        size = _HEADER.size + len(record.topic.encode()) + key + len(record.payload)
        return (size + 7) // 8 * 8

    def _make_room(self, need: int, retention: Callable[[str], Retention]) -> list[Record]:
        """Let the oldest records go; those that must be written again."""
        numbers = self._numbers
        spared: list[Record] = []
        # At worst the end of the memory cannot be used.
        wanted = 2 * need
        while numbers[_HEAD] + wanted - numbers[_TAIL] > self._size:
            place = numbers[_TAIL]
            length, record = self._read(place)
            if not length:
                # Nobody can read on from here. That should not be, and must not be waited for.
                numbers[_EVICTED] = numbers[_LAST]
                numbers[_TAIL] = numbers[_HEAD]
                break
            if record is not None:
                is_last = self._last.get(record.topic) == (record.number, place)
                kept = retention(record.topic) if is_last else None
                more = 2 * self._need(record)
                if (
                    kept is not None
                    and kept.messages == 1
                    and time.monotonic() - record.seconds < kept.seconds
                    and wanted + more <= self._size // 2
                ):
                    spared.append(record._replace(place_before=0))
                    wanted += more
                else:
                    numbers[_EVICTED] = max(numbers[_EVICTED], record.number)
                if is_last:
                    del self._last[record.topic]
            numbers[_TAIL] = place + length
        return spared

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
        """How long what is there is, and the record; (0, None) if it is not whole."""
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

    def read(self, place: int) -> tuple[list[Record], int, bool]:
        """The records from there on, where they end, and whether some before them are lost."""
        numbers = self._numbers
        lost = place < numbers[_TAIL]
        if lost:
            place = numbers[_TAIL]
        records: list[Record] = []
        while place < numbers[_HEAD]:
            length, record = self._read(place)
            if place < numbers[_TAIL]:
                # It had to make room while we read it.
                lost = True
                place = numbers[_TAIL]
                continue
            if not length:
                break  # another processor sees it later than ``head``
            if record is not None:
                records.append(record)
            place += length
        return records, int(place), lost

    def recover(
        self, topic: str, since: int | None, retention: Retention
    ) -> tuple[list[Record], bool]:
        """What came behind number ``since``, and whether that is all of it.

        If it is not, nothing is given. With ``since`` None it is what is kept.
        """
        self._index()
        found: list[Record] = []
        oldest = time.monotonic() - retention.seconds
        known = self._last.get(topic)
        if known is None or known[1] < self._numbers[_TAIL]:
            complete = since is not None and self._numbers[_EVICTED] <= since <= self.last
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
                complete = since <= self.last
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

    def _index(self) -> None:
        """Know the last record of each topic."""
        if self._seen < self._numbers[_TAIL]:
            self._last.clear()
        numbers = self._numbers
        place = max(self._seen, numbers[_TAIL])
        while place < numbers[_HEAD]:
            length, record = self._read(place)
            if not length or place < numbers[_TAIL]:
                break
            if record is not None:
                self._last[record.topic] = record.number, place
            place += length
        self._seen = place
        tail = numbers[_TAIL]
        if tail - self._swept > self._size:
            self._swept = tail
            self._last = {name: at for name, at in self._last.items() if at[1] >= tail}

    # The lock.

    def _lock(self, wait: bool = False) -> bool:
        """Keep other processes from appending; whether we do."""
        if self._fd is None:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self) -> None:
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
