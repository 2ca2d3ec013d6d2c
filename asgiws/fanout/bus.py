"""The connection of a hub to the hubs of the other workers of its machine, and to the history."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import NamedTuple, Protocol

from ..errors import BusUnavailable, TopicError
from .history import History, Lost, Record, Retention
from .mesh import Mesh
from .message import Publication

APPEND_SECONDS = 2.0  # how long a publication waits for another process that appends
RETRY_SECONDS = 0.001
ALL = Retention(sys.maxsize, math.inf)
MOST_WORDS = 512  # bytes of a topic's name and a key
LOOK_SECONDS = 0.25  # between looks into a log without any news
LOOK_RECORDS = 500  # that are looked at without a pause


class Count(NamedTuple):
    """The numbers of subscribers of a topic, in this worker and in all known workers."""

    here: int
    """Subscribers in this worker."""
    everywhere: int
    """Subscribers in all known workers, this one included."""


class Recovery(NamedTuple):
    """The history for a new subscriber: messages, whether they are complete, and the position.

    ``begin`` is the position behind which the messages begin. Positions are None in a topic
    without history.
    """

    publications: list[Publication]
    complete: bool
    position: str | None
    begin: str | None


class Hub(Protocol):
    """The interface that a bus uses of its hub."""

    def deliver(self, publication: Publication) -> int:
        """Give a publication to all members here; return how many will get it."""

    def miss(self, topic: str, messages: int) -> None:
        """Publications of a topic were lost on their way."""

    def retention(self, topic: str) -> Retention:
        """The part of a topic that is kept."""

    def numbers(self) -> dict[str, int]:
        """Return how many members each topic has here."""

    def new_history(self) -> History:
        """The log of this server."""


class Bus:
    """Brings publications to all hubs that have members, also to this one.

    A topic without history goes directly to the hubs that have members. A topic with history
    goes into the log, and each hub delivers what is in the log, so all see the same order.
    """

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop | None, mesh: Mesh | None) -> None:
        """``loop`` is None for a hub that several event loops share."""
        self._hub = hub
        self._loop = loop
        self._mesh = mesh
        self._history: History | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._following: dict[str, asyncio.Task[None]] = {}

    async def ready(self) -> None:
        """Wait until it works; once it does this need not be called again.

        Raises BusUnavailable.
        """
        if self._mesh is not None:
            await self._mesh.ready()

    async def follow(self, topic: str, first: bool) -> None:
        """A member has come: all publications after this returns, in any worker, come here.

        ``first``: the topic had no member here before.
        """
        if self._hub.retention(topic).messages:
            await self._look_at_all()  # all that comes from now on is delivered
        if self._mesh is None:
            return
        if first:  # also where others are heard of who have left meanwhile
            self._following[topic] = asyncio.ensure_future(self._heard_by_all(topic))
        following = self._following.get(topic)
        if following is not None:
            await asyncio.shield(following)

    async def _heard_by_all(self, topic: str) -> None:
        assert self._mesh is not None
        await self._mesh.heard_by_all(topic)
        if self._following.get(topic) is asyncio.current_task():
            del self._following[topic]

    def changed(self, topic: str, members: int) -> None:
        """The topic has that number of members here; with 0 it need not come any more."""
        if self._mesh is not None:
            self._mesh.tell(topic, members)

    async def publish(self, publication: Publication, retention: Retention) -> int:
        """Take a publication; return how many members will get it, as far as known.

        Raises BusUnavailable, and TopicError for one that is too large to be kept.
        """
        mesh = self._mesh
        if not retention.messages:
            reached = self._hub.deliver(publication)
            return reached if mesh is None else reached + mesh.send(publication)
        await self._look_at_all()
        largest = self.log().largest
        if publication.size + MOST_WORDS > largest:
            raise TopicError(
                f"publish: with history a message may have {largest - MOST_WORDS} bytes, "
                f"not {publication.size} (--topics-history-memory)"
            )
        number = self._append(publication)
        if number is None:
            number = await self._append_later(publication)
        reached = self.catch_up(number, publication.exclude)
        return reached if mesh is None else reached + mesh.news(publication.topic, number)

    async def recover(
        self, topic: str, since: str | None, replay: int, retention: Retention
    ) -> Recovery:
        """Return the messages behind position ``since``, or without one the last ``replay``.

        It does not wait.
        """
        history = self.log()
        self.catch_up()
        records: list[Record] = []
        complete = True
        if since is not None:
            number = self._number_of(since)
            if number is None:
                complete = False
            else:
                records, complete = history.recover(topic, number, retention)
        elif replay:
            kept = Retention(min(replay, retention.messages), retention.seconds)
            records, _ = history.recover(topic, None, kept)
        publications = [self._publication(record) for record in records]
        begin = self.position
        if records:
            begin = history.position(records[0].number - 1)
        return Recovery(publications, complete, self.position, begin)

    @property
    def position(self) -> str:
        """The current position of the log."""
        return self.log().position(self.log().seen)

    def is_behind(self, _topic: str, position: str | None, other: str | None) -> bool:
        """Return whether a position comes after another one, both of this log."""
        return self._offset(position) > self._offset(other)

    async def count(self, topic: str) -> int:
        """Return how many members the topic has in other workers. It does not wait."""
        return 0 if self._mesh is None else self._mesh.count(topic)

    def healthy(self) -> bool:
        """Return whether publications reach the others."""
        return self._mesh is None or self._mesh.healthy()

    async def close(self) -> None:
        """The server has ended: let go of what is still to be written."""
        if self._mesh is not None:
            await self._mesh.close()
        if self._timer is not None:
            self._timer.cancel()

    def log(self) -> History:
        """The log; records from before the first call of this are old."""
        if self._history is None:
            self._history = self._hub.new_history()
            if self._mesh is not None:
                self._look_later()
        return self._history

    def news(self, number: int) -> None:
        """Another worker has appended; the first record that is new to us has that number."""
        if self._history is None:
            self.log().begin_at(number)
        self.catch_up()

    def catch_up(self, own: int = 0, exclude: object = None) -> int:
        """Deliver the new records of the log; return how many members will get number ``own``.

        ``exclude`` does not get that one.
        """
        history = self.log()
        history.advance()
        reached = 0
        found = history.new()
        coming = {record.number for record in found if isinstance(record, Record)}
        for record in found:
            if isinstance(record, Lost):
                self._tell_lost(record.number, coming)
                continue
            publication = self._publication(record)
            if record.number == own:
                publication.exclude = exclude
                reached = self._hub.deliver(publication)
            else:
                self._hub.deliver(publication)
        return reached

    def _tell_lost(self, before: int, coming: set[int]) -> None:
        """Records behind number ``before`` were lost: find out which topics they had.

        ``coming`` are the numbers of the new records. The latest message of a topic may have been
        written again behind others that came later. Then it is in the log, but not among these.
        """
        for topic in self._hub.numbers():
            if not self._hub.retention(topic).messages:
                continue
            records, complete = self.log().recover(topic, before, ALL)
            if not complete:
                self._hub.miss(topic, 1)  # at least
            for record in records:
                if record.number not in coming:
                    coming.add(record.number)
                    self._hub.deliver(self._publication(record))

    async def _look_at_all(self) -> None:
        """Look at what others have appended, and let others run meanwhile."""
        while self.log().advance(LOOK_RECORDS):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def _look_later(self) -> None:
        """Keep up with a log that is about other topics than ours."""
        assert self._loop is not None
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._look_later()
        self.catch_up()

    def _append(self, publication: Publication) -> int | None:
        return self.log().append(
            publication.topic,
            publication.kind,
            publication.key,
            publication.payload,
            self._hub.retention,
        )

    async def _append_later(self, publication: Publication) -> int:
        """Append when the process that appends now has done so, or there is room."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + APPEND_SECONDS
        while (number := self._append(publication)) is None:
            if loop.time() > deadline and not self.log().is_moving:
                raise BusUnavailable(
                    f"not published: another worker has held the history for {APPEND_SECONDS:g} s"
                )
            await asyncio.sleep(RETRY_SECONDS)
        return number

    def _publication(self, record: Record) -> Publication:
        position = self.log().position(record.number)
        return Publication(record.topic, record.kind, record.payload, record.key, None, position)

    def _number_of(self, position: str) -> int | None:
        """The number of a position in this log."""
        epoch, _, offset = position.partition(":")
        if epoch != self.log().epoch or not offset.isascii() or not offset.isdigit():
            return None
        return int(offset) if len(offset) < 20 else None

    def _offset(self, position: str | None) -> int:
        return int(position.partition(":")[2]) if position else 0
