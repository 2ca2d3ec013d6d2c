"""What a hub asks of whatever connects it to others, and the answer within one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import BusUnavailable, TopicError
from ..log import error_log
from .history import History, Record, Retention
from .message import Publication

if TYPE_CHECKING:
    from .mesh import Mesh

APPEND_SECONDS = 2.0  # how long a publication waits for another process that appends
RETRY_SECONDS = 0.001
MOST_WORDS = 512  # bytes of a topic's name and a key


class Count(NamedTuple):
    """How many have subscribed to a topic: in this worker, and in all that are known of."""

    here: int
    everywhere: int


class Recovery(NamedTuple):
    """What a topic has for a newcomer: messages, whether they are all, and where it stands.

    ``position`` is None in a topic without history.
    """

    publications: list[Publication]
    complete: bool
    position: str | None


class Bus(Protocol):
    """Brings publications to all hubs that have subscribers, this one among them.

    What comes is given to ``Hub.deliver``, what is lost on the way told to ``Hub.miss``,
    both in the event loop of the hub.
    """

    async def ready(self) -> None:
        """Wait until it works; once it does this is not called again.

        Raises BusUnavailable.
        """

    async def follow(self, topic: str) -> None:
        """The first member has come: what is published from now on shall come here.

        Raises BusUnavailable.
        """

    def changed(self, topic: str, members: int) -> None:
        """So many members has the topic here; with 0 nothing of it needs to come any more."""

    async def publish(self, publication: Publication, retention: Retention) -> int:
        """Take a publication; how many subscribers, as far as known, it is on its way to.

        Raises BusUnavailable.
        """

    async def recover(
        self, topic: str, since: str | None, replay: int, retention: Retention
    ) -> Recovery:
        """What came behind position ``since``, or without one the last ``replay`` messages."""

    def is_behind(self, position: str | None, other: str | None) -> bool:
        """Whether a position of a topic comes after another one of it."""

    async def count(self, topic: str) -> int:
        """How many members the topic has elsewhere."""

    def healthy(self) -> bool:
        """Whether publications reach the others."""

    def catch_up(self) -> int:
        """Deliver what others have put into the history."""

    def close(self) -> None:
        """The server has ended."""


class Local:
    """The bus of one process, or of the workers of one machine.

    A topic without history goes directly to whoever has members. One with history goes
    into the log, and everybody delivers what is in the log, so all see the same order.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        history: Callable[[], History],
        retention: Callable[[str], Retention],
        deliver: Callable[[Publication], int],
        miss: Callable[[str | None, int], object],
        mesh: Mesh | None,
    ) -> None:
        """``history()`` makes the log, when it is first needed. ``loop`` is None for a hub
        that several event loops share.
        """
        self._loop = loop
        self._make = history
        self._retention = retention
        self._deliver = deliver
        self._miss = miss
        self._mesh = mesh
        self._history: History | None = None
        self._place = 0  # up to where the log is delivered
        self._number = 0  # the last one that is delivered
        self._excluded: dict[int, object] = {}
        self._retry: asyncio.TimerHandle | None = None

    async def ready(self) -> None:
        if self._mesh is not None:
            await self._mesh.ready()

    async def follow(self, topic: str) -> None:
        if self._retention(topic).messages:
            self.log()  # what comes from now on is delivered

    def changed(self, topic: str, members: int) -> None:
        if self._mesh is not None:
            self._mesh.tell(topic, members)

    async def publish(self, publication: Publication, retention: Retention) -> int:
        mesh = self._mesh
        if not retention.messages:
            reached = self._deliver(publication)
            return reached if mesh is None else reached + mesh.send(publication)
        largest = self.log().largest
        if publication.size + MOST_WORDS > largest:
            raise TopicError(
                f"publish: with history a message may have {largest - MOST_WORDS} bytes, "
                f"not {publication.size} (--topics-history-memory)"
            )
        number = self._append(publication)
        if number is None:
            number = await self._append_later(publication)
        if publication.exclude is not None:
            self._excluded[number] = publication.exclude
        reached = self.catch_up(number)
        return reached if mesh is None else reached + mesh.news(publication.topic)

    async def recover(
        self, topic: str, since: str | None, replay: int, retention: Retention
    ) -> Recovery:
        if not retention.messages:
            return Recovery([], False, None)
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
        # What catch_up could not see yet is not recovered either.
        seen = [p for p in publications if self._offset(p.position) <= self._number]
        return Recovery(seen, complete, history.position(self._number))

    def is_behind(self, position: str | None, other: str | None) -> bool:
        return self._offset(position) > self._offset(other)

    async def count(self, topic: str) -> int:
        return 0 if self._mesh is None else self._mesh.count(topic)

    def healthy(self) -> bool:
        return self._mesh is None or self._mesh.healthy()

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        if self._mesh is not None:
            self._mesh.close()

    def log(self) -> History:
        """The log; what is in it when it is first asked for is old."""
        if self._history is None:
            self._history = self._make()
            self._place = self._history.head
            self._number = self._history.last
        return self._history

    def catch_up(self, own: int = 0) -> int:
        """Deliver what is new in the log; how many members number ``own`` is on its way to."""
        if self._history is None:
            return 0
        records, self._place, lost = self._history.read(self._place)
        reached = 0
        if lost:
            error_log.error("Messages of topics were lost: this worker was too slow for the log")
            self._miss(None, 1)
        for record in records:
            if record.number <= self._number:
                continue  # the latest of its topic, moved
            self._number = record.number
            publication = self._publication(record)
            publication.exclude = self._excluded.pop(record.number, None)
            taken = self._deliver(publication)
            if record.number == own:
                reached = taken
        if self._place < self._history.head and self._retry is None and self._loop is not None:
            self._retry = self._loop.call_later(RETRY_SECONDS, self._look_again)
        return reached

    def _look_again(self) -> None:
        self._retry = None
        self.catch_up()

    def _append(self, publication: Publication) -> int | None:
        return self.log().append(
            publication.topic,
            publication.kind,
            publication.key,
            publication.payload,
            self._retention,
        )

    async def _append_later(self, publication: Publication) -> int:
        """Append when the process that appends now has done so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + APPEND_SECONDS
        while (number := self._append(publication)) is None:
            if loop.time() > deadline:
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
