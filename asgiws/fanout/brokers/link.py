"""One connection to one Redis, for commands and for all that it pushes (RESP3).

Everything of one connection comes in one order, so an answer tells exactly which pushes were
before it. Commands of one iteration of the event loop leave together. The reader hands on whatever
comes, and never waits, because Redis cuts off a client that does not read.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from ...log import error_log
from .client import WAIT_SECONDS

PING_SECONDS: Final = 2.0  # without anything to be answered before a PING

_SUBSCRIBED: Final = (b"subscribe", b"ssubscribe", b"unsubscribe", b"sunsubscribe")


class LinkLost(Exception):
    """The connection is gone; the reason. It is not known whether the command was done."""


class NotSent(LinkLost):
    """The same, and the command was not sent."""


class _Push(list[Any]):
    """A message that Redis sends without having been asked."""


async def _mark(values: list[Any]) -> _Push:
    return _Push(values)


class _Expected:
    """An answer that is still to come, or a number of confirmations."""

    __slots__ = ("command", "confirmations", "done", "future", "since")

    def __init__(
        self,
        future: asyncio.Future[Any],
        command: tuple[Any, ...],
        confirmations: int = 0,
        done: Callable[[bool], object] | None = None,
    ) -> None:
        self.future = future
        self.command = command
        self.confirmations = confirmations
        self.done = done  # called at once, before anything else is handed on
        self.since = 0.0  # when it was written

    def settle(self, answer: Any) -> None:
        """Give the answer, or the exception, to the caller that waits."""
        failed = isinstance(answer, Exception)
        if self.done is not None:
            self.done(not failed)
        if self.future.done():
            return
        if failed:
            self.future.set_exception(answer)
            self.future.exception()  # perhaps no task waits for it any more
        else:
            self.future.set_result(answer)


class Link:
    """A connection, from ``open`` to its loss; it is used once."""

    def __init__(
        self,
        connection: Any,
        on_push: Callable[[Link, list[Any]], object],
        on_lost: Callable[[Link, str], object],
    ) -> None:
        """``connection`` is one of redis-py's, which has not been connected."""
        self._connection = connection
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._unwritten: list[_Expected] = []
        self._expected: deque[_Expected] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = 0.0  # when something came
        #: the reason why no command can be sent any more; None as long as it can
        self.lost: str | None = "not connected"

    async def open(self) -> None:
        """Connect. Raises RedisError and OSError."""
        try:
            await self._connection.connect()
            self._connection._parser.set_pubsub_push_handler(_mark)
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        self.lost = None
        for call in (self._write(), self._read(), self._watch()):
            self._tasks.append(self._loop.create_task(call))

    def call(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; its answer. It has ResponseError, or LinkLost.

        One that is cancelled before it was written is not sent.
        """
        return self._ask(command)

    def confirm(
        self, command: str, names: list[bytes], done: Callable[[bool], object] | None = None
    ) -> asyncio.Future[Any]:
        """Subscribe or unsubscribe. Once all of it is confirmed ``done(True)`` is called, before
        any later push is handed on; ``done(False)`` if that is refused, or the connection lost.
        """
        return self._ask((command, *names), len(names), done)

    def lose(self, reason: str) -> None:
        """Give it up."""
        if self.lost is not None:
            return
        self.lost = reason
        current = asyncio.current_task(self._loop) if asyncio._get_running_loop() else None
        for task in self._tasks:
            if task is not current:
                task.cancel()
        if self._connection._writer is not None:
            # Bytes that the other end does not take would keep a closed connection for minutes.
            self._connection._writer.transport.abort()
        self._connection._close()
        written, self._expected = self._expected, deque()
        unwritten, self._unwritten = self._unwritten, []
        for expected in written:
            expected.settle(LinkLost(reason))
        for expected in unwritten:
            expected.settle(NotSent(reason))
        self._on_lost(self, reason)

    def _ask(self, command: tuple[Any, ...], *about: Any) -> asyncio.Future[Any]:
        expected = _Expected(self._loop.create_future(), command, *about)
        if self.lost is not None:
            expected.settle(NotSent(self.lost))
        else:
            self._unwritten.append(expected)
            self._wake.set()
        return expected.future

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(0)  # for all that want to say something now
                self._wake.clear()
                asked, self._unwritten = self._unwritten, []
                now = self._loop.time()
                packed: list[bytes] = []
                for expected in asked:
                    if not expected.future.done():
                        expected.since = now
                        packed += self._connection.pack_command(*expected.command)
                        expected.command = ()
                        self._expected.append(expected)
                if packed:
                    await self._connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as exc:
            self.lose(_reason(exc))
        except AttributeError:
            if self.lost is None:
                raise
            # redis-py writes once more to a connection that is closed.

    async def _read(self) -> None:
        connection = self._connection
        try:
            while True:
                try:
                    answer = await connection.read_response(
                        disable_decoding=True,
                        timeout=math.inf,
                        disconnect_on_error=False,
                        push_request=True,
                    )
                except ResponseError as exc:
                    answer = exc
                self._heard = self._loop.time()
                if isinstance(answer, _Push):
                    self._pushed(answer)
                else:
                    self._answered(answer)
        except (RedisError, OSError) as exc:
            self.lose(_reason(exc))
        except Exception as exc:
            # Nobody may wait for a reader that is no more.
            error_log.error("Exception in topics", exc_info=exc)
            self.lose(_reason(exc))

    def _pushed(self, values: list[Any]) -> None:
        expected = self._expected[0] if self._expected else None
        if values[0] in _SUBSCRIBED and expected is not None and expected.confirmations:
            expected.confirmations -= 1
            if not expected.confirmations:
                self._expected.popleft().settle(None)
        self._on_push(self, values)

    def _answered(self, answer: Any) -> None:
        if not self._expected:
            raise ValueError("an answer without a question")
        self._expected.popleft().settle(answer)

    async def _watch(self) -> None:
        """Notice a server that does not answer any more, because it or the network is gone."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            if self._is_quiet():
                # Or our own loop stood still: then what has come is still to be read.
                await asyncio.sleep(PING_SECONDS / 10)
                if self._is_quiet():
                    self.lose(f"has not answered for {WAIT_SECONDS:g} s")
            elif not self._expected and not self._unwritten:
                self.call("PING")

    def _is_quiet(self) -> bool:
        """Return whether nothing has come for too long although something is expected."""
        if not self._expected:
            return False
        return self._loop.time() - max(self._heard, self._expected[0].since) > WAIT_SECONDS


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
