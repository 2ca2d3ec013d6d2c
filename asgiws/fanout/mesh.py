"""The workers of one machine, each connected to each other one: subscriptions and messages.

The supervisor introduces two workers by giving each one end of a pair of sockets; it does not read
what they say. A record is its length (4 bytes), its kind (1 byte) and fields, all of them bytes:
nothing that another worker says is ever executed.

A worker that does not read costs the others about MAX_WAITING bytes. Messages that do not fit
are counted by topic, and the worker is told when it reads again. Of all other facts only the
latest is kept for it.

Every loss is told. The last record of a worker that ends is BYE; if it is missing, messages before
it may be missing, too. A worker that has not heard of a subscription within HEARD_SECONDS may have
published without it; this is told when its answer comes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from ..errors import BusUnavailable
from ..log import error_log
from .message import Publication

VERSION: Final = 1
MAX_WAITING: Final = 8_388_608  # bytes for one worker, beside those in the kernel
READY_SECONDS: Final = 5.0  # for the supervisor, when a worker joins
# For the other workers, when one has joined or subscribed: one that hangs is not waited for.
HEARD_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 2.0  # for the other workers to take what is still to be written
AGAIN_SECONDS: Final = 1.0  # before the supervisor is asked for one that was lost
MAX_RECORD: Final = 33_554_432

HELLO: Final = 0  # version, number of the worker
INTEREST: Final = 1  # members, topic
MESSAGE: Final = 2  # a publication
NEWS: Final = 3  # the number of the first record of the log that is new
GAP: Final = 4  # messages that were dropped, topic; without a topic any of them may be missing
ASK: Final = 5  # a number: answer it, once all before it is heard
ANSWER: Final = 6  # that number
BYE: Final = 7  # the last record of a worker that ends

_LENGTH: Final = struct.Struct("<IB")
_TWO: Final = struct.Struct("<HI")
_NUMBER: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<Q")
_MESSAGE: Final = struct.Struct("<BHH")
_NO_KEY: Final = 0xFFFF


class Hub(Protocol):
    """The interface that a mesh uses of its hub."""

    def deliver(self, publication: Publication) -> int:
        """Give a publication to all members."""

    def miss(self, topic: str, messages: int) -> None:
        """Publications of a topic were lost."""

    def miss_live(self, topic: str | None = None) -> None:
        """Publications of a topic, or of any, may have been lost, if it has no history."""

    def news(self, number: int) -> None:
        """The log has new records, from that number on."""

    def numbers(self) -> dict[str, int]:
        """Return how many members each topic has."""


class Question(NamedTuple):
    """Asks whether a worker knows of a topic; ``answer`` is cancelled once none waits for it."""

    topic: str
    answer: asyncio.Future[None]


class Peer(asyncio.Protocol):
    """One other worker: what it has subscribed to, and what goes to it."""

    def __init__(self, mesh: Mesh, number: int, again: bool = False) -> None:
        """``again``: the two may have published since without reaching each other."""
        self._mesh = mesh
        self.number = number
        self.again = again
        self._transport: Any = None
        self._buffer = bytearray()
        self._records: list[bytes] = []  # those of this iteration of the loop
        self._size = 0  # of these
        # To be told when it reads again: messages that were dropped, members, news of the log.
        self._gaps: dict[str, int] = {}
        self._interest: dict[str, int] = {}
        self._news: int | None = None
        self._unasked: set[str] = set()  # topics to ask it about then
        self._paused = False
        self._finishes = False
        #: whether all its records were read
        self.is_through = False
        #: by the numbers that it is to answer
        self.questions: dict[int, Question] = {}
        #: how many members its topics have
        self.members: dict[str, int] = {}
        #: done when it has said what it has subscribed to
        self.greeted: asyncio.Future[None] = mesh.loop.create_future()
        #: done when nothing more can be written
        self.gone: asyncio.Future[None] = mesh.loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_WAITING // 8)
        self.write(HELLO, _TWO.pack(VERSION, self._mesh.number))
        for topic, members in self._mesh.numbers().items():
            self.write(INTEREST, _NUMBER.pack(members) + topic.encode())
        self.write(INTEREST, _NUMBER.pack(0))
        if self.again:
            self.write(GAP, _NUMBER.pack(1))
        self._ask_late()

    def write(self, kind: int, body: bytes) -> None:
        """Write a record with all others of this iteration of the loop."""
        if self._finishes:
            return
        if not self._records:
            self._mesh.loop.call_soon(self._flush)
        self._records.append(_LENGTH.pack(len(body), kind) + body)
        self._size += len(body)

    def offer(self, topic: str, body: bytes) -> bool:
        """Write a message, if there is room for it."""
        if self._transport is None:
            return False
        waiting = self._size + self._transport.get_write_buffer_size()
        if self._gaps or waiting > MAX_WAITING:
            self._gaps[topic] = self._gaps.get(topic, 0) + 1
            return False
        self.write(MESSAGE, body)
        return True

    def tell(self, topic: str, members: int) -> None:
        """Tell how many members a topic has here, now or when the peer reads again."""
        if self._paused:
            self._interest[topic] = members
        else:
            self.write(INTEREST, _NUMBER.pack(members) + topic.encode())

    def tell_news(self, number: int) -> None:
        """Tell that the log has new records: one record is enough for all that follow."""
        if self._news is None:
            self._news = number
            if not self._paused:
                self.write(NEWS, _RECORD.pack(number))

    def ask(self, topic: str) -> asyncio.Future[None] | None:
        """Return a future, done when the peer has read what was told of a topic.

        None if it hangs; then it is asked when it reads again.
        """
        if self._paused or self._transport is None:
            self._unasked.add(topic)
            return None
        number = self._mesh.next_number()
        answer = self._mesh.loop.create_future()
        self.questions[number] = Question(topic, answer)
        self.write(ASK, _NUMBER.pack(number))
        return answer

    def hear_answer(self, number: int) -> None:
        """It knows of a topic now; its earlier publications did not come."""
        question = self.questions.pop(number, None)
        if question is None:
            return
        if question.answer.cancelled():
            self._mesh.miss(question.topic)
        elif not question.answer.done():
            question.answer.set_result(None)

    def _ask_late(self) -> None:
        unasked, self._unasked = self._unasked, set()
        for topic in unasked:
            answer = self.ask(topic)
            if answer is not None:
                answer.cancel()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._catch_up()

    def _catch_up(self) -> None:
        """Tell it all that was kept back while it did not read."""
        gaps, self._gaps = self._gaps, {}
        for topic, number in gaps.items():
            self.write(GAP, _NUMBER.pack(number) + topic.encode())
        interest, self._interest = self._interest, {}
        for topic, members in interest.items():
            self.tell(topic, members)
        if self._news is not None:
            self.write(NEWS, _RECORD.pack(self._news))
        self._ask_late()

    def _flush(self) -> None:
        records, self._records = self._records, []
        self._size = 0
        if not self._paused:
            self._news = None
        if records and self._transport is not None:
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
        error_log.error("A record of worker %d cannot be read (%s)", self.number, why)
        self.close()

    def finish(self) -> None:
        """Write what still waits, and then nothing more; it ends when the peer has read that."""
        self._paused = False
        self._catch_up()
        self.write(BYE, b"")
        self._finishes = True
        self._flush()
        if self._transport is None:
            self._leave()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Write nothing more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._leave()
        self._mesh.lost(self)

    def _leave(self) -> None:
        """Let no task wait for it any more."""
        questions, self.questions = self.questions, {}
        for future in (*(each.answer for each in questions.values()), self.greeted, self.gone):
            if not future.done():
                future.set_result(None)
        if self.is_through:
            late = {each.topic for each in questions.values() if each.answer.cancelled()}
            for topic in late | self._unasked:
                self._mesh.miss(topic)


class Mesh:
    """All other workers that use topics."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        join: Callable[[list[int]], object],
        hub: Hub,
    ) -> None:
        """``join(numbers)`` asks the supervisor to introduce this worker to all others but
        those with these numbers; it answers by ``meet`` and ``joined``. ``number`` is that of
        this worker.
        """
        self.loop = loop
        self.number = number
        self._ask = join
        self._hub = hub
        self._peers: dict[int, Peer] = {}
        self._parted: set[int] = set()  # the numbers of those that were lost
        self._lacks = False  # the supervisor could not introduce all workers
        self._joined: asyncio.Future[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._closes = False
        self._numbers = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def numbers(self) -> dict[str, int]:
        """The topics of this worker, and how many members each has."""
        return self._hub.numbers()

    def miss(self, topic: str) -> None:
        """Publications of a topic without history may not have come."""
        self._hub.miss_live(topic)

    def next_number(self) -> int:
        """A number that was not used lately."""
        self._numbers = (self._numbers + 1) & 0xFFFF_FFFF
        return self._numbers

    async def ready(self) -> None:
        """Wait until all workers that have joined before know us, and we know them.

        Raises BusUnavailable.
        """
        if self._joined is None:
            self._joined = self.loop.create_future()
            self._ask(list(self._peers))
        try:
            await asyncio.wait_for(asyncio.shield(self._joined), READY_SECONDS)
        except TimeoutError:
            self._joined = None  # the next call asks again
            raise BusUnavailable(
                f"the supervisor has not answered for {READY_SECONDS:g} s"
            ) from None
        greetings = [peer.greeted for peer in self._peers.values() if not peer.greeted.done()]
        if greetings:
            await asyncio.wait(greetings, timeout=HEARD_SECONDS)

    # Called for the supervisor.

    def meet(self, number: int, sock: socket.socket) -> None:
        """Another worker is at the other end."""
        known = self._peers.get(number)
        again = known is not None or number in self._parted or self._lacks
        peer = self._peers[number] = Peer(self, number, again)
        if known is not None:
            known.close()
        task = self.loop.create_task(_connect(self.loop, peer, sock))
        self._tasks.add(task)
        task.add_done_callback(partial(self._connected, peer, sock))

    def _connected(self, peer: Peer, sock: socket.socket, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            sock.close()
            peer.connection_lost(None)

    def joined(self, complete: bool) -> None:
        """We have met all workers or, if not ``complete``, all that could be introduced."""
        self._lacks = not complete
        if self._lacks:
            self._ask_later()
        if self._joined is not None and not self._joined.done():
            self._joined.set_result(None)

    # Called by the hub.

    def tell(self, topic: str, members: int) -> None:
        """Tell all others how many members a topic has here."""
        for peer in self._peers.values():
            peer.tell(topic, members)

    async def heard_by_all(self, topic: str) -> None:
        """Wait until all workers that run have heard what was told of a topic."""
        answers = [peer.ask(topic) for peer in self._peers.values()]
        asked = [answer for answer in answers if answer is not None]
        if asked:
            _, late = await asyncio.wait(asked, timeout=HEARD_SECONDS)
            for answer in late:
                answer.cancel()

    def send(self, publication: Publication) -> int:
        """Send a message to the workers that have members; return how many members these have."""
        reached = 0
        body = b""
        for peer in self._peers.values():
            members = peer.members.get(publication.topic, 0)
            # A worker that has not told its subscriptions yet gets all.
            if members or not peer.greeted.done():
                body = body or _encode(publication)
                if peer.offer(publication.topic, body):
                    reached += members
        return reached

    def news(self, topic: str, number: int) -> int:
        """Tell the workers that have members that record ``number`` is in the log."""
        reached = 0
        for peer in self._peers.values():
            members = peer.members.get(topic)
            if members:
                peer.tell_news(number)
                reached += members
        return reached

    def count(self, topic: str) -> int:
        """Return how many members a topic has in the other workers."""
        return sum(peer.members.get(topic, 0) for peer in self._peers.values())

    def healthy(self) -> bool:
        """Return whether this worker has joined, if it was to."""
        return self._joined is None or self._joined.done()

    async def close(self) -> None:
        """Leave, as soon as the others have what was published."""
        self._closes = True
        if self._again is not None:
            self._again.cancel()
        for task in self._tasks:
            task.cancel()
        peers = tuple(self._peers.values())
        for peer in peers:
            peer.finish()
        if peers:
            await asyncio.wait([peer.gone for peer in peers], timeout=CLOSE_SECONDS)
        for peer in peers:
            peer.close()

    # Called for records of others.

    def heard(self, peer: Peer, kind: int, body: bytes) -> None:
        """Another worker has sent a record."""
        if kind == MESSAGE:
            self._hub.deliver(_decode(body))
        elif kind == NEWS:
            self._hub.news(*_RECORD.unpack(body))
        elif kind == INTEREST:
            (members,) = _NUMBER.unpack_from(body)
            topic = body[_NUMBER.size :].decode()
            if members:
                peer.members[topic] = members
            elif topic:
                peer.members.pop(topic, None)
            elif not peer.greeted.done():
                peer.greeted.set_result(None)
        elif kind == GAP:
            (number,) = _NUMBER.unpack_from(body)
            topic = body[_NUMBER.size :].decode()
            if topic:
                self._hub.miss(topic, number)
            elif not peer.again:
                self._hub.miss_live()
        elif kind == ASK:
            peer.write(ANSWER, body)
        elif kind == ANSWER:
            peer.hear_answer(*_NUMBER.unpack(body))
        elif kind == HELLO:
            version, _ = _TWO.unpack(body)
            if version != VERSION:
                raise ValueError(f"version {version} instead of {VERSION}")
            if peer.again:
                self._hub.miss_live()
        elif kind == BYE:
            peer.is_through = True
        else:
            raise ValueError(f"a record of kind {kind}")

    def lost(self, peer: Peer) -> None:
        """Another worker has ended, or its descriptor did not arrive: ask for those there are."""
        if not peer.is_through and not self._closes:
            self._hub.miss_live()
        if self._peers.get(peer.number) is peer:
            del self._peers[peer.number]
            self._parted.add(peer.number)
            self._ask_later()

    def _ask_later(self) -> None:
        if self._again is None and not self._closes:
            self._again = self.loop.call_later(AGAIN_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._again = None
        self._ask(list(self._peers))


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
