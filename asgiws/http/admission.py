"""The limit on opening handshakes per second: a bucket of tokens and a short queue.

When a server has been replaced all its clients come back together, and each handshake
costs the application more than the WebSocket does later. So some begin, some wait, and
the others are told to come again, each at another time.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import ceil
from typing import Final

BURST_SECONDS: Final = 0.1  # seconds: so much of an unused rate may be used at once
QUEUE_SECONDS: Final = 1.0  # seconds: so much of the future rate may be waited for
MOST_SECONDS: Final = 60.0  # no client is told to come again later than that
LEAST_SECONDS: Final = 0.01  # between two looks at the queue

Turn = Callable[[bool], object]


class Admission:
    """Admits ``rate`` a second; the rate may be changed at any time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        self._loop = loop
        self._rate = rate
        self._tokens = self._burst()
        self._counted_at = loop.time()
        self._waiting: OrderedDict[Hashable, Turn] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._promised_until = 0.0

    @property
    def rate(self) -> float:
        """The handshakes per second, above 0; in a fleet this worker's share."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._count()
        self._rate = rate
        self._tokens = min(self._tokens, self._burst())
        while len(self._waiting) > self._most_waiting():
            _, turn = self._waiting.popitem()
            self._loop.call_soon(turn, False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look_later()

    def take(self) -> bool:
        """Return whether one may begin at once; then it is counted."""
        if self._waiting:
            return False
        self._count()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self, who: Hashable, turn: Turn) -> bool:
        """Let ``who`` wait; return whether there is room for that.

        ``turn(True)`` is called when it may begin, ``turn(False)`` if it may not after all.
        """
        if len(self._waiting) >= self._most_waiting():
            return False
        self._waiting[who] = turn
        self._look_later()
        return True

    def leave(self, who: Hashable) -> Turn | None:
        """Let ``who`` wait no longer; return its ``turn``, which is not called, if it did wait."""
        return self._waiting.pop(who, None)

    def retry_after(self) -> int:
        """Refuse one; return the seconds after which it may come again, no sooner than others."""
        now = self._loop.time()
        earliest = max(self._promised_until, now + QUEUE_SECONDS)
        self._promised_until = min(earliest + 1.0 / self._rate, now + MOST_SECONDS)
        seconds = self._promised_until - now
        if seconds >= MOST_SECONDS:
            seconds = random.uniform(MOST_SECONDS / 2, MOST_SECONDS)
        # The header has whole seconds; one of the two nearest is chosen at random.
        return max(1, int(seconds + random.random()))

    def _burst(self) -> float:
        return max(1.0, self._rate * BURST_SECONDS)

    def _most_waiting(self) -> int:
        return max(1, ceil(self._rate * QUEUE_SECONDS))

    def _count(self) -> None:
        """Add the tokens of the time since the last call."""
        now = self._loop.time()
        self._tokens = min(self._burst(), self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now

    def _look_later(self) -> None:
        if self._waiting and self._timer is None:
            self._count()
            seconds = max(LEAST_SECONDS, (1.0 - self._tokens) / self._rate)
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Admit those whose turn it is."""
        self._timer = None
        self._count()
        while self._waiting and self._tokens >= 1.0:
            self._tokens -= 1.0
            _, turn = self._waiting.popitem(last=False)
            self._loop.call_soon(turn, True)
        self._look_later()
