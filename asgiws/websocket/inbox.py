"""The messages that wait for the application, and the calls of ``receive`` that wait for one."""

from __future__ import annotations

from asyncio import Future, InvalidStateError
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

QUEUE_BYTES: Final = 65_536
# Places of taken messages stay at the queue's front, and are freed together: the first limit
# counts when it is empty, the second when it is not.
TAKEN_WHEN_EMPTY: Final = 8
TAKEN_AT_MOST: Final = 256


class Inbox:
    """A queue of messages with a high mark, ``max_queue`` messages or QUEUE_BYTES, and a low one.

    ``waiting`` counts the messages. ``waiter`` is the future of the ``receive`` that is
    served next; it carries no message, so that a cancelled call loses none.
    """

    __slots__ = ("_behind", "_bytes", "_first", "_head", "_max_queue", "_rest", "waiter", "waiting")

    def __init__(self, max_queue: cython.Py_ssize_t) -> None:
        self._max_queue = max_queue
        self._first: Any = None
        self._rest: list[Any] | None = None  # the messages behind it; few sessions need this
        self._head = 0
        self._bytes = 0
        self.waiting = 0
        self.waiter: Future[None] | None = None
        self._behind: list[Future[None]] | None = None  # hardly any session needs it

    def is_full(self) -> bool:
        """Return whether the high mark is reached."""
        return self.waiting >= self._max_queue or self._bytes >= QUEUE_BYTES

    def is_low(self) -> bool:
        """Return whether half of the marks is not exceeded."""
        return self._bytes <= QUEUE_BYTES // 2 and 2 * self.waiting <= self._max_queue

    def put(self, message: Any) -> None:
        """Add a message."""
        size: cython.Py_ssize_t = len(message)
        self._bytes += size
        self.waiting += 1
        if self.waiting == 1:
            self._first = message
        elif self._rest is None:
            self._rest = [message]
        else:
            self._rest.append(message)

    def take(self) -> Any:
        """The oldest message; there is one."""
        size: cython.Py_ssize_t
        message = self._first
        size = len(message)
        self._bytes -= size
        self.waiting -= 1
        rest = self._rest
        if not self.waiting:
            self._first = None
        else:
            assert rest is not None
            self._first = rest[self._head]
            rest[self._head] = None
            self._head += 1
            if self._head >= TAKEN_WHEN_EMPTY and (
                self._head == len(rest) or self._head >= TAKEN_AT_MOST
            ):
                del rest[: self._head]
                self._head = 0
        return message

    def join(self, waiter: Future[None]) -> None:
        """Let a ``receive`` wait, behind those that wait already."""
        if self.waiter is None:
            self.waiter = waiter
        elif self._behind is None:
            self._behind = [waiter]
        else:
            self._behind.append(waiter)

    def leave(self, waiter: Future[None]) -> None:
        """Let a ``receive`` wait no longer; the next one is served first now."""
        behind = self._behind
        if behind and waiter is not self.waiter:
            behind.remove(waiter)
        elif behind:
            self.waiter = behind.pop(0)
        else:
            self.waiter = None

    def wake(self) -> None:
        """Wake the ``receive`` that is served next: there is a message or an end for it."""
        if self.waiter is not None:
            try:
                self.waiter.set_result(None)
            except InvalidStateError:
                pass  # it is woken already, or cancelled
