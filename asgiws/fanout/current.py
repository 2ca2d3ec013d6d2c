"""The hub that belongs to the running code: that of its server, or the one of this process.

A server says in its context how its hub is made; the tasks of the application inherit that.
Nothing else is loaded before a topic is used.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .history import Wanted

if TYPE_CHECKING:
    from .hub import Hub
    from .mesh import Mesh


class Place:
    """The place of one server's hub, which is made when it is first asked for."""

    def __init__(self, wanted: Wanted, mesh: Callable[[Any], Mesh] | None = None) -> None:
        """``mesh(hub)`` joins the other workers, if there are any."""
        self._wanted = wanted
        self._mesh = mesh
        self._hub: Hub | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def hub(self) -> Hub:
        """The hub."""
        with self._lock:
            if self._hub is None:
                from .foreign import warn_of_workers
                from .hub import Hub

                if self._loop is None:
                    warn_of_workers()
                self._hub = Hub(self._wanted, self._loop, self._mesh)
            return self._hub

    def settle(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be the place of all code that runs in this context and those made from it.

        Raises ConfigError for an impossible URL of a broker.
        """
        self._loop = loop
        if self._wanted.url is not None:
            self.hub()  # it connects while the application starts
        PLACE.set(self)
        _places.append(self)

    async def leave(self) -> None:
        """The server has ended."""
        try:
            if self._hub is not None:
                await self._hub.close()
        finally:
            _places.remove(self)


PLACE: ContextVar[Place | None] = ContextVar("asgiws.topics", default=None)
_places: list[Place] = []  # those of all servers that run in this process
_own = Place(Wanted())  # that of a process without a server of ours


def hub() -> Hub:
    """The hub of the running code.

    Code that does not run in the context of a server (in a thread of its own, say) gets the
    hub of the only server of its process.
    """
    place = PLACE.get()
    if place is None and len(_places) == 1:
        place = _places[0]
    if place is None or place not in _places:
        place = _own
    return place.hub()
