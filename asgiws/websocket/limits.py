"""What the WebSockets of one event loop share: limits, one timer, one flush."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..wire import deflate

if TYPE_CHECKING:
    from ..transport.outbox import Outbox
    from .session import WebSocket


BUFFER_BYTES = 262_144
DEFLATOR_SECONDS = 30.0  # a deflator (32 or 160 KiB) that had nothing to do for so long is freed


def _tick_for(*spans: float | None) -> float:
    """A tick that is short beside the shortest of ``spans``."""
    return min(1.0, min(filter(None, spans)) / 4)


class Group:
    """The limits and the two occasions that all WebSockets of a loop share.

    Time is counted in ticks of ``tick`` seconds: a tick that comes late, because a
    callback blocked the loop, counts nothing, so that nobody is judged by what still
    waits in the kernel.
    """

    __slots__ = (
        "_dirty",
        "_due",
        "_timer",
        "accept_ticks",
        "buffer",
        "buffer_view",
        "close_ticks",
        "deflate",
        "deflator_ticks",
        "idle_ticks",
        "joins",
        "loop",
        "max_queue",
        "max_size",
        "members",
        "ping_ticks",
        "pong_ticks",
        "tick",
        "write_ticks",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        max_size: int,
        max_queue: int,
        ping_interval: float | None,
        ping_timeout: float | None,
        close_timeout: float,
        accept_timeout: float | None,
        write_timeout: float | None,
        idle_timeout: float | None,
        deflate_settings: deflate.Settings | None,
    ) -> None:
        """Sizes in bytes, times in seconds; None switches what it is given for off."""
        self.loop = loop
        self.max_size = max_size
        self.max_queue = max_queue
        self.deflate = deflate_settings
        self.tick: float = _tick_for(
            close_timeout, ping_interval, ping_timeout, accept_timeout, write_timeout, idle_timeout
        )
        self.ping_ticks = self._ticks(ping_interval)
        self.pong_ticks = self._ticks(ping_timeout)
        self.close_ticks = self._ticks(close_timeout) or 1
        self.accept_ticks = self._ticks(accept_timeout)
        self.write_ticks = self._ticks(write_timeout)
        self.idle_ticks = self._ticks(idle_timeout)
        self.deflator_ticks = self._ticks(DEFLATOR_SECONDS)
        #: asyncio's ``writelines`` joins before 3.12, and in 3.12.8 and 3.13.1 it does not tell
        #: the protocol to pause (CVE-2024-12254)
        self.joins = isinstance(loop, asyncio.BaseEventLoop)
        self.members: set[WebSocket] = set()
        #: what every member reads into, and has parsed or copied before the next one reads
        self.buffer = bytearray(BUFFER_BYTES)
        self.buffer_view = memoryview(self.buffer)
        self._dirty: list[Outbox] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def _ticks(self, seconds: float | None) -> int:
        return round(seconds / self.tick) if seconds else 0

    def add(self, websocket: WebSocket) -> None:
        """Give a WebSocket its share of the timer, until it leaves ``members``."""
        self.members.add(websocket)
        if self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        self._due = self.loop.time() + self.tick
        self._timer = self.loop.call_at(self._due, self._on_tick)

    def _on_tick(self) -> None:
        self._timer = None
        if self.loop.time() - self._due < self.tick / 2:
            for websocket in tuple(self.members):
                websocket.on_tick()
        if self.members:
            self._schedule()

    def flush_soon(self, outbox: Outbox) -> None:
        """Flush ``outbox`` at the end of this iteration of the loop."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(outbox)

    def _flush(self) -> None:
        dirty = self._dirty
        self._dirty = []
        for outbox in dirty:
            outbox.flush()
