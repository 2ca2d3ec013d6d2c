"""All topics of one server: subscribers, publications and history."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple

from ..asgi import Send
from ..errors import ClientDisconnected, TopicError
from ..websocket.session import Session
from ..websocket.states import FAILING
from .backlog import CLOSE, TELL, checked
from .brokers import Broker, connected
from .bus import Bus, Count, Recovery
from .foreign import pump, tell
from .history import History, Retention, Wanted
from .listener import Holder, Listener, Messages
from .members import Member, Socket, Terms, Topic, close_for_loss, close_slow
from .mesh import Mesh
from .message import BYTES, JSON, TEXT, Message, Publication, notice, to_json

EXTENSION: Final = "asgiws.topics"  # in the scope of a WebSocket: its session

MAX_NAME: Final = 255  # bytes of a topic's name, and of a key
MAX_MESSAGE: Final = 16_777_216  # bytes
MAX_OF_SOCKET: Final = 128  # topics of one WebSocket
MAX_TOPICS: Final = 1_000_000  # with members, in one process

# A publisher that never waits lets the event loop come round after so many.
BUDGET_PUBLICATIONS: Final = 64

# A loss may end many sockets: the event loop comes round after so many.
AT_ONCE: Final = 128

NOTHING: Final = Retention(0, 0.0)

_rules: dict[str, Retention] = {}


def keep(prefix: str, messages: int, seconds: float) -> None:
    """Keep a history of all topics whose names begin with ``prefix``; the longest prefix counts.

    The last ``messages`` of each topic are kept for that many ``seconds``. It holds for this
    process, so call it in every worker, for example where the application is made. Raises
    TopicError.
    """
    _check_name(prefix)
    if isinstance(messages, bool) or not isinstance(messages, int) or messages < 0:
        raise TopicError(f"messages must be an int that is not negative, got {messages!r:.50}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise TopicError(f"seconds must be a positive number, got {seconds!r:.50}")
    _rules[prefix] = Retention(messages, float(seconds))
    # The longest one that fits is to be met first.
    for longer in sorted(_rules, key=len, reverse=True):
        _rules[longer] = _rules.pop(longer)


def _check_name(topic: str) -> None:
    """Raises TopicError for an impossible name of a topic."""
    if not isinstance(topic, str):
        raise TopicError(f"a topic must be a str, got {topic!r:.100}")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise TopicError(f"a topic must be encodable in UTF-8, got {topic!r:.100}") from None
    if not 0 < size <= MAX_NAME:
        raise TopicError(f"a topic must have 1 to {MAX_NAME} bytes in UTF-8, not {size}")


class Stats(NamedTuple):
    """Counts since the server began, and of current subscribers; all in one process."""

    published: int
    """Messages that this process has published."""
    delivered: int
    """Messages that were handed to a subscriber; one message counts once for each subscriber."""
    dropped: int
    """Messages that a subscriber has missed, because it was slow or because they were lost."""
    closed: int
    """WebSockets that were closed because they were slow."""
    closed_on_gap: int
    """WebSockets that were closed because messages were lost on the way (``on_gap="close"``)."""
    topics: int
    """Topics that have subscribers now."""
    subscriptions: int
    """Subscriptions now."""


class Wishes(NamedTuple):
    """A subscriber's wishes: the arguments of ``subscribe`` and ``listen``."""

    policy: str
    max_bytes: int
    since: str | None
    replay: int
    envelope: bool = False
    on_gap: str = TELL

    @property
    def looks_back(self) -> bool:
        """True if it wants to know where the topic stands."""
        return self.since is not None or self.replay > 0 or self.envelope


class Entered(NamedTuple):
    """A subscription, and the history that it has found."""

    member: Member
    position: str | None
    recovered: bool | None


