"""What all clients share: the names that are wanted, and a task that keeps the connection up."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ...errors import BusUnavailable
from .client import WAIT_SECONDS, Client, Owner


class Name:
    """A name that is wanted."""

    __slots__ = ("confirmed", "was")

    def __init__(self) -> None:
        #: done when the broker has confirmed it
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: whether it was lost
        self.was = False

    def forget(self) -> None:
        """It is not subscribed to any more."""
        if self.confirmed.done():
            self.was = True
            self.confirmed = asyncio.get_running_loop().create_future()


N = TypeVar("N", bound=Name)


class Keeping(Client, Generic[N]):
    """A client that has names, of whatever kind it needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._owner: Owner
        self._loop: asyncio.AbstractEventLoop
        self._names: dict[str, N] = {}
        self._changed: set[str] = set()  # names that were wanted or are not any more
        self._reason = "not connected"
        self._keeper: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._keeper = self._loop.create_task(self._keep())

    async def subscribe(self, name: str) -> None:
        self._check()
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = self._named(name)
            self._change(name)
        if known.confirmed.done() and not known.confirmed.cancelled():
            return
        async with self._bounded():
            while not known.confirmed.done():  # it is another one after a loss
                await asyncio.shield(known.confirmed)

    async def close(self) -> None:
        self._is_closed = True
        self._reason = "the server has ended"
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        for known in self._names.values():
            if not known.confirmed.done():
                known.confirmed.set_exception(self._unavailable())
                known.confirmed.exception()

    @abstractmethod
    async def _keep(self) -> None:
        """Connect, as often as it is necessary."""

    @abstractmethod
    def _named(self, name: str) -> N:
        """What is to be known of a name."""

    @abstractmethod
    def _adjust(self) -> None:
        """Subscribe to what is wanted now, as far as it has changed."""

    def _change(self, name: str) -> None:
        """Adjust soon, once for all names of this iteration of the loop."""
        if not self._changed:
            self._loop.call_soon(self._adjust)
        self._changed.add(name)

    def _check(self) -> None:
        if self._is_closed:
            raise self._unavailable()

    def _unavailable(self, reason: str = "") -> BusUnavailable:
        why = reason or self._reason or "no answer"
        return BusUnavailable(f"{self.name} is not available: {why}")

    def _bounded(self) -> _Bounded:
        """What bounds the waiting: ``async with``. Raises BusUnavailable."""
        return _Bounded(self)


class _Bounded:
    """Wait WAIT_SECONDS at most; then BusUnavailable says why the broker does not answer."""

    def __init__(self, client: Keeping[Any]) -> None:
        self._client = client
        self._timeout = asyncio.timeout(WAIT_SECONDS)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *about: Any) -> None:
        try:
            await self._timeout.__aexit__(*about)
        except TimeoutError:
            raise self._client._unavailable() from None
