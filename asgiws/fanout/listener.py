"""Messages of a topic as an iterator, for an application that looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from ..wire.prepared import Prepared
from .backlog import Backlog
from .members import Member
from .message import Message, Publication


class Listener(Member):
    """A member whose messages wait for ``take_next``, in the event loop in which it was made."""

    __slots__ = (
        "_backlog",
        "_ends_on_gap",
        "_is_foreign",
        "_loop",
        "_means",
        "_over",
        "_waiter",
        "has_lost",
        "pump",
    )

    def __init__(
        self,
        policy: str,
        max_bytes: int,
        is_foreign: bool = False,
        means: tuple[object, ...] = (),
        ends_on_gap: bool = False,
    ) -> None:
        """``is_foreign``: messages may come from the threads of other event loops. ``means``
        are the objects by which it can be excluded. ``ends_on_gap``: it ends when messages
        were lost on their way to this process.
        """
        super().__init__()
        self._backlog = Backlog(policy, max_bytes)
        self._loop = asyncio.get_running_loop()
        self._is_foreign = is_foreign
        self._means = means
        self._waiter: asyncio.Future[None] | None = None
        self._over = False
        self._ends_on_gap = ends_on_gap
        #: whether it has ended because messages were lost
        self.has_lost = False
        #: the task that takes its messages, if it must end when the member leaves
        self.pump: asyncio.Task[None] | None = None

    @property
    def dropped(self) -> int:
        """The number of messages that this subscriber has missed."""
        return self._backlog.dropped

    def take(self, publication: Publication, plain: Prepared) -> bool:
        if self._is_foreign:
            return self._elsewhere(self._put, publication)
        return self._put(publication)

    def take_old(self, publication: Publication) -> None:
        self._backlog.keep(publication)

    def on_leave(self) -> None:
        self._over = True
        self._wake()
        if self.pump is not None:
            self.pump.cancel()

    def is_excluded(self, exclude: object) -> bool:
        return any(exclude is mean for mean in self._means)

    def miss(self, messages: int) -> None:
        if self._is_foreign:
            self._elsewhere(self._miss, messages)
        else:
            self._miss(messages)

    def _elsewhere(self, call: Callable[[Any], object], argument: object) -> bool:
        # From its own event loop, too: so all that comes keeps its order.
        try:
            self._loop.call_soon_threadsafe(call, argument)
        except RuntimeError:
            return False  # the loop is closed
        return True

    def _miss(self, messages: int) -> None:
        self._backlog.miss(messages)
        if self._ends_on_gap and not self._over:
            self._over = self.has_lost = True
            self._wake()

    def _put(self, publication: Publication) -> bool:
        if self._over or not self._backlog.put(publication):
            # The policy is to close: the iterator ends behind what it has.
            self._backlog.miss(1)
            self._over = True
        self._wake()
        return not self._over

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take_next(self) -> Message | None:
        """Wait for the next message; None if no more will come.

        Raises RuntimeError if another task waits already.
        """
        if self._waiter is not None:
            raise RuntimeError(
                "another task waits for the next message: call listen() in each task"
            )
        while not self._backlog:
            if self._over:
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        entry = self._backlog.take()
        return Message(entry.publication, entry.gap)


class Messages:
    """The messages of a topic: ``async for message in messages``."""

    __slots__ = ("_listener", "position", "recovered")

    def __init__(self, listener: Listener, position: str | None, recovered: bool | None) -> None:
        self._listener = listener
        self.position: str | None = position
        """The topic's position when the messages began; None without history."""
        self.recovered: bool | None = recovered
        """Whether all messages behind ``since`` are here; None without ``since``."""

    @property
    def dropped(self) -> int:
        """The number of messages that were missed, all in all; ``message.gap`` tells where."""
        return self._listener.dropped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self._listener.take_next()
        if message is None:
            raise StopAsyncIteration
        return message


class Holder(Member):
    """Holds the messages that come while the history is being asked for."""

    __slots__ = ("gap", "publications")

    def __init__(self) -> None:
        super().__init__()
        self.publications: list[Publication] = []
        self.gap = 0

    def take(self, publication: Publication, plain: Prepared) -> bool:
        self.publications.append(publication)
        return True

    def miss(self, messages: int) -> None:
        self.gap += messages
