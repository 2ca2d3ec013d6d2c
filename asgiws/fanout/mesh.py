"""The workers of one machine, each connected to each other one: who wants what, and messages.

The supervisor introduces two workers by giving each one end of a pair of sockets; it reads
nothing of what they say. A record is its length (4 bytes), its kind (1 byte) and fields,
all of them bytes: nothing is ever executed of what another worker says.

A worker that does not read costs the others at most MAX_WAITING bytes. What does not fit is
counted by topic, and the worker is told when it reads again.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..errors import BusUnavailable
from ..log import error_log
from .message import Publication

VERSION: Final = 1
MAX_WAITING: Final = 8_388_608  # bytes for one worker, beside those in the kernel
READY_SECONDS: Final = 5.0  # for the supervisor and the other workers, when one joins
MAX_RECORD: Final = 33_554_432

HELLO: Final = 0  # version, number of the worker
INTEREST: Final = 1  # members, topic
MESSAGE: Final = 2  # a publication
NEWS: Final = 3  # there is something new in the log
GAP: Final = 4  # messages that were dropped, topic

_LENGTH: Final = struct.Struct("<IB")
_TWO: Final = struct.Struct("<HI")
_NUMBER: Final = struct.Struct("<I")
_MESSAGE: Final = struct.Struct("<BHH")
_NO_KEY: Final = 0xFFFF


class Hub(Protocol):
    """What a mesh asks of its hub."""

    def deliver(self, publication: Publication) -> int:
        """Give a publication to all members."""

    def miss(self, topic: str | None, messages: int) -> None:
        """Publications of a topic were lost."""

    def look(self) -> None:
        """There is something new in the log."""

    def numbers(self) -> dict[str, int]:
        """How many members each topic has."""


class Peer(asyncio.Protocol):
    """One other worker: what it has subscribed to, and what goes to it."""

    def __init__(self, mesh: Mesh, number: int) -> None:
        self._mesh = mesh
        self.number = number
        self._transport: Any = None
        self._buffer = bytearray()
        self._records: list[bytes] = []
        self._due = False
        self._gaps: dict[str, int] = {}
        #: how many members its topics have
        self.members: dict[str, int] = {}
        #: whether it has said what it has subscribed to
        self.has_greeted = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_WAITING // 8)
        self.write(HELLO, _TWO.pack(VERSION, self._mesh.number))
        for topic, members in self._mesh.numbers().items():
            self.write(INTEREST, _NUMBER.pack(members) + topic.encode())
        self.write(INTEREST, _NUMBER.pack(0))

    def write(self, kind: int, body: bytes) -> None:
        """Write a record with all others of this iteration of the loop."""
        self._records.append(_LENGTH.pack(len(body), kind) + body)
        if not self._due:
            self._due = True
            self._mesh.loop.call_soon(self._flush)

    def offer(self, topic: str, body: bytes) -> bool:
        """Write a message, if there is room for it."""
        if self._transport is None:
            return False
        if self._gaps or self._transport.get_write_buffer_size() > MAX_WAITING:
            self._gaps[topic] = self._gaps.get(topic, 0) + 1
            return False
        self.write(MESSAGE, body)
        return True

    def resume_writing(self) -> None:
        gaps, self._gaps = self._gaps, {}
        for topic, number in gaps.items():
            self.write(GAP, _NUMBER.pack(number) + topic.encode())

    def _flush(self) -> None:
        self._due = False
        records, self._records = self._records, []
        if self._transport is not None:
            self._transport.write(b"".join(records))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            size, kind = _LENGTH.unpack_from(buffer, at)
            if size > MAX_RECORD:
                self._break(f"a record of {size} bytes")
                return
            end = at + _LENGTH.size + size
            if len(buffer) < end:
                break
            try:
                self._mesh.heard(self, kind, bytes(buffer[at + _LENGTH.size : end]))
            except (ValueError, struct.error) as exc:
                self._break(str(exc))
                return
            at = end
        del buffer[:at]

    def _break(self, why: str) -> None:
        error_log.error("Worker %d speaks another language (%s)", self.number, why)
        self.close()

    def close(self) -> None:
        """Say no more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._mesh.lost(self)


