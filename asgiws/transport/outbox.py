"""The output of one WebSocket: written at once, or corked, and waited for.

The first frame of a loop iteration is written at once. Those that follow before the
loop comes round are kept ("corked") and leave in one system call: when the
application is about to wait, when there are CORK_BYTES of them, or at the end of
the iteration.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..log import error_log
from . import NO_SOCKET, NOT_LOOKED_AT
from .progress import waiting

CORK_BYTES: Final = 65_536


class Flush:
    """One flush at the end of an iteration of the event loop, for all outboxes of it."""

    __slots__ = ("_dirty", "joins", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: asyncio's ``writelines`` joins before 3.12, and in 3.12.8 and 3.13.1 it does not tell
        #: the protocol to pause (CVE-2024-12254)
        self.joins = isinstance(loop, asyncio.BaseEventLoop)
        self._dirty: list[Outbox] = []

    def soon(self, outbox: Outbox) -> None:
        """Flush ``outbox`` at the end of this iteration of the loop."""
        if not self._dirty:
            self.loop.call_soon(self._run)
        self._dirty.append(outbox)

    def _run(self) -> None:
        dirty = self._dirty
        self._dirty = []
        for outbox in dirty:
            try:
                outbox.flush()
            except Exception as exc:
                outbox.fail(exc)


class Outbox:
    """The writing side of a transport.

    ``paused``: the transport is over its high-water mark. ``wrote``: a frame was written in this
    iteration of the loop; the code that begins a new iteration clears it. ``transport`` is
    None before the handshake and after the connection is lost; frames written then are dropped.
    """

    __slots__ = (
        "_cork",
        "_cork_size",
        "_fd",
        "_flush",
        "_flush_due",
        "_in_transport",
        "_waiters",
        "_written",
        "paused",
        "transport",
        "wrote",
    )

    def __init__(self, flush: Flush) -> None:
        self._flush = flush
        self.transport: Any = None
        self.paused = False
        self.wrote = False
        # None, a frame, or a list of several: most never have more than one.
        self._cork: Any = None
        self._cork_size = 0
        self._flush_due = False
        self._written = 0  # bytes given to the transport
        self._in_transport = True  # there may be some that wait in it
        self._fd = NOT_LOOKED_AT  # of the transport's socket, if it may be written to
        # In the order in which they came; any of them may leave.
        self._waiters: OrderedDict[asyncio.Future[None], None] | None = None

    def open(self, transport: Any, fd: cython.int) -> None:
        """Write to this transport from now on.

        ``fd`` is the descriptor of its socket, if the bytes that are written go to it unchanged;
        else NO_SOCKET, or NOT_LOOKED_AT if the caller does not know.
        """
        self.transport = transport
        self._fd = fd

    def write(self, data: bytes, more: cython.bint) -> None:
        """Write a frame; ``more``: others will follow in this iteration."""
        if not self.wrote and not more and self._cork is None:
            self.wrote = self._in_transport = True
            self._written += len(data)
            self.transport.write(data)
            return
        self.wrote = True
        self._keep(data)
        self._cork_size += len(data)
        if self._cork_size >= CORK_BYTES:
            self._write_cork()
        elif not self._flush_due:
            self._flush_due = True
            self._flush.soon(self)

    def write_large(self, head: bytes, payload: bytes) -> None:
        """Write a frame behind the corked ones, without a copy if ``writelines`` makes none."""
        self.wrote = True
        self._keep(head)
        if self._flush.joins:
            self._keep(payload)
            self._write_cork()
            return
        joined = self._joined()
        self._in_transport = True
        self._written += len(joined) + len(payload)
        self.transport.writelines([joined, payload])

    def write_all(self, frames: list) -> None:  # type: ignore[type-arg]
        """Write frames now, behind the corked ones."""
        for data in frames:
            self._keep(data)
        if self._cork is not None:
            self._write_cork()

    def write_last(self, frames: list) -> bool:  # type: ignore[type-arg]
        """Write the last frames; return whether a FIN has gone with them.

        If not, the caller has to end the transport, behind what waits in it.
        """
        for data in frames:
            self._keep(data)
        return self._cork is not None and self._write_cork(True)

    def flush(self) -> None:
        """Write the corked frames: the application waits, or the iteration is over."""
        self._flush_due = False
        self.wrote = False
        if self._cork is not None:
            self._write_cork()

    def _keep(self, data: bytes) -> None:
        """Cork a frame."""
        if self._cork is None:
            self._cork = data
        elif type(self._cork) is list:
            self._cork.append(data)
        else:
            self._cork = [self._cork, data]

    def _joined(self) -> bytes:
        """Join the corked frames, of which there is at least one, and uncork them."""
        cork = self._cork
        self._cork = None
        self._cork_size = 0
        return b"".join(cork) if type(cork) is list else cork

    def _write_cork(self, last: cython.bint = False) -> bool:
        """Write the corked frames; ``last``: with a FIN. Return whether the FIN is sent."""
        data: bytes = self._joined()
        if self.transport is not None:
            self._written += len(data)
            if cython.compiled and self._fd != NO_SOCKET:
                data = self._send(data, last)
                if last and not data:
                    return send_fin(self._fd)  # type: ignore[name-defined,no-any-return] # noqa: F821
            if data:
                self._in_transport = True
                self.transport.write(data)
        return False

    def _send(self, data: bytes, last: cython.bint) -> bytes:
        """Write to the socket itself; return the bytes that are left for the transport.

        A transport's own ``write`` takes several times as long as all else that is done here.
        This is done only if nothing waits in the transport, so that the order stays, and not
        while it closes, because its descriptor may belong to another file by then. ``last``: a FIN
        follows if nothing is left.
        """
        sent: cython.Py_ssize_t
        if self._fd == NOT_LOOKED_AT:
            self._find_fd()
            if self._fd == NO_SOCKET:
                return data
        if self._in_transport:
            if self.transport.get_write_buffer_size():
                return data
            self._in_transport = False
        if self.transport.is_closing():
            return data
        sent = send_now(self._fd, data, last)  # type: ignore[name-defined] # noqa: F821
        if sent == len(data):
            return b""
        return data if sent <= 0 else data[sent:]  # an error is the transport's to find

    def _find_fd(self) -> None:
        """Find the transport's socket, unless the transport changes the bytes (TLS)."""
        self._fd = NO_SOCKET
        if self.transport.get_extra_info("sslcontext") is None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                self._fd = sock.fileno()

    def taken(self) -> cython.Py_ssize_t:
        """Return how many bytes the peer's side has taken of all that was written."""
        return self._written - self.unwritten()

    def unwritten(self) -> cython.Py_ssize_t:
        """Return how many bytes wait for the peer, as ``progress.waiting`` counts them."""
        return 0 if self.transport is None else waiting(self.transport)

    def is_empty(self) -> bool:
        """Return whether nothing waits in the transport, or there is none any more."""
        return self.transport is None or bool(self.transport.get_write_buffer_size() == 0)

    async def wait(self, again: cython.bint) -> None:
        """Wait for a change: the transport takes more, or the connection ends.

        Of many that wait only the first is woken, because nothing has changed for the others. It
        calls ``wake_next`` when it is about to write. ``again``: it was its turn, but the
        transport takes no more, so it stays the first.
        """
        waiter: asyncio.Future[None] = self._flush.loop.create_future()
        if self._waiters is None:
            self._waiters = OrderedDict()
        self._waiters[waiter] = None
        if again:
            self._waiters.move_to_end(waiter, last=False)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.wake_next()  # it was this one's turn
            elif self._waiters is not None:
                self._waiters.pop(waiter, None)
            raise

    def wake_next(self) -> None:
        """Wake the first that ``wait``s, if the transport takes more."""
        while self._waiters and not self.paused:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        if not self._waiters:
            self._waiters = None

    def wake(self) -> None:
        """Wake all that ``wait``: the connection ends."""
        waiters = self._waiters
        self._waiters = None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def lose(self) -> None:
        """The connection is lost: drop the corked frames, and wake all that wait."""
        self.transport = None
        self._cork = None
        self._cork_size = 0
        self.paused = False
        self.wake()

    def fail(self, error: Exception) -> None:
        """A write has raised, by a bug of ours or the transport's: end this connection."""
        try:
            if self.transport is not None:
                self.transport.abort()
        finally:
            error_log.error("Exception in a write: the connection is cut", exc_info=error)
