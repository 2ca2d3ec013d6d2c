"""The judge of a peer: it must be alive, read what is sent to it, and send messages.

Numbers go in, a verdict comes out. Silence and idleness are measured on the clock that
stands still while a callback blocks the loop (``fair``, see ``pulse``). Pings follow the
loop's own clock (``now``), because proxies in between count real time.
"""

from __future__ import annotations

import random
from typing import Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from .limits import NEVER, Limits

NOTHING: Final = 0
PING: Final = 1  # it is time for one
SILENT: Final = 2  # no answer to a ping (``--ws-ping-timeout``)
STUCK: Final = 3  # it reads nothing of the bytes that wait for it (``--timeout-write``)
IDLE: Final = 4  # no message has passed (``--ws-idle-timeout``)

EPSILON: Final = 1e-6  # sums of floats are compared


class Watch:
    """The signs of life of one peer at the last look, and their times.

    ``heard``: bytes have come since; the receiver of the bytes sets it. ``due`` is the only
    deadline of a connection that begins or ends.
    """

    __slots__ = (
        "_left",
        "_moved",
        "_moved_at",
        "_ping_at",
        "_pong_due",
        "_taken",
        "_taken_at",
        "_unread",
        "due",
        "heard",
    )

    def __init__(self) -> None:
        self.heard = True
        self.due = NEVER
        self._unread = 0  # bytes that waited for it, when the connection began to end
        self._left = 0  # the number of them that it may take before ``due`` counts
        self._taken = 0  # bytes that it had taken
        self._taken_at = 0.0  # when it was last seen to take some, or nothing waited
        self._moved = 0
        self._moved_at = 0.0
        self._ping_at = NEVER
        self._pong_due = NEVER

    def start(self, limits: Limits, now: float, fair: float) -> None:
        """The connection is open."""
        self.due = NEVER
        self._taken_at = self._moved_at = fair
        if limits.ping_interval:
            # Not all at once, and none before the connection has been there for a while.
            self._ping_at = now + limits.ping_interval * (1.0 - random.random() / 2)

    def end(self, due: float, unread: cython.Py_ssize_t) -> None:
        """The connection ends at ``due``, or when the peer stops taking the ``unread`` bytes.

        Bytes that are written behind them, such as pongs to a flood of pings, prolong nothing.
        """
        self.due = due
        self._unread = self._left = unread

    def overdue(self, unread: cython.Py_ssize_t, step: float, fair: float) -> bool:
        """Return whether the connection must end now; ``step`` has passed since the last look."""
        gained: cython.Py_ssize_t = self._unread - unread
        self._unread = unread
        if gained > 0 and self._left > 0:
            self._left -= gained
            self.due += step
        return fair >= self.due - EPSILON

    def judge(
        self,
        limits: Limits,
        now: float,
        fair: float,
        waits: cython.bint,
        taken: cython.Py_ssize_t,
        moved: cython.Py_ssize_t,
        busy: cython.bint,
        deaf: cython.bint,
    ) -> int:
        """Look at an open connection.

        ``taken`` counts the bytes that the peer has taken, ``waits`` tells whether others wait.
        ``moved`` changes with every message and every piece of one. ``busy``: messages wait for
        the application. ``deaf``: we do not read, so no answer can be expected.
        """
        if not waits:
            self._taken_at = fair
        else:
            # Over TLS a record is longer than what is in it: the count may fall.
            if taken > self._taken:
                # It is alive, though its pong may be far behind.
                self._taken_at = self._moved_at = fair
                self.heard = True
            self._taken = taken
            if limits.write_timeout and fair - self._taken_at >= limits.write_timeout - EPSILON:
                return STUCK
        if moved != self._moved or busy:
            self._moved = moved
            self._moved_at = fair
        elif limits.idle_timeout and fair - self._moved_at >= limits.idle_timeout - EPSILON:
            return IDLE
        if self.heard or deaf:
            self.heard = False
            self._pong_due = NEVER
        elif fair >= self._pong_due - EPSILON:
            return SILENT
        if now >= self._ping_at - EPSILON:
            self._ping_at = now + limits.ping_interval
            if limits.ping_timeout and self._pong_due == NEVER:
                self._pong_due = fair + limits.ping_timeout
            return PING
        return NOTHING
