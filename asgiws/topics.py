"""Publish once, reach every WebSocket that has subscribed, in all workers.

    from asgiws import topics

    async with topics.subscribe(websocket, "news"):
        async for text in websocket.iter_text():
            await topics.publish("news", text=text, exclude=websocket)

This works in any coroutine of the application, under any ASGI server. If asgiws serves, the
frames go straight to the sockets, and from worker to worker.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Literal, Self
from warnings import warn

from .asgi import Send
from .errors import BusUnavailable, TopicError
from .fanout.backlog import MAX_BYTES
from .fanout.bus import Count
from .fanout.current import hub
from .fanout.hub import Hub, Stats, Wishes, keep
from .fanout.listener import Messages
from .fanout.members import Member
from .fanout.message import Message

__all__ = [
    "BusUnavailable",
    "Count",
    "Message",
    "Messages",
    "Policy",
    "Recording",
    "Stats",
    "Subscription",
    "TopicError",
    "count",
    "healthy",
    "keep",
    "listen",
    "publish",
    "publish_from_thread",
    "recording",
    "stats",
    "subscribe",
]

_NOTHING: Any = object()

Policy = Literal["close", "drop_oldest", "drop_newest", "latest"]
"""What happens when too many bytes wait for a slow subscriber; see ``subscribe``."""


async def publish(
    topic: str,
    *,
    text: str | None = None,
    bytes: builtins.bytes | None = None,
    json: Any = _NOTHING,
    exclude: Any = None,
    key: str | None = None,
) -> int:
    """Publish one message; return how many subscribers will get it, as far as known.

    Give exactly one of ``text``, ``bytes`` and ``json`` (what ``json.dumps`` takes).
    ``exclude`` is a WebSocket, or its scope, that does not get it. Subscribers with the
    policy ``latest`` that are slow get only the last of several with the same ``key``.

    When it returns, the bus has taken the message. Raises TopicError for impossible arguments,
    and BusUnavailable, an OSError, if the bus does not take the message within seconds.
    """
    values = () if json is _NOTHING else (json,)
    return await hub().publish(topic, text, bytes, values, key, exclude)


def publish_from_thread(
    topic: str,
    *,
    text: str | None = None,
    bytes: builtins.bytes | None = None,
    json: Any = _NOTHING,
    exclude: Any = None,
    key: str | None = None,
    timeout: float = 10.0,
) -> int:
    """The same from another thread than the server's; waits for ``timeout`` seconds at most.

    If asgiws serves, that thread may run an event loop of its own. Raises RuntimeError in the
    event loop that it would wait for, TimeoutError, and what ``publish`` raises.
    """
    here = hub()
    values = () if json is _NOTHING else (json,)
    return here.publish_from_thread(here.publish(topic, text, bytes, values, key, exclude), timeout)


class Subscription:
    """A WebSocket's subscription to a topic, from ``async with`` to its end.

    It also ends with the connection.
    """

    __slots__ = ("_about", "topic")

    def __init__(self, topic: str, arguments: tuple[Any, Wishes, Send | None]) -> None:
        self.topic: str = topic
        """The name of the topic."""
        # First the wishes, then None, and then the subscription.
        self._about: tuple[Any, Wishes, Send | None] | Member | None = arguments

    async def __aenter__(self) -> Self:
        if not isinstance(self._about, tuple):
            raise RuntimeError("a subscription can begin only once")
        socket, wishes, send = self._about
        self._about = None
        entered = await hub().enter_socket(socket, self.topic, wishes, send)
        self._about = entered.member
        if entered.member.topic is not None:
            self.topic = entered.member.topic.name  # one for all: each has made its own
        if entered.position is not None or entered.recovered is not None:
            entered.member.found = (entered.position, entered.recovered)
        return self

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._about, Member):
            self._about.leave()

    def __del__(self) -> None:
        if isinstance(self._about, tuple):
            _warn_of_nothing("subscribe")

    @property
    def recovered(self) -> bool | None:
        """True if all messages behind ``since`` were sent; None without ``since``."""
        return self._found()[1]

    @property
    def position(self) -> str | None:
        """The topic's position when the subscription began; None in a topic without history."""
        return self._found()[0]

    @property
    def dropped(self) -> int:
        """The number of messages that this subscriber has missed, by being slow or by a loss."""
        return self._about.dropped if isinstance(self._about, Member) else 0

    def _found(self) -> tuple[str | None, bool | None]:
        found: Any = self._about.found if isinstance(self._about, Member) else None
        return (None, None) if found is None else found


