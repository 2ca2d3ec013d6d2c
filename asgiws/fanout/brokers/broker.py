"""Topics over a broker: what ``Bus`` is for one machine, for all machines that use the broker.

Nothing is delivered at once to the members of this worker: a publication goes to the broker, and
whatever the broker gives is delivered, so all see the order of the broker.

A topic with history is a chain: each publication names the position before it. If that is not the
last one that was delivered here, publications are missing. They are read from the history and
delivered in their place; those that are not there any more are told as a gap. This is checked after
each loss of the connection, and also now and then. Publications without history leave no trace:
after a loss of the connection their topics are told a gap of 1, "at least".

A record that cannot be read (from a later version during a deploy, say) becomes a gap of 1.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from ...errors import BusUnavailable
from ...log import error_log
from ..bus import Recovery
from ..history import Retention
from ..message import Publication
from . import record
from .client import WAIT_SECONDS, Backoff, Client, Entry
from .record import Record

CHECK_SECONDS: Final = 30.0  # between looks at where the topics stand
LATE_SECONDS: Final = 1.0  # that a publication may be on its way behind such a look
CHECK_AT_ONCE: Final = 100
MAX_TOLD: Final = 20  # different faults of records that are logged
COUNT_SECONDS: Final = 1.0  # for the other workers to tell how many members they have
UNTOLD_SECONDS: Final = 0.25  # the same if the number of workers is not known
MAX_HELD: Final = 1_000  # publications that wait while others are read,
MAX_HELD_BYTES: Final = 8_388_608  # and how many bytes they have
MAX_EXCLUDED: Final = 1_000  # publications of a topic on their way that someone is not to get

_TOPIC: Final = "t"  # prefix of the names of topics at the broker
_WORKER: Final = "w"


class Hub(Protocol):
    """The interface that a broker uses of its hub."""

    def deliver(self, publication: Publication) -> int:
        """Give a publication to all members here; return how many will get it."""

    def miss(self, topic: str, messages: int) -> None:
        """Publications of a topic were lost on their way."""

    def retention(self, topic: str) -> Retention:
        """The part of a topic that is kept."""

    def members(self, topic: str, exclude: object = None) -> int:
        """Return how many members a topic has here, without the excluded ones."""


class Held(NamedTuple):
    """A publication that has come, its position and the one before it, and its number if this
    worker has published it. ``publication`` is None if it cannot be read.
    """

    publication: Publication | None
    position: str | None
    before: str | None
    number: int


class Followed:
    """A topic that has members here, and the last position that they have got."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: the position of the last publication; None without history, or before it is known
        self.last: str | None = None
        #: publications that come while earlier ones are being read; None if none are
        self.held: list[Held] | None = None
        self.held_bytes = 0
        #: fills the gap
        self.task: asyncio.Task[None] | None = None
        #: it has to be looked at once more
        self.again = False
        #: done when no history is being read; None if none is
        self.steady: asyncio.Future[None] | None = None
        #: done when the broker has confirmed that we subscribe
        self.begun: asyncio.Task[None] | None = None
        #: the members that must not get publications of this worker, by their numbers
        self.excluded: dict[int, object] = {}
        self._epochs: list[str] = []

    def exclude(self, number: int, excluded: object) -> None:
        """Remember who must not get the publication with that number."""
        self.excluded[number] = excluded
        if len(self.excluded) > MAX_EXCLUDED:  # they were lost
            del self.excluded[next(iter(self.excluded))]

    def start(self, position: str) -> None:
        """Begin behind that position."""
        self.rank(position)
        self.last = position

    def rank(self, position: str) -> tuple[int, int]:
        """The sort key of a position; epochs are in the order in which they were met."""
        epoch, _, offset = position.partition(":")
        if epoch not in self._epochs:
            self._epochs.append(epoch)
        return self._epochs.index(epoch), int(offset)

    def is_behind(self, position: str | None, other: str | None) -> bool:
        """Return whether a position comes after another one."""
        if position is None or other is None:
            return True
        second = self.rank(other)  # it was there before
        return self.rank(position) > second


