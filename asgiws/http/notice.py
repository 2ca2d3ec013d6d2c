"""The notice of the server's end for the application: ``asgiws.drain`` in every scope.

All scopes of a server share one object, so it costs nothing if it is not used.
"""

from __future__ import annotations

import asyncio
import time

EXTENSION = "asgiws.drain"


class DrainNotice:
    """``scope["extensions"]["asgiws.drain"]``: whether this server drains, and until when.

    ``begun`` and ``final`` stay true once they are. They and ``seconds_left`` may be read in any
    thread.
    """

    def __init__(self) -> None:
        self.begun: bool = False
        """Whether it drains: its WebSockets and event streams are closed within ``seconds_left``,
        some of them at once.
        """
        self.final: bool = False
        """Whether the whole program ends, and no process takes its place; false in a worker that is
        replaced by another.
        """
        self._end = 0.0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last WebSocket is closed; None before it has begun."""
        return self._left() if self.begun else None

    async def wait(self) -> float:
        """Wait, in the server's event loop, until the drain begins; returns ``seconds_left``."""
        if not self.begun:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self._left()

    def begin(self, seconds: float, final: bool) -> None:
        """The server drains for that time; called again if it ends sooner."""
        self._end = time.monotonic() + seconds
        self.final = self.final or final
        self.begun = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())
