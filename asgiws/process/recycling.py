"""The end of a server that has served long enough, by its requests or its age.

Each limit is moved at random, so that workers that were started together do not end together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ..text import counted

AGE_JITTER = 0.1  # of the greatest age, at most


class Recycling:
    """Calls ``retire(reason)``, once, when a limit is reached."""

    def __init__(
        self,
        max_requests: int | None,
        jitter: int,
        max_age: float | None,
        retire: Callable[[str], object],
    ) -> None:
        """``max_requests`` counts calls of the application, WebSockets among them, with up
        to ``jitter`` more; ``max_age`` is in seconds. Either is None for no limit.
        """
        self._left = 0 if max_requests is None else max_requests + random.randint(0, jitter)
        self._requests = self._left
        self._max_age = max_age
        self._retire = retire
        self._timer: asyncio.TimerHandle | None = None
        self._retired = False

    @property
    def counts(self) -> bool:
        """True if ``count`` must be called."""
        return self._requests > 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server begins to serve, and its age to count."""
        if self._max_age is not None:
            age = self._max_age * random.uniform(1.0, 1.0 + AGE_JITTER)
            self._timer = loop.call_later(age, self._end, f"it has served for {age:.0f} s")

    def stop(self) -> None:
        """The server ends already, so no limit counts any more."""
        self._retired = True
        if self._timer is not None:
            self._timer.cancel()

    def count(self) -> None:
        """The application is called once more."""
        self._left -= 1
        if self._left == 0:
            self._end(f"it has served {counted(self._requests, 'request')}")

    def _end(self, reason: str) -> None:
        if not self._retired:
            self.stop()
            self._retire(reason)
