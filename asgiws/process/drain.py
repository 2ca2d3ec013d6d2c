"""The end of all connections of one event loop: paced, asked for, waited for, cut.

In this order: accepting goes on for a while if that is asked for, and the application
can know already; accepting stops; over the window WebSockets and event streams are
closed evenly, in small steps; after the window the connections that are left are asked to end, and
have as long as the patience lasts; then they are cancelled and cut, and abandoned if they go on.

A step does not wait: a connection that it tells to end has its own deadlines.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..http.serving import DRAINING, RETIRING, STOPPING, Serving
from ..log import error_log
from ..options.config import Config
from ..text import counted
from ..websocket.states import BUSY, LETS_GO, RESTING
from ..wire.errors import SERVICE_RESTART
from .arrivals import Arrivals

STEP_SECONDS = 0.1  # between two steps of a window, half as much more or less
LEAST = 20  # connections that a step of a default window closes at least
CANCEL_SECONDS = 1.0  # for what was cancelled when the patience had ended
POLL_SECONDS = 0.02

# Why it ends.
TERMINATED = "terminated"  # SIGTERM: the whole program
INTERRUPTED = "interrupted"  # Ctrl-C: somebody waits for it
REPLACED = "replaced"  # another worker takes its place
RELOADED = "reloaded"  # the same, to load new code

DEFAULT_WINDOWS = {TERMINATED: 3.0, INTERRUPTED: 0.0, REPLACED: 10.0, RELOADED: 0.0}


class Terms(NamedTuple):
    """The terms of an end; all times in seconds.

    ``window`` is the time over which WebSockets and event streams are closed, with ``code`` and
    ``reason``. ``patience`` is the time that the others have after the window. ``delay`` is the
    time for which accepting goes on first. ``late``: idle HTTP connections stay until their own
    timeout or the end of the window. ``drawn_out``: the window is used in full, however few
    connections there are to close. ``final``: no other server takes the place of this one.
    """

    window: float
    patience: float
    code: int = SERVICE_RESTART
    reason: str = ""
    delay: float = 0.0
    late: bool = False
    drawn_out: bool = False
    final: bool = True

    @property
    def most_seconds(self) -> float:
        """The longest time that such an end, with lifespan.shutdown, takes on a loop that runs."""
        return self.delay + self.window + 2 * self.patience + CANCEL_SECONDS


def terms(config: Config, why: str) -> Terms:
    """The terms of an end that comes by ``why``: TERMINATED, INTERRUPTED, REPLACED, RELOADED."""
    replaced = why == REPLACED
    asked = config.drain_window if why in (TERMINATED, REPLACED) else None
    return Terms(
        window=DEFAULT_WINDOWS[why] if asked is None else asked,
        patience=config.timeout_graceful_shutdown,
        code=config.drain_code,
        reason=config.drain_reason,
        delay=config.drain_delay if why == TERMINATED else 0.0,
        late=replaced,
        drawn_out=asked is not None,
        final=why in (TERMINATED, INTERRUPTED),
    )


class Drain:
    """Ends the connections and calls in ``serving``, and the ``arrivals``.

    ``asked`` is set when it is to begin.
    """

    def __init__(self, serving: Serving, arrivals: Arrivals) -> None:
        self._serving = serving
        self._arrivals = arrivals
        self._loop = serving.loop
        self.asked = asyncio.Event()
        self._terms = Terms(0.0, 0.0)
        self._stops_at = self._window_ends_at = 0.0

    def ask(self, terms: Terms) -> None:
        """Begin; a second call can only make it end sooner. Must be called in the event loop."""
        stops_at = self._loop.time() + terms.delay
        window_ends_at = stops_at + terms.window
        before = self._terms
        if self.asked.is_set():
            stops_at = min(stops_at, self._stops_at)
            window_ends_at = min(window_ends_at, self._window_ends_at)
            terms = before._replace(
                patience=min(terms.patience, before.patience),
                drawn_out=terms.drawn_out and before.drawn_out,
                late=terms.late and before.late,
                final=terms.final or before.final,
            )
        self._terms = terms
        self._stops_at = stops_at
        self._window_ends_at = window_ends_at
        self._serving.notice.begin(window_ends_at - self._loop.time(), terms.final)
        self.asked.set()

    @property
    def patience(self) -> float:
        """The patience of the terms; 0 before it is asked."""
        return self._terms.patience

    async def delay(self) -> None:
        """Wait until accepting has to stop; the caller stops it, and then calls ``run``."""
        if self._stops_at > self._loop.time():
            error_log.info("Draining: connections are still accepted")
            await self._until(lambda: self._stops_at, lambda: False)

    async def run(self) -> None:
        """End the connections; all at once and without patience if ``ask`` was not called."""
        if not self.asked.is_set():
            self.ask(self._terms)
        await self._window()
        await self._stop()

    async def _window(self) -> None:
        """Close WebSockets and event streams evenly."""
        serving = self._serving
        if self._loop.time() >= self._window_ends_at or self._is_over():
            return
        if self._terms.drawn_out or self._alive() > LEAST:
            alive = counted(self._alive(), "connection")
            # A default window ends once nobody is left, which is soon with few connections.
            how = "over" if self._terms.drawn_out else "within"
            error_log.info("Closing %s %s %g s", alive, how, self._terms.window)
        next_step = 0.0
        late = None
        while (now := self._loop.time()) < self._window_ends_at:
            if self._terms.late is not late:
                late = self._terms.late
                serving.phase = RETIRING if late else DRAINING
                self._tell(c for c in tuple(serving.connections) if c.standing < BUSY)
            if now >= next_step:
                next_step = now + STEP_SECONDS * random.uniform(0.5, 1.5)
                self._step(next_step - now, self._window_ends_at - now)
            if self._is_over() or not (self._terms.drawn_out or self._holds()):
                return
            await asyncio.sleep(min(POLL_SECONDS, self._window_ends_at - now))

    def _step(self, seconds: float, left: float) -> None:
        """Close the share of the remaining connections that falls to the next ``seconds``."""
        resting = []
        busy = []
        for connection in self._serving.connections:
            standing = connection.standing
            if standing == RESTING:
                resting.append(connection)
            elif standing == BUSY:
                busy.append(connection)
        paced = len(resting) + len(busy)
        number = int(paced * min(1.0, seconds / left) + random.random())
        if not self._terms.drawn_out:
            number = max(number, LEAST)
        for those in (resting, busy):
            # They are chosen at random, so that clients that came together do not come back
            # together.
            told = random.sample(those, min(number, len(those)))
            number -= len(told)
            self._tell(told)

    async def _stop(self) -> None:
        """End the connections that are left: ask, wait, cancel, abandon."""
        serving = self._serving
        serving.phase = STOPPING
        if self._is_over():
            return
        error_log.info(
            "Waiting for %s and %s of the application to end",
            counted(self._alive(), "connection"),
            counted(len(serving.tasks), "call"),
        )
        self._tell(tuple(serving.connections))
        ended_at = self._loop.time()
        if await self._until(lambda: ended_at + self._terms.patience, self._is_over):
            return
        left = tuple(serving.tasks)
        if left:
            error_log.warning(
                "Cancelling %s of the application after %g s",
                counted(len(left), "call"),
                self._terms.patience,
            )
        for task in left:
            serving.cancel(task)
        for connection in tuple(serving.connections):
            _abort(connection)
        self._arrivals.abort()
        cut_at = self._loop.time()
        over = await self._until(lambda: cut_at + CANCEL_SECONDS, self._is_over)
        if not over and serving.tasks:
            calls = counted(len(serving.tasks), "call")
            error_log.error("Abandoning %s of the application that did not end", calls)
            for task in serving.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is said

    # The connections that it sees.

    def _alive(self) -> int:
        return len(self._serving.connections) + len(self._arrivals)

    def _is_over(self) -> bool:
        return not self._serving.tasks and not self._alive()

    def _holds(self) -> bool:
        """Return whether any connection gains by a window that goes on."""
        return len(self._arrivals) > 0 or any(
            connection.standing != LETS_GO for connection in self._serving.connections
        )

    def _tell(self, connections: Iterable[Any]) -> None:
        for connection in connections:
            try:
                connection.shutdown(self._terms.code, self._terms.reason)
            except Exception:
                # The others are told all the same.
                error_log.exception("A connection does not end as it should: cutting it off")
                _abort(connection)

    async def _until(self, deadline: Callable[[], float], over: Callable[[], bool]) -> bool:
        """Wait until it is ``over``, or until the ``deadline``; return whether it is over."""
        while not over():
            left = deadline() - self._loop.time()
            # A connection that is told may react, also without patience.
            await asyncio.sleep(min(POLL_SECONDS, left) if left > 0 else POLL_SECONDS)
            if self._loop.time() >= deadline():
                return over()
        return True


def _abort(connection: Any) -> None:
    try:
        connection.abort()
    except Exception:
        error_log.exception("A connection cannot be cut off")