class Hub:
    """The topics of one event loop, or of all loops of a process that asgiws does not serve."""

    def __init__(
        self,
        wanted: Wanted,
        loop: asyncio.AbstractEventLoop | None,
        mesh: Callable[[Hub], Mesh] | None = None,
    ) -> None:
        """``loop`` is None if another server runs, which may use several threads."""
        self.loop = loop
        self._wanted = wanted
        self._guard: Any = threading.RLock() if loop is None else nullcontext()
        self._topics: dict[str, Topic] = {}
        self._default = Retention(wanted.messages, wanted.seconds)
        self._published = self._delivered = self._dropped = 0
        self._closed = self._closed_on_gap = 0
        self._ending: deque[Socket] = deque()  # they are to be closed for a loss
        self._recorded: list[list[Message]] = []
        self._terms: Terms | None = None  # the last ones: most sockets want the same
        self._is_ready = False
        self.mesh = None if mesh is None else mesh(self)
        self.bus: Bus | Broker
        if wanted.url is None:
            self.bus = Bus(self, loop, self.mesh)
        else:
            self.bus = connected(self, wanted.url)

    # Called by asgiws.topics.

    async def publish(
        self,
        topic: str,
        text: str | None,
        data: bytes | None,
        json: Any,
        key: str | None,
        exclude: Any,
    ) -> int:
        """Publish one message; return how many subscribers will get it, as far as known.

        ``json`` is a tuple of the value, or empty. Raises TopicError and BusUnavailable.
        """
        self._check_loop()
        publication = _made(topic, text, data, json, key)
        if exclude is not None:
            publication.exclude = identity(exclude)
        if not self._is_ready:
            await self._get_ready()
        with self._guard:
            reached = await self.bus.publish(publication, self.retention(topic))
        self._published += 1
        for recorded in self._recorded:
            recorded.append(Message(publication))
        if not self._published % BUDGET_PUBLICATIONS:
            await asyncio.sleep(0)
        return reached

    def publish_from_thread(self, call: Coroutine[Any, Any, int], seconds: float) -> int:
        """Run ``publish`` of this hub from another thread."""
        running = asyncio._get_running_loop()
        if running is not None and running is (self.loop or running):
            call.close()
            raise RuntimeError(
                "publish_from_thread: this thread runs the event loop: `await topics.publish(...)`"
            )
        if self.loop is not None:
            future = asyncio.run_coroutine_threadsafe(call, self.loop)
            try:
                return future.result(seconds)
            except TimeoutError:
                future.cancel()
                raise
        return asyncio.run(call)

    async def enter_socket(
        self, socket: Any, topic: str, wishes: Wishes, send: Send | None
    ) -> Entered:
        """Subscribe a WebSocket."""
        _check(topic, wishes)
        session = session_of(socket)
        if session is None:
            return await self._enter_foreign(socket, topic, wishes, send)
        _check_socket(session, topic)
        member = Socket(session, self._terms_of(wishes))
        entered = await self._enter(member, topic, wishes)
        try:
            _check_socket(session, topic)  # it may have ended, or subscribed, meanwhile
        except BaseException:
            self.leave(member)
            raise
        member.behind, session.subscribed = session.subscribed, member
        return entered

    async def _enter_foreign(
        self, socket: Any, topic: str, wishes: Wishes, send: Send | None
    ) -> Entered:
        send = send or getattr(socket, "send", None)
        if send is None:
            raise TopicError(
                "subscribe: expected a WebSocket with `send`, or with another server than asgiws "
                f"a scope and `send=send`, got {type(socket).__name__}"
            )
        means = (socket, getattr(socket, "scope", socket))
        known = self._topics.get(topic)
        if known is not None and any(member.is_excluded(means[1]) for member in known.members):
            raise _subscribed_already(topic)
        member = Listener(
            wishes.policy, wishes.max_bytes, self.loop is None, means, wishes.on_gap == CLOSE
        )
        entered = await self._enter(member, topic, wishes)
        if wishes.envelope:
            try:
                await tell(topic, send, **_begin(entered))
            except BaseException:
                self.leave(member)
                raise
        call = pump(member, topic, send, wishes.envelope)
        member.pump = asyncio.get_running_loop().create_task(call)
        return entered

    async def enter_listener(self, topic: str, wishes: Wishes) -> tuple[Entered, Messages]:
        """Subscribe an iterator."""
        _check(topic, wishes)
        listener = Listener(wishes.policy, wishes.max_bytes, self.loop is None)
        entered = await self._enter(listener, topic, wishes)
        return entered, Messages(listener, entered.position, entered.recovered)

    async def count(self, topic: str) -> Count:
        """Return the numbers of subscribers."""
        self._check_loop()
        _check_name(topic)
        if not self._is_ready:
            await self._get_ready()
        found = self._topics.get(topic)
        here = 0 if found is None else len(found.members)
        return Count(here, here + await self.bus.count(topic))

    def stats(self) -> Stats:
        """Return the counts of this process."""
        with self._guard:
            members = [m for topic in self._topics.values() for m in topic.members]
            return Stats(
                self._published,
                self._delivered,
                self._dropped + sum(member.dropped for member in members),
                self._closed,
                self._closed_on_gap,
                len(self._topics),
                len(members),
            )

    @contextmanager
    def recording(self) -> Iterator[list[Message]]:
        """Record all that is published within the block."""
        messages: list[Message] = []
        self._recorded.append(messages)
        try:
            yield messages
        finally:
            self._recorded = [each for each in self._recorded if each is not messages]

    def retention(self, topic: str) -> Retention:
        """The part of a topic that is kept."""
        if _rules:
            for prefix, retention in _rules.items():
                if topic.startswith(prefix):
                    return retention
        return self._default

    async def close(self) -> None:
        """The server has ended."""
        await self.bus.close()

    # Called by the bus.

    def deliver(self, publication: Publication) -> int:
        """Give a publication to all members; return how many will get it."""
        topic = self._topics.get(publication.topic)
        if topic is None:
            return 0
        reached: int = topic.deliver(publication)
        self._delivered += reached
        return reached

    def miss(self, topic: str, messages: int) -> None:
        """Publications of a topic were lost on their way."""
        found = self._topics.get(topic)
        if found is not None:
            found.miss(messages)

    def miss_live(self, topic: str | None = None) -> None:
        """Publications of a topic, or of any, may have been lost on their way, if it has no
        history.
        """
        for name in tuple(self._topics) if topic is None else (topic,):
            if not self.retention(name).messages:
                self.miss(name, 1)  # at least

    def news(self, number: int) -> None:
        """Another worker has appended to the log, from that number on."""
        assert isinstance(self.bus, Bus)
        self.bus.news(number)

    def members(self, topic: str, exclude: object = None) -> int:
        """Return how many members a topic has here, without the excluded ones."""
        found = self._topics.get(topic)
        if found is None:
            return 0
        if exclude is None:
            return len(found.members)
        return sum(not member.is_excluded(exclude) for member in found.members)

    def numbers(self) -> dict[str, int]:
        """Return how many members each topic has here."""
        with self._guard:
            return {name: len(topic.members) for name, topic in self._topics.items()}

    def new_history(self) -> History:
        """The log of this server."""
        return History(self._wanted.memory, self._wanted.log)

    # Inside.

    def _check_loop(self) -> None:
        """Raises RuntimeError in the event loop of another thread, where topics may not be used."""
        if self.loop is not None and asyncio.get_running_loop() is not self.loop:
            raise RuntimeError(
                "topics belong to the event loop of the server: "
                "in a thread of its own call topics.publish_from_thread(...)"
            )

    async def _get_ready(self) -> None:
        await self.bus.ready()
        self._is_ready = True

    async def _enter(self, member: Member, topic: str, wishes: Wishes) -> Entered:
        """Join a topic; the history that was asked for comes before anything new."""
        self._check_loop()
        if not self._is_ready:
            await self._get_ready()
        holder = Holder()
        first = topic not in self._topics
        self._join(holder, topic)
        retention = self.retention(topic)
        recovery = Recovery([], False, None, None)
        try:
            await self.bus.follow(topic, first)
            with self._guard:
                if retention.messages and wishes.looks_back:
                    recovery = await self.bus.recover(topic, wishes.since, wishes.replay, retention)
                elif retention.messages:
                    # Messages until now were not asked for, and a broker may give older ones
                    # to fill a hole, which a client may have got elsewhere.
                    holder.publications.clear()
                    holder.gap = 0
                # There is no await from here on, so no message is missed, and none comes twice.
                return self._settle(member, topic, wishes, holder, recovery)
        finally:
            self.leave(holder)

    def _settle(
        self, member: Member, topic: str, wishes: Wishes, holder: Holder, recovery: Recovery
    ) -> Entered:
        """Let a member join behind its ``holder``, and give it what has come meanwhile."""
        recovered = None if wishes.since is None else recovery.complete
        # Not the topic's current position: a client that is cut off before these have come must
        # get them next time.
        entered = Entered(member, recovery.begin, recovered)
        self._join(member, topic)
        if wishes.envelope and isinstance(member, Socket):
            member.tell(notice(topic, **_begin(entered)))
        for publication in recovery.publications:
            member.take_old(publication)
        last = recovery.position
        for publication in holder.publications:
            is_new = last is None or self.bus.is_behind(topic, publication.position, last)
            if is_new and not member.is_excluded(publication.exclude):
                member.take(publication, publication.plain())
        if holder.gap:
            member.miss(holder.gap)
        return entered

    def _terms_of(self, wishes: Wishes) -> Terms:
        policy, max_bytes, envelope = wishes.policy, wishes.max_bytes, wishes.envelope
        closes_on_gap = wishes.on_gap == CLOSE
        terms = self._terms
        if (
            terms is None
            or (terms.policy, terms.max_bytes) != (policy, max_bytes)
            or (terms.envelope, terms.closes_on_gap) != (envelope, closes_on_gap)
        ):
            terms = self._terms = Terms(policy, max_bytes, envelope, closes_on_gap)
        return terms

    def _join(self, member: Member, name: str) -> None:
        with self._guard:
            topic = self._topics.get(name)
            if topic is None:
                if len(self._topics) >= MAX_TOPICS:
                    raise TopicError(f"a process may have {MAX_TOPICS} topics")
                topic = self._topics[name] = Topic(name, self)
            topic.join(member)
            self.bus.changed(name, len(topic.members))

    def leave(self, member: Member) -> None:
        """Let a member leave its topic; it may have left."""
        with self._guard:
            topic = member.topic
            if topic is None:
                return
            topic.leave(member)
            self._dropped += member.dropped
            if isinstance(member, Socket):
                _unchain(member)
            if not topic.members and self._topics.get(topic.name) is topic:
                del self._topics[topic.name]
            self.bus.changed(topic.name, len(topic.members))

    def on_slow(self, member: Socket) -> None:
        """Close a socket that does not read, once all others have their message."""
        self._closed += 1
        assert self.loop is not None
        self.loop.call_soon(close_slow, member)

    def on_loss(self, member: Socket) -> None:
        """Close a socket that is not to go on behind a gap; many of them in slices."""
        self._closed_on_gap += 1
        assert self.loop is not None
        if not self._ending:
            self.loop.call_soon(self._end_some)
        self._ending.append(member)

    def _end_some(self) -> None:
        for _ in range(min(len(self._ending), AT_ONCE)):
            close_for_loss(self._ending.popleft())
        if self._ending:
            assert self.loop is not None
            self.loop.call_soon(self._end_some)


