"""The interface of a client for one kind of broker: see ``redis.py`` and ``nats.py``."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ..history import Retention

WAIT_SECONDS: Final = 5.0  # for the broker to confirm what it was asked


class Entry(NamedTuple):
    """A message that was kept: its position, and that of the one before it in its topic."""

    position: str
    before: str
    body: bytes


class Page(NamedTuple):
    """The messages that are kept of a topic, oldest first, and its current position.

    ``complete``: no message is missing between ``since`` and the first entry. ``top`` is the
    position of the last message that was published, or the one before the very first message.
    A subscriber that begins there can ask later for the messages behind it.
    """

    entries: list[Entry]
    complete: bool
    top: str


class Appended(NamedTuple):
    """A message that was taken: its position, and how many subscribe (None: not known)."""

    position: str
    reached: int | None


class Owner(Protocol):
    """The calls that a client makes, in its event loop; none of them waits."""

    def take(self, name: str, body: bytes, position: str | None, before: str | None) -> None:
        """A message of a name that was subscribed to; ``position`` is None without history.

        ``before`` is the position before it in its topic. By it the owner finds out whether
        messages are missing. None means that the client knows that none are.
        """

    def restored(self, names: Sequence[str]) -> None:
        """The subscriptions of these names were lost, and are restored.

        To be called after the broker has confirmed it and before any later message of them
        is given to ``take``.
        """

    def health(self, reason: str | None) -> None:
        """The broker answers (None) or, for that reason, does not; told at least at each change."""


class Client(ABC):
    """A connection to one broker, which keeps itself up.

    A *name* is what messages are published under: any text of up to 256 bytes in UTF-8 but the
    empty one. A *body* is bytes, of up to 17 MiB; the client does not look into it. A *position*
    is ``epoch:offset``: offsets are numbers that grow within an epoch, and positions of one epoch
    are never used twice, whatever happens to the broker. An epoch is printable ASCII without
    a colon or a space.

    All methods are called in one event loop, that of ``start``. A coroutine can be cancelled at any
    time. Those that ask the broker raise BusUnavailable, which names the broker and the reason,
    if it has not confirmed within WAIT_SECONDS; what was asked for may have happened then.
    They wait so long for a connection that is being restored.

    The client reconnects by itself for ever, with the delays of ``Backoff``, subscribes again in
    batches, and tells its owner. A broker that does not answer any more (it was frozen, or the
    network is gone) is found out within 10 seconds. No message is given twice to ``take``, and
    those of one name come in the order of the broker. It reads whatever comes at once.

    Credentials are in no message, no log and no name.
    """

    #: as in the URL, without credentials and options; for people
    name: str

    @abstractmethod
    def start(self, owner: Owner) -> None:
        """Begin to connect. Whatever goes wrong is told by ``owner.health``."""

    @abstractmethod
    async def subscribe(self, name: str) -> None:
        """Subscribe. When this returns the broker has confirmed it, and all that is published from
        then on goes to ``take``.

        For a name that is subscribed to it waits only as long as the connection is away.
        """

    @abstractmethod
    def unsubscribe(self, name: str) -> None:
        """Unsubscribe; messages may still come. The name may be subscribed to again at once."""

    @abstractmethod
    async def publish(self, name: str, body: bytes) -> int | None:
        """Publish; return how many clients subscribe, this one included, once the broker has it.

        None where the broker does not tell.
        """

    @abstractmethod
    async def append(self, name: str, body: bytes, retention: Retention) -> Appended:
        """Number, keep and publish in one step, with all machines in the same order.

        The oldest messages are dropped once there are more than ``retention`` says.
        """

    @abstractmethod
    async def read(self, name: str, since: str | None, most: int, retention: Retention) -> Page:
        """Return all messages behind ``since``, or none if the page is not ``complete``.

        It is complete only if everything that was published behind ``since`` is there, and
        ``since`` is a position of this topic. With ``since`` None it is the last ``most`` entries,
        and complete. Messages that are older than ``retention.seconds`` count as gone.
        """

    @abstractmethod
    async def tops(self, names: Sequence[str]) -> list[str]:
        """Return the ``Page.top`` of each of these, at most 100 names."""

    @abstractmethod
    async def close(self) -> None:
        """The server has ended: no call comes any more, and none waits any more."""


class Backoff:
    """The waits before the next attempts: twice as long each time, and partly random."""

    FIRST: Final = 0.1
    MOST: Final = 10.0

    def __init__(self) -> None:
        self._next = self.FIRST

    def next(self) -> float:
        """Return the seconds to wait. Half are random, so that workers do not come together."""
        delay = self._next
        self._next = min(2 * delay, self.MOST)
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The attempt has succeeded: begin anew with the shortest wait."""
        self._next = self.FIRST