class Broker:
    """Brings publications to all hubs that use the same broker, also to this one."""

    def __init__(self, hub: Hub, client: Client) -> None:
        self._hub = hub
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._worker = os.urandom(8)
        self._inbox = _WORKER + self._worker.hex()
        self._number = 0
        self._followed: dict[str, Followed] = {}
        self._asked: dict[int, tuple[list[int], asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_healthy: bool | None = None  # None: not known yet
        self._is_closed = False
        self._told: set[str] = set()  # the faults of records, each once
        client.start(self)
        self._spawn(self._check_now_and_then())

    # Called by the hub.

    async def ready(self) -> None:
        """Do nothing, because each call that needs the broker waits for it."""

    async def follow(self, topic: str, first: bool) -> None:
        """A member has come: all publications after this returns, in any worker, come here.

        Raises BusUnavailable.
        """
        followed = self._followed.get(topic)
        if followed is None:
            followed = self._followed[topic] = Followed(topic)
        begun = followed.begun
        if begun is None or (begun.done() and (begun.cancelled() or begun.exception())):
            begun = followed.begun = self._spawn(self._begin(followed))
        try:
            await asyncio.shield(begun)
        except asyncio.CancelledError:
            if self._is_closed and begun.cancelled():
                raise self._ended() from None
            raise
        # It may be away just now.
        await self._client.subscribe(_TOPIC + topic)
        # The publications that are being read are older than the member, and not for it.
        while followed.steady is not None:
            await _bounded(followed.steady, self._client.name)

    def changed(self, topic: str, members: int) -> None:
        """The topic has that number of members here; with 0 it need not come any more."""
        if members:
            return
        followed = self._followed.pop(topic, None)
        if followed is not None:
            for task in (followed.begun, followed.task):
                if task is not None:
                    task.cancel()
            _let_go(followed)
            self._client.unsubscribe(_TOPIC + topic)

    async def publish(self, publication: Publication, retention: Retention) -> int:
        """Publish; return how many members will get it, as far as known: those here, and one
        for each other worker that has any.

        Raises BusUnavailable.
        """
        topic = publication.topic
        followed = self._followed.get(topic)
        number = 0
        if publication.exclude is not None and followed is not None:
            number = self._next_number()
            followed.exclude(number, publication.exclude)
        body = record.encode(
            Record(
                record.MESSAGE,
                self._worker,
                number,
                publication.kind,
                publication.key,
                publication.payload,
            )
        )
        # If this fails, the broker may still have taken it, so its exclusion is remembered.
        if retention.messages:
            position, reached = await self._client.append(_TOPIC + topic, body, retention)
            publication.position = position
        else:
            reached = await self._client.publish(_TOPIC + topic, body)
        others = 0 if reached is None else max(0, reached - (followed is not None))
        return self._hub.members(topic, publication.exclude) + others

    async def recover(
        self, topic: str, since: str | None, replay: int, retention: Retention
    ) -> Recovery:
        """Return the messages behind position ``since``, or without one the last ``replay``.

        Raises BusUnavailable.
        """
        followed = self._followed[topic]
        name = _TOPIC + topic
        while True:
            if followed.steady is not None:
                await _bounded(followed.steady, self._client.name)
            last = followed.last
            if since is None and not replay and last is not None:
                return Recovery([], True, last, last)
            most = min(replay, retention.messages)
            page = await self._client.read(name, since, most, retention)
            if followed.last is None:  # it was without history until now
                followed.start(page.top)
            # Publications behind the page are held for the newcomer. If the page is ahead of those
            # that have come, some would come twice, so wait for them first.
            if followed.steady is None and not followed.is_behind(page.top, followed.last):
                break
            if followed.steady is None:
                await self._catch_up_later(followed, page.top)
            if self._is_closed:
                raise self._ended()
        begin = page.entries[0].before if page.entries else page.top
        publications = [
            _publication(topic, said, None, entry.position)
            for entry in page.entries
            if (said := self._read(entry.body)) is not None
        ]
        is_complete = page.complete and len(publications) == len(page.entries)
        if since is not None and not is_complete:
            publications, begin = [], page.top
        return Recovery(publications, is_complete, page.top, begin)

    def is_behind(self, topic: str, position: str | None, other: str | None) -> bool:
        """Return whether a position of a topic comes after another one, both of this program."""
        return self._followed[topic].is_behind(position, other)

    async def count(self, topic: str) -> int:
        """Ask the other workers how many members the topic has; return the sum.

        Those that do not answer within a second are not counted. Raises BusUnavailable.
        """
        await self._client.subscribe(self._inbox)
        number = self._next_number()
        answers: list[int] = []
        came = asyncio.Event()
        self._asked[number] = answers, came
        body = record.encode(Record(record.ASK, self._worker, number))
        try:
            reached = await self._client.publish(_TOPIC + topic, body)
            others = None if reached is None else reached - (topic in self._followed)
            seconds = COUNT_SECONDS if others is not None else UNTOLD_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    while others is None or len(answers) < others:
                        came.clear()
                        await came.wait()
            except TimeoutError:
                pass
        finally:
            del self._asked[number]
        return sum(answers)

    def healthy(self) -> bool:
        """Return whether the broker answers."""
        return bool(self._is_healthy)

    async def close(self) -> None:
        """The server has ended."""
        self._is_closed = True
        for topic in tuple(self._followed):
            self.changed(topic, 0)
        for task in self._tasks:
            task.cancel()
        await self._client.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Called by the client.

    def take(self, name: str, body: bytes, position: str | None, before: str | None) -> None:
        """A message has come from the broker."""
        topic = name[1:]
        said = self._read(body)
        if said is not None and said.kind == record.ANSWER:
            self._answered(said.number, record.number_of(said.payload))
            return
        if said is not None and said.kind == record.ASK:
            self._answer(topic, said)
            return
        followed = self._followed.get(topic)
        if followed is None:
            return  # the last member has left
        publication, number = None, 0
        if said is not None:
            number = said.number if said.worker == self._worker else 0
            # Forgotten with the delivery: what is held now may be read from the history first.
            publication = _publication(topic, said, followed.excluded.get(number), position)
        held = Held(publication, position, before, number)
        if followed.held is None:
            self._pass(followed, held)
            return
        followed.held.append(held)
        followed.held_bytes += len(body)
        if len(followed.held) > MAX_HELD or followed.held_bytes > MAX_HELD_BYTES:
            followed.held.clear()  # all of these are in the history, and will be read
            followed.held_bytes = 0
            followed.again = True

    def restored(self, names: Sequence[str]) -> None:
        """The connection was lost, and these names are subscribed to again."""
        for name in names:
            followed = self._followed.get(name[1:])
            if followed is None or name[0] != _TOPIC:
                continue
            if followed.last is not None:
                self._fill(followed)
            elif not self._hub.retention(followed.name).messages:
                self._hub.miss(followed.name, 1)  # at least

    def health(self, reason: str | None) -> None:
        """The broker answers, or does not."""
        is_healthy = reason is None
        if is_healthy is self._is_healthy or self._is_closed:
            return
        self._is_healthy = is_healthy
        if is_healthy:
            error_log.info("Topics: connected to %s", self._client.name)
        else:
            error_log.error("Topics: %s is away, trying again: %s", self._client.name, reason)

    # Inside.

    async def _begin(self, followed: Followed) -> None:
        """Subscribe, and find out where the topic stands."""
        name = _TOPIC + followed.name
        await self._client.subscribe(name)
        retention = self._hub.retention(followed.name)
        if retention.messages:
            page = await self._client.read(name, None, 0, retention)
            if followed.last is None:
                followed.start(page.top)

    def _pass(self, followed: Followed, held: Held) -> None:
        """Deliver a publication, if it is its turn."""
        publication, position, before, number = held
        last = followed.last
        if position is not None and not followed.is_behind(position, last):
            return  # it was read from the history
        if position is None or last is None or before is None or before == last:
            if position is not None:
                followed.last = position
            followed.excluded.pop(number, None)
            if publication is None:
                self._hub.miss(followed.name, 1)
            else:
                self._hub.deliver(publication)
        else:
            self._fill(followed)
            assert followed.held is not None
            followed.held.append(held)

    def _fill(self, followed: Followed) -> None:
        """Read the missing publications, and deliver them before those that come now."""
        if followed.held is None:
            followed.held = []
            followed.steady = self._loop.create_future()
            followed.task = self._spawn(self._filling(followed))
        else:
            followed.again = True

    async def _filling(self, followed: Followed) -> None:
        backoff = Backoff()
        while True:
            followed.again = False
            try:
                await self._deliver_missing(followed)
            except BusUnavailable:
                # The members do not get anything meanwhile; what comes is in the history.
                await asyncio.sleep(backoff.next())
                continue
            if not followed.again:
                break
        held, followed.held, followed.task = followed.held or [], None, None
        followed.held_bytes = 0
        _let_go(followed)
        for place, each in enumerate(held):
            self._pass(followed, each)
            if followed.held is not None:  # there is another hole
                followed.held += held[place + 1 :]
                break

    async def _deliver_missing(self, followed: Followed) -> None:
        """Deliver the publications that are kept behind the last one; the others are a gap."""
        retention = self._hub.retention(followed.name)
        name = _TOPIC + followed.name
        page = await self._client.read(name, followed.last, retention.messages, retention)
        entries = page.entries
        if not page.complete:
            page = await self._client.read(name, None, retention.messages, retention)
            entries = []
            # The place of an epoch that is neither the last one here nor the current one is not
            # known.
            epochs = {_epoch_of(followed.last), _epoch_of(page.top)}
            for entry in reversed(page.entries):
                is_known = _epoch_of(entry.position) in epochs
                if not is_known or not followed.is_behind(entry.position, followed.last):
                    break
                entries.insert(0, entry)
            self._hub.miss(followed.name, _missing(followed.last, entries, page.top))
        for entry in entries:
            said = self._read(entry.body)
            if said is None:
                self._hub.miss(followed.name, 1)
                continue
            exclude = None
            if said.worker == self._worker:
                exclude = followed.excluded.pop(said.number, None)
            self._hub.deliver(_publication(followed.name, said, exclude, entry.position))
        followed.start(page.top)

    async def _catch_up_later(self, followed: Followed, top: str) -> None:
        """Wait for publications that may be on their way to us, and then read the rest."""
        deadline = self._loop.time() + LATE_SECONDS
        while followed.steady is None and followed.is_behind(top, followed.last):
            if self._loop.time() > deadline:
                self._fill(followed)
                break
            await asyncio.sleep(0.01)

    async def _check_now_and_then(self) -> None:
        """Look for publications that were lost although the connection seems to work."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            kept = [each for each in self._followed.values() if each.last is not None]
            for first in range(0, len(kept), CHECK_AT_ONCE):
                some = kept[first : first + CHECK_AT_ONCE]
                try:
                    tops = await self._client.tops([_TOPIC + each.name for each in some])
                except BusUnavailable:
                    break
                for followed, top in zip(some, tops, strict=True):
                    if followed.is_behind(top, followed.last):
                        self._spawn(self._catch_up_later(followed, top))

    def _read(self, body: bytes) -> Record | None:
        """Return the record of that body; log and return None if it cannot be read."""
        try:
            return record.decode(body)
        except ValueError as error:
            reason = str(error)
        if reason not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(reason)
            error_log.error("Topics: a record at %s cannot be read (%s)", self._client.name, reason)
        return None

    def _answer(self, topic: str, said: Record) -> None:
        """Tell another worker how many members a topic has here."""
        if said.worker == self._worker:
            return
        number = record.members(self._hub.members(topic))
        body = record.encode(Record(record.ANSWER, self._worker, said.number, payload=number))
        self._spawn(self._tell(_WORKER + said.worker.hex(), body))

    async def _tell(self, name: str, body: bytes) -> None:
        try:
            await self._client.publish(name, body)
        except BusUnavailable as error:
            error_log.debug("Topics: an answer was not sent: %s", error)

    def _answered(self, number: int, members: int) -> None:
        if number in self._asked:
            answers, came = self._asked[number]
            answers.append(members)
            came.set()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _spawn(self, call: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(call)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(partial(_finished, self._tasks))
        return task

    def _ended(self) -> BusUnavailable:
        return BusUnavailable(f"{self._client.name}: the server has ended")


def _finished(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    tasks.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, BusUnavailable):
        error_log.error("Exception in topics", exc_info=error)


def _publication(topic: str, said: Record, exclude: object, position: str | None) -> Publication:
    return Publication(topic, said.message, said.payload, said.key, exclude, position)


def _let_go(followed: Followed) -> None:
    """Wake those that wait until nothing is being read."""
    steady, followed.steady = followed.steady, None
    if steady is not None and not steady.done():
        steady.set_result(None)


def _epoch_of(position: str | None) -> str:
    return (position or "").partition(":")[0]


async def _bounded(future: asyncio.Future[None], name: str) -> None:
    """Wait for a future of others. Raises BusUnavailable."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.shield(future)
    except TimeoutError:
        raise BusUnavailable(f"{name} has not answered for {WAIT_SECONDS:g} s") from None


def _missing(last: str | None, entries: list[Entry], top: str) -> int:
    """Return the least number of messages that are missing between ``last`` and the entries."""
    epoch, _, offset = (last or "").partition(":")
    begin = entries[0].before if entries else top
    other, _, until = begin.partition(":")
    return max(1, int(until) - int(offset)) if epoch and epoch == other else 1
