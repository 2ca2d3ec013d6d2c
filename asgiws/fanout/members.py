"""A topic and its members: the loop over all that get a message, and the sockets among them.

A socket of asgiws gets the frame from here, beside what its application sends. A socket that
does not read has a backlog; it costs the others nothing.
"""

from __future__ import annotations

from typing import Final, Protocol

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..log import error_log
from ..websocket.session import Session
from ..websocket.states import FULL, GONE, TAKEN
from ..wire.errors import SERVICE_RESTART, TRY_AGAIN_LATER
from ..wire.prepared import Prepared
from .backlog import Backlog
from .message import Publication, notice

LOST: Final = "messages were lost"  # why a socket is closed


class Owner(Protocol):
    """The owner of all topics: the interface that a topic and its members use."""

    def leave(self, member: Member) -> None:
        """Let a member leave its topic; it may have left."""

    def on_slow(self, member: Socket) -> None:
        """A socket has to be closed because it does not read."""

    def on_loss(self, member: Socket) -> None:
        """A socket has to be closed because messages were lost before they came here."""


class Member:
    """A subscriber that gets the messages of one topic.

    There may be a hundred thousand of them, so each attribute counts.
    """

    __slots__ = ("_dropped", "_index", "found", "topic")

    def __init__(self) -> None:
        #: None before it has joined, and once it has left
        self.topic: Topic | None = None
        self._index = -1  # where it stands in the topic's list
        self._dropped = 0
        #: the history that was found when it joined, if any
        self.found: object = None

    @property
    def dropped(self) -> int:
        """The number of messages that it has missed."""
        return 0

    def take(self, publication: Publication, plain: Prepared) -> cython.bint:
        """Get a message, ``plain`` if it is sent as it is; return whether it is on its way."""
        raise NotImplementedError

    def take_old(self, publication: Publication) -> None:
        """Get a message of the history, even if the backlog is full: the history is bounded."""
        raise NotImplementedError

    def is_excluded(self, exclude: object) -> cython.bint:
        """Return whether ``exclude`` means this one."""
        return False

    def miss(self, messages: int) -> None:
        """That number of messages were lost on their way to this process."""
        raise NotImplementedError

    def leave(self) -> None:
        """Leave the topic, if it has not left."""
        if self.topic is not None:
            self.topic.owner.leave(self)

    def on_leave(self) -> None:
        """It has left its topic."""


class Topic:
    """All members of one topic in this process, in no order."""

    __slots__ = ("members", "name", "owner")

    def __init__(self, name: str, owner: Owner) -> None:
        self.name = name
        self.owner = owner
        self.members: list[Member] = []

    def join(self, member: Member) -> None:
        """Add a member; it is in no topic."""
        member.topic = self
        member._index = len(self.members)
        self.members.append(member)

    def leave(self, member: Member) -> None:
        """Take a member out; it is in this topic."""
        members: list[Member] = self.members
        last: Member = members[len(members) - 1]
        # The last one takes its place: no list has to be moved.
        members[member._index] = last
        last._index = member._index
        members.pop()
        member.topic = None
        member._index = -1
        member.on_leave()

    def deliver(self, publication: Publication) -> cython.Py_ssize_t:
        """Give a message to all members; return how many will get it."""
        plain: Prepared = publication.plain()
        exclude: object = publication.exclude
        reached: cython.Py_ssize_t = 0
        member: Member
        members: list[Member] = self.members
        for member in members:
            if exclude is not None and member.is_excluded(exclude):
                continue
            try:
                if member.take(publication, plain):
                    reached += 1
            except Exception as exc:
                error_log.error("Exception in a delivery", exc_info=exc)
        return reached

    def miss(self, messages: int) -> None:
        """Tell all members that this number of messages were lost."""
        for member in tuple(self.members):
            member.miss(messages)


class Terms:
    """The wishes of sockets for their messages; one object for all with the same wishes."""

    __slots__ = ("closes_on_gap", "envelope", "max_bytes", "policy")

    def __init__(self, policy: str, max_bytes: int, envelope: bool, closes_on_gap: bool) -> None:
        self.policy = policy
        self.max_bytes = max_bytes
        self.envelope = envelope
        self.closes_on_gap = closes_on_gap