def _unchain(member: Socket) -> None:
    """Take it out of the chain of its session."""
    before: Socket | None = None
    chained: Socket | None = member.session.subscribed
    while chained is not None and chained is not member:
        before, chained = chained, chained.behind
    if chained is member:
        if before is None:
            member.session.subscribed = member.behind
        else:
            before.behind = member.behind
    member.behind = None


def _begin(entered: Entered) -> dict[str, Any]:
    """The first message for a socket with envelopes."""
    values: dict[str, Any] = {"subscribed": True, "position": entered.position}
    if entered.recovered is not None:
        values["recovered"] = entered.recovered
    return values


def session_of(socket: Any) -> Session | None:
    """The session of a WebSocket that this server has, given it or its scope."""
    scope = getattr(socket, "scope", socket)
    if isinstance(scope, dict):
        extensions = scope.get("extensions")
        session = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
        if isinstance(session, Session):
            return session
    return None


def identity(socket: Any) -> object:
    """The object by which a WebSocket is known that must not get a message."""
    return session_of(socket) or socket


def _check(topic: str, wishes: Wishes) -> None:
    """Raises TopicError for impossible arguments."""
    _check_name(topic)
    checked(wishes.policy, wishes.max_bytes, wishes.on_gap)
    since, replay = wishes.since, wishes.replay
    if since is not None and not isinstance(since, str):
        raise TopicError(f"since must be a position (str) or None, got {since!r:.100}")
    if isinstance(replay, bool) or not isinstance(replay, int) or replay < 0:
        raise TopicError(f"replay must be an int that is not negative, got {replay!r:.50}")
    if since is not None and replay:
        raise TopicError("since and replay exclude each other")


