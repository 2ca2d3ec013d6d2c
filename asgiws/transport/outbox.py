"""What goes out of one WebSocket: written at once, or corked, and waited for.

The first frame of a loop iteration is written at once. Those that follow before the
loop comes round are kept ("corked") and leave in one system call: when the
application is about to wait, when there are CORK_BYTES of them, or at the end of
the iteration.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..websocket.limits import Group
from .progress import waiting

CORK_BYTES: Final = 65_536


class Outbox:
    """The writing side of a transport.

    ``paused``: the transport is over its high-water mark. ``wrote``: something was
    written in this iteration of the loop; whoever knows that a new one has begun
    clears it. ``transport`` is None before the handshake and after the connection
    is lost; what is written then is dropped.
    """

    __slots__ = (
        "_cork",
        "_cork_size",
        "_flush_due",
        "_group",
        "_waiters",
        "_written",
        "paused",
        "transport",
        "wrote",
    )

    def __init__(self, group: Group) -> None:
        self._group = group
        self.transport: Any = None
        self.paused = False
        self.wrote = False
        self._cork: list[bytes] = []
        self._cork_size = 0
        self._flush_due = False
        self._written = 0  # bytes given to the transport
        self._waiters: list[asyncio.Future[None]] = []

    def write(self, data: bytes, more: cython.bint) -> None:
        """Write a frame; ``more``: others of this iteration are sure to follow."""
        if not self.wrote and not more and not self._cork:
            self.wrote = True
            self._written += len(data)
            self.transport.write(data)
            return
        self.wrote = True
        self._cork.append(data)
        self._cork_size += len(data)
        if self._cork_size >= CORK_BYTES:
            self._write_cork()
        elif not self._flush_due:
            self._flush_due = True
            self._group.flush_soon(self)

    def write_large(self, head: bytes, payload: bytes) -> None:
        """Write a frame behind what is corked, without joining it where that can be trusted."""
        self.wrote = True
        self._cork.append(head)
        if self._group.joins:
            self._cork.append(payload)
            self._write_cork()
            return
        joined = b"".join(self._cork)
        self._cork = []
        self._cork_size = 0
        self._written += len(joined) + len(payload)
        self.transport.writelines([joined, payload])

    def write_all(self, frames: list) -> None:  # type: ignore[type-arg]
        """Write frames now, behind what is corked."""
        self._cork += frames
        self._write_cork()

    def flush(self) -> None:
        """Write what is corked: the application waits, or the iteration is over."""
        self._flush_due = False
        self.wrote = False
        if self._cork:
            self._write_cork()

    def _write_cork(self) -> None:
        cork = self._cork
        self._cork = []
        self._cork_size = 0
        if self.transport is not None:
            data = cork[0] if len(cork) == 1 else b"".join(cork)
            self._written += len(data)
            self.transport.write(data)

    def taken(self) -> cython.Py_ssize_t:
        """How many bytes the peer's side has taken of all that was written."""
        unwritten: cython.Py_ssize_t = waiting(self.transport)
        return self._written - unwritten

    def is_empty(self) -> bool:
        """Whether nothing waits in the transport, or there is none any more."""
        return self.transport is None or bool(self.transport.get_write_buffer_size() == 0)

    async def wait(self) -> None:
        """Wait for a change: the transport takes more, or the connection ends."""
        waiter: asyncio.Future[None] = self._group.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Wake all who ``wait``."""
        waiters = self._waiters
        self._waiters = []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def resume(self) -> None:
        """The transport takes more; whoever waits goes on."""
        self.paused = False
        self.wake()

    def lose(self) -> None:
        """The connection is lost: drop what is corked, and wake whoever waits."""
        self.transport = None
        self._cork.clear()
        self._cork_size = 0
        self.resume()