class Socket(Member):
    """A WebSocket of this server, subscribed to one topic.

    All of one session are chained by ``behind``, so that none needs a list.
    """

    __slots__ = ("_backlog", "_terms", "behind", "session")

    def __init__(self, session: Session, terms: Terms) -> None:
        super().__init__()
        self.session = session
        self.behind: Socket | None = None
        self._terms = terms
        self._backlog: Backlog | None = None

    @property
    def dropped(self) -> int:
        # Those that the backlog counts are not in ``_dropped``.
        return self._dropped + (0 if self._backlog is None else self._backlog.dropped)

    def take(self, publication: Publication, plain: Prepared) -> cython.bint:
        outcome: cython.int
        if self._backlog is None:
            if self._terms.envelope:
                plain = publication.enveloped()
            outcome = self.session.offer(plain)
            if outcome == TAKEN:
                return True
            if outcome == GONE:
                return False
            self._wait()
        return self._keep(publication)

    def take_old(self, publication: Publication) -> None:
        if self._backlog is None:
            if self.session.offer(self._message(publication)) != FULL:
                return
            self._wait()
        assert self._backlog is not None
        self._backlog.keep(publication)

    def is_excluded(self, exclude: object) -> cython.bint:
        return exclude is self.session

    def miss(self, messages: int) -> None:
        if self._terms.closes_on_gap:
            self._end_for(messages)
            return
        if self._backlog is None:
            # Without an envelope the client cannot be told.
            if not self._terms.envelope or self._tell(messages):
                self._dropped += messages
                return
            self._wait()
        assert self._backlog is not None
        self._backlog.miss(messages)

    def tell(self, message: Prepared) -> None:
        """Send a notice, before any message of the topic."""
        self.session.offer(message)

    def writable(self) -> None:
        """The transport takes more: called of the first in the chain."""
        member: Socket | None = self
        while member is not None:
            if member._backlog is not None:
                member._flush()
            member = member.behind

    def ended(self) -> None:
        """Nothing can be sent any more: called of the first in the chain."""
        member: Socket | None = self
        self.session.subscribed = None
        while member is not None:
            behind: Socket | None = member.behind
            member.behind = None
            member.leave()
            member = behind

    def on_leave(self) -> None:
        if self._backlog is not None:
            self._dropped += self._backlog.dropped + len(self._backlog)
            self._backlog = None

    def _wait(self) -> None:
        """From now on messages wait."""
        self._backlog = Backlog(self._terms.policy, self._terms.max_bytes)

    def _message(self, publication: Publication) -> Prepared:
        return publication.enveloped() if self._terms.envelope else publication.plain()

    def _keep(self, publication: Publication) -> bool:
        """Keep a message that has to wait."""
        backlog = self._backlog
        assert backlog is not None
        if not backlog.is_over:
            if backlog.put(publication):
                return True
            # Only once, and not now, because this runs in a loop over all members.
            assert self.topic is not None
            self.topic.owner.on_slow(self)
            backlog.is_over = True
        backlog.miss(1)
        return False

    def _end_for(self, messages: int) -> None:
        """Close it because that number were lost; until then no message comes behind them."""
        if self._backlog is None:
            self._wait()
        backlog = self._backlog
        assert backlog is not None
        if not backlog.is_over:
            backlog.is_over = True
            assert self.topic is not None
            self.topic.owner.on_loss(self)
        backlog.miss(messages)

    def _flush(self) -> None:
        """Send what has waited, as far as the transport takes it."""
        backlog = self._backlog
        assert backlog is not None
        while (entry := backlog.first()) is not None:
            if entry.gap and self._terms.envelope and not self._tell(entry.gap):
                return
            entry.gap = 0
            if self.session.offer(self._message(entry.publication)) == FULL:
                return
            backlog.take()
        if backlog.is_over:
            return  # no message may come behind those that are missing
        gap = backlog.gap()
        if gap and self._terms.envelope and not self._tell(gap):
            backlog.miss(gap)
            backlog.dropped -= gap  # they were counted then
            return
        self._dropped += backlog.dropped
        self._backlog = None

    def _tell(self, gap: int) -> bool:
        """Tell the client how many messages it has missed; return whether that is on its way."""
        assert self.topic is not None
        return bool(self.session.offer(notice(self.topic.name, gap=gap)) != FULL)


def close_slow(member: Socket) -> None:
    """Close a socket that does not read, with 1013."""
    member.session.shutdown(TRY_AGAIN_LATER, "too slow")


def close_for_loss(member: Socket) -> None:
    """End the connection of one that is to come back and recover (close code 1012)."""
    member.session.shutdown(SERVICE_RESTART, LOST)