def _subscribed_already(topic: str) -> TopicError:
    return TopicError(f"subscribe: this WebSocket has subscribed to {topic!r} already")


def _check_socket(session: Session, topic: str) -> None:
    """Raises TopicError if the WebSocket cannot subscribe to one more topic, this one.

    Raises ClientDisconnected if the client has left.
    """
    if session.link > FAILING:
        raise ClientDisconnected(f"the client is gone ({session.close_code})")
    if not session.is_accepted:
        raise TopicError("subscribe: the WebSocket must be accepted first")
    number = 0
    chained: Socket | None = session.subscribed
    while chained is not None:
        number += 1
        if chained.topic is not None and chained.topic.name == topic:
            raise _subscribed_already(topic)
        chained = chained.behind
    if number >= MAX_OF_SOCKET:
        raise TopicError(f"subscribe: a WebSocket may subscribe to {MAX_OF_SOCKET} topics")


def _made(
    topic: str, text: str | None, data: bytes | None, json: Any, key: str | None
) -> Publication:
    """The publication for a call of ``publish``."""
    _check_name(topic)
    if (text is not None) + (data is not None) + bool(json) != 1:
        raise TopicError("publish: expected exactly one of text=, bytes= and json=")
    if text is not None:
        if not isinstance(text, str):
            raise TopicError(f"publish: text must be a str, got {text!r:.100}")
        kind = TEXT
        try:
            payload = text.encode()
        except UnicodeEncodeError:
            raise TopicError("text must be encodable in UTF-8 (no lone surrogates)") from None
    elif data is not None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TopicError(f"publish: bytes must be bytes, got {data!r:.100}")
        kind = BYTES
        payload = bytes(data)
    else:
        kind = JSON
        payload = to_json(json[0])
    if len(payload) > MAX_MESSAGE:
        raise TopicError(f"publish: a message may have {MAX_MESSAGE} bytes, not {len(payload)}")
    if key is not None:
        _check_name(key)
    return Publication(topic, kind, payload, key)