def subscribe(
    socket: Any,
    topic: str,
    *,
    policy: Policy = "close",
    max_bytes: int = MAX_BYTES,
    since: str | None = None,
    replay: int = 0,
    envelope: bool = False,
    on_gap: Literal["tell", "close"] = "tell",
    send: Send | None = None,
) -> Subscription:
    """Send all messages of a topic to an accepted WebSocket: ``async with subscribe(...)``.

    ``socket`` is Starlette's, FastAPI's or Litestar's WebSocket, or a scope; under another
    server than asgiws a scope needs its ``send``. The frames go straight to the socket, in
    order with what the application sends, and the application does not see them.

    A client that does not read gets what comes later as long as no more than ``max_bytes``
    (1 MiB) wait for it. Then ``policy`` decides: ``"close"`` the connection (1013),
    ``"drop_oldest"``, ``"drop_newest"``, or ``"latest"``, which keeps the last message of each
    ``key``.

    In a topic with history ``since`` (a position) sends what came behind it, or nothing if
    that is not complete, and ``replay`` the last messages. With ``envelope`` every message
    is a JSON text with ``topic``, ``position`` and ``data`` (``base64`` for bytes); the first
    one has ``subscribed``, ``position`` and, with ``since``, ``recovered``; after a loss comes
    one with ``gap``.

    ``on_gap`` is about messages that were lost before they came to this worker, as when the
    broker was away, and not about a client that does not read. ``"tell"`` goes on behind the
    gap. ``"close"`` closes the connection (1012), so that the client comes back and recovers.

    Entering raises TopicError for arguments that cannot be, and BusUnavailable.
    """
    wishes = Wishes(policy, max_bytes, since, replay, envelope, on_gap)
    return Subscription(topic, (socket, wishes, send))


class _Listening(AbstractAsyncContextManager[Messages]):
    """``async with listen(...) as messages``."""

    __slots__ = ("_member", "_topic", "_wishes")

    def __init__(self, topic: str, wishes: Wishes) -> None:
        self._topic = topic
        self._wishes: Wishes | None = wishes
        self._member: Member | None = None

    async def __aenter__(self) -> Messages:
        if self._wishes is None:
            raise RuntimeError("a subscription can begin only once")
        wishes, self._wishes = self._wishes, None
        entered, messages = await hub().enter_listener(self._topic, wishes)
        self._member = entered.member
        return messages

    async def __aexit__(self, *_: object) -> None:
        if self._member is not None:
            self._member.leave()

    def __del__(self) -> None:
        if self._wishes is not None:
            _warn_of_nothing("listen")


def _warn_of_nothing(call: str) -> None:
    """Warn of a subscription that has never begun, in the line that let it go."""
    warn(f'topics.{call} does nothing without "async with"', RuntimeWarning, stacklevel=3)


def listen(
    topic: str,
    *,
    policy: Policy = "drop_oldest",
    max_bytes: int = MAX_BYTES,
    since: str | None = None,
    replay: int = 0,
) -> AbstractAsyncContextManager[Messages]:
    """Look at the messages of a topic: ``async with listen(...) as messages``, and then
    ``async for message in messages``.

    What has not been taken waits, up to ``max_bytes`` (1 MiB); then ``policy`` decides as in
    ``subscribe``, and with ``"close"`` the iterator ends. ``message.gap`` tells how many are
    missing before a message. ``since`` and ``replay`` are as in ``subscribe``, and
    ``messages.recovered`` tells whether what was asked for is complete.

    Entering raises TopicError for arguments that cannot be, and BusUnavailable.
    """
    return _Listening(topic, Wishes(policy, max_bytes, since, replay))


async def count(topic: str) -> Count:
    """Return the numbers of subscribers: ``here``, in this worker, and ``everywhere``.

    Raises TopicError for an impossible name.
    """
    return await hub().count(topic)


def stats() -> Stats:
    """Return the numbers of messages that this process has published, delivered and missed."""
    return hub().stats()


def healthy() -> bool:
    """Return whether publications reach the other workers, or the broker."""
    return hub().bus.healthy()


class Recording:
    """For tests: the messages since ``recording()`` began, and the current subscribers."""

    def __init__(self, here: Hub, published: list[Message]) -> None:
        self._hub = here
        self.published: list[Message] = published
        """The messages, in their order."""

    @property
    def subscribed(self) -> dict[str, int]:
        """The number of subscribers of each topic now, in this process."""
        return self._hub.numbers()


@contextmanager
def recording() -> Iterator[Recording]:
    """Record what this process publishes, for tests."""
    here = hub()
    with here.recording() as published:
        yield Recording(here, published)
