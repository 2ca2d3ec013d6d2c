"""What the application may know of the end of its server: ``asgiws.drain`` in every scope.

One object for all scopes of a server, so that it costs nothing for who does not look.
"""

from __future__ import annotations

import asyncio
import time

EXTENSION = "asgiws.drain"


class DrainNotice:
    """``scope["extensions"]["asgiws.drain"]``: whether this server drains, and until when.

    ``begun``: it does. Its WebSockets and event streams are closed within
    ``seconds_left``, some of them at once. ``final``: and none takes its place, the whole
    program ends; a worker that is replaced, one after the other, is not final. Once true
    they stay so, and all three may be read in any thread.
    """

    def __init__(self) -> None:
        self.begun = False
        self.final = False
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
        """The server drains, for so long; again if it ends sooner."""
        self._end = time.monotonic() + seconds
        self.final = self.final or final
        self.begun = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())