class Mesh:
    """All other workers that use topics."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        join: Callable[[], object],
        hub: Hub,
    ) -> None:
        """``join()`` asks the supervisor to introduce this worker; it answers by ``meet`` and
        ``joined``. ``number`` is that of this worker.
        """
        self.loop = loop
        self.number = number
        self._ask = join
        self._hub = hub
        self._peers: dict[int, Peer] = {}
        self._awaited: set[int] | None = None  # who is to greet; None before that is known
        self._ready: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def numbers(self) -> dict[str, int]:
        """What this worker has subscribed to."""
        return self._hub.numbers()

    async def ready(self) -> None:
        """Wait until all who have joined before know us, and we know them."""
        if self._ready is None:
            self._ready = self.loop.create_future()
            self._ask()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), READY_SECONDS)
        except TimeoutError:
            raise BusUnavailable(
                f"the other workers have not answered for {READY_SECONDS:g} s"
            ) from None

    # What the supervisor tells.

    def meet(self, number: int, sock: socket.socket) -> None:
        """Another worker is at the other end."""
        peer = Peer(self, number)
        self._peers[number] = peer
        task = self.loop.create_task(_connect(self.loop, peer, sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def joined(self, numbers: list[int]) -> None:
        """These have joined before, and we have met them."""
        self._awaited = {n for n in numbers if n in self._peers and not self._peers[n].has_greeted}
        self._look()

    def _look(self) -> None:
        known = self._awaited is not None and not self._awaited
        if known and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    # What the hub does.

    def tell(self, topic: str, members: int) -> None:
        """So many members has a topic here."""
        for peer in self._peers.values():
            peer.write(INTEREST, _NUMBER.pack(members) + topic.encode())

    def send(self, publication: Publication) -> int:
        """Send a message to those who have members; how many members these are."""
        reached = 0
        body = b""
        for peer in self._peers.values():
            members = peer.members.get(publication.topic)
            if members:
                body = body or _encode(publication)
                if peer.offer(publication.topic, body):
                    reached += members
        return reached

    def news(self, topic: str) -> int:
        """Tell those who have members that there is something in the log."""
        reached = 0
        for peer in self._peers.values():
            members = peer.members.get(topic)
            if members:
                peer.write(NEWS, b"")
                reached += members
        return reached

    def count(self, topic: str) -> int:
        """How many members a topic has in the other workers."""
        return sum(peer.members.get(topic, 0) for peer in self._peers.values())

    def healthy(self) -> bool:
        """Whether this worker has joined."""
        return self._ready is not None and self._ready.done()

    def close(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
        for peer in tuple(self._peers.values()):
            peer.close()

    # What the others say.

    def heard(self, peer: Peer, kind: int, body: bytes) -> None:
        """Another worker has said something."""
        if kind == MESSAGE:
            self._hub.deliver(_decode(body))
        elif kind == NEWS:
            self._hub.look()
        elif kind == INTEREST:
            (members,) = _NUMBER.unpack_from(body)
            topic = body[_NUMBER.size :].decode()
            if members:
                peer.members[topic] = members
            elif topic:
                peer.members.pop(topic, None)
            else:
                peer.has_greeted = True
                if self._awaited is not None:
                    self._awaited.discard(peer.number)
                self._look()
        elif kind == GAP:
            (number,) = _NUMBER.unpack_from(body)
            self._hub.miss(body[_NUMBER.size :].decode(), number)
        elif kind == HELLO:
            version, _ = _TWO.unpack(body)
            if version != VERSION:
                raise ValueError(f"version {version}, and not {VERSION}")
        else:
            raise ValueError(f"a record of kind {kind}")

    def lost(self, peer: Peer) -> None:
        """Another worker has ended."""
        if self._peers.get(peer.number) is peer:
            del self._peers[peer.number]
        if self._awaited is not None:
            self._awaited.discard(peer.number)
        self._look()


async def _connect(loop: asyncio.AbstractEventLoop, peer: Peer, sock: socket.socket) -> None:
    await loop.create_unix_connection(lambda: peer, sock=sock)


def _encode(publication: Publication) -> bytes:
    topic = publication.topic.encode()
    key = b"" if publication.key is None else publication.key.encode()
    size = _NO_KEY if publication.key is None else len(key)
    head = _MESSAGE.pack(publication.kind, len(topic), size)
    return head + topic + key + publication.payload


def _decode(body: bytes) -> Publication:
    kind, topic, key = _MESSAGE.unpack_from(body)
    begin = _MESSAGE.size + topic
    end = begin + (0 if key == _NO_KEY else key)
    return Publication(
        body[_MESSAGE.size : begin].decode(),
        kind,
        body[end:],
        None if key == _NO_KEY else body[begin:end].decode(),
    )
