"""Who knows every message: what was published, and what each subscriber has seen of it.

A publisher numbers its messages in each topic and publishes one after the other, so whoever
has seen number 5 and then number 8 of it has missed 6 and 7, unless these have failed. A
subscriber may miss some only where it is told so: by a gap, or by ``recovered=False``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from .topics import RETENTION, is_kept

FAILED: Final = -1.0  # instead of the time when a publication had been taken
NEVER: Final = float("inf")
MOST_VIOLATIONS: Final = 100
RETIRED_SECONDS: Final = 90.0  # after its last message nobody waits for a publisher's
KILLED_SECONDS: Final = 2.0  # what was published so shortly before a SIGKILL may be lost with it


class Publisher:
    """What one publisher has published to one topic."""

    __slots__ = ("begun", "ended", "excluded", "pid")

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []  # 0.0 until it is known
        self.excluded: set[int] = set()  # numbers that do not come to who has published them
        self.pid = 0  # of the worker, where it is known


class Ledger:
    """All that was published."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Publisher]] = {}
        self.lively: dict[str, dict[str, Publisher]] = {}  # those that have published lately
        self.killed: dict[int, float] = {}  # workers that were killed, and when
        self.published = 0
        self.failed: Counter[str] = Counter()  # by topic
        self.times: dict[str, list[float]] = {}  # when something was published, in each topic

    def begin(
        self, topic: str, publisher: str, number: int, now: float, excluded: bool = False
    ) -> None:
        """It is about to publish that number."""
        found = self.topics.setdefault(topic, {}).get(publisher)
        if found is None:
            found = self.topics[topic][publisher] = Publisher()
            self.lively.setdefault(topic, {})[publisher] = found
        assert len(found.begun) == number, (topic, publisher, number, len(found.begun))
        found.begun.append(now)
        found.ended.append(0.0)
        if excluded:
            found.excluded.add(number)
        self.times.setdefault(topic, []).append(now)

    def done(self, topic: str, publisher: str, number: int, now: float, pid: int = 0) -> None:
        """It was published."""
        found = self.topics[topic][publisher]
        found.ended[number] = now
        found.pid = pid
        self.published += 1

    def fail(self, topic: str, publisher: str, number: int) -> None:
        """Nobody knows whether it was published."""
        self.topics[topic][publisher].ended[number] = FAILED
        self.failed[topic] += 1

    def since(self, topic: str, seconds: float) -> int:
        """Return how many messages of a topic were published since."""
        times = self.times.get(topic, [])
        return len(times) - bisect_right(times, seconds)

    def retire(self, now: float) -> None:
        """Forget those that have said nothing for a long time."""
        for topic, publishers in self.lively.items():
            self.lively[topic] = {
                name: publisher
                for name, publisher in publishers.items()
                if publisher.begun[-1] > now - RETIRED_SECONDS
            }


class Event(NamedTuple):
    """What a subscriber has seen: its kind, when, and the rest."""

    kind: str  # open, hello, message, gap, end
    seconds: float
    values: tuple[Any, ...] = ()


class Rules(NamedTuple):
    """What a subscriber asked for, as far as the checker must know."""

    topic: str
    policy: str = "close"
    told: bool = True  # gaps are told where they are: an envelope, or server-sent events
    slow: bool = False
    replay: bool = False


class Stream:
    """One subscriber: its connections, one after the other, and what came over them."""

    def __init__(self, checker: Checker, name: str, rules: Rules) -> None:
        self.name = name
        self.rules = rules
        self.events: deque[Event] = deque()
        self._checker = checker
        # The last number of each publisher: over all connections, and over this one.
        self._ever: dict[str, int] = {}
        self._here: dict[str, int] = {}
        self._offset = ("", -1)
        self._recent: deque[str] = deque(maxlen=12)
        self._index = 0
        self.is_open = False
        self.connection = ""
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """From here on a new account: nothing is owed of what was before."""
        self.begun = now
        self.owed = NEVER  # what was published from then on must come
        self.last: dict[str, tuple[int, int]] = {}  # publisher: number, and where that came
        self.missing = 0
        self.told = 0
        self._gap_at = -1
        self._unread = True  # nothing has come yet

    def add(self, kind: str, seconds: float, *values: Any) -> None:
        """It has seen something; it is looked at later."""
        self.events.append(Event(kind, seconds, values))

    # What is looked at, once the ledger knows all that was published before.

    def look(self, event: Event) -> None:
        self._index += 1
        self._recent.append(f"{event.seconds:.3f} {event.kind} {event.values!r:.120}")
        if event.kind == "message":
            self._message(event.seconds, *event.values)
        elif event.kind == "open":
            self._open(event.seconds, *event.values)
        elif event.kind == "hello":
            if self.owed == NEVER:
                self.owed = event.seconds
                self._recent.append(f"in {event.values}")
        elif event.kind == "gap":
            self.told += event.values[0]
            self._gap_at = self._index
            self._checker.counts["told as missing"] += event.values[0]
        elif event.kind == "said":
            self._said(*event.values)
        elif event.kind == "end":
            self._end(event.seconds, *event.values)

    def _open(
        self,
        now: float,
        connection: str,
        since: tuple[str, float] | None,
        recovered: bool | None,
    ) -> None:
        """A connection begins. ``since`` is a position, and when that message was published."""
        checker = self._checker
        self.is_open = True
        self.connection = connection
        self._here = {}
        if since is not None and recovered is None:
            self.violate("was not told whether all was recovered")
        if recovered:
            checker.counts["recovered"] += 1
            return
        if since is not None:
            checker.counts["not recovered"] += 1
            messages, seconds = RETENTION[self.rules.topic.partition(":")[0] + ":"]
            away = now - since[1]
            later = checker.ledger.since(self.rules.topic, since[1])
            if away < seconds / 2 and later < messages / 2 and not checker.was_disturbed(since[1]):
                self.violate(f"not recovered after {away:.1f} s and {later} messages")
        self._begin(now)

    def _message(
        self, now: float, publisher: str, number: int, published: float, position: str | None
    ) -> None:
        checker = self._checker
        checker.counts["delivered"] += 1
        topic = self.rules.topic
        known = checker.ledger.topics.get(topic, {}).get(publisher)
        if known is None or number >= len(known.begun):
            self.violate(f"got {publisher} {number}, which nobody has published")
            return
        if number in known.excluded and publisher == f"ws-{self.connection}":
            self.violate(f"got {publisher} {number}, from which it was excluded")
        ever = self._ever.get(publisher, -1)
        if not is_kept(topic) and published < self.begun:
            # A worker that was late may give it to a client that had it from another one.
            ever = self._here.get(publisher, -1)
        if number <= ever:
            what = "twice" if number == ever else "twice or out of order"
            self.violate(f"got {publisher} {number} {what}, behind {ever}")
            return
        self._here[publisher] = number
        self._ever[publisher] = max(number, self._ever.get(publisher, -1))
        if position is not None:
            self._position(position, publisher, number)
        elif is_kept(topic) and self.rules.told:
            self.violate(f"got {publisher} {number} without a position")
        if self.rules.replay and self._unread:
            self._newest(publisher, number)
        self._unread = False
        missing = self._between(publisher, known, number)
        if missing:
            self._miss(publisher, missing, number)
        self.last[publisher] = number, self._index
        if not self.rules.slow:
            checker.latencies.append(now - published)

    def _position(self, position: str, publisher: str, number: int) -> None:
        epoch, _, offset = position.partition(":")
        before = self._offset
        if before[0] == epoch and int(offset) <= before[1]:
            self.violate(f"got position {position} behind {before[0]}:{before[1]}")
        self._offset = epoch, int(offset)
        self._checker.epochs.add(epoch)
        same = self._checker.positions.setdefault(position, (self.rules.topic, publisher, number))
        if same != (self.rules.topic, publisher, number):
            self.violate(f"got {publisher} {number} at {position}, where others got {same}")

    def _newest(self, publisher: str, number: int) -> None:
        """A topic that keeps its latest message: no newer one was there when it subscribed."""
        known = self._checker.ledger.topics[self.rules.topic][publisher]
        for later in range(number + 1, len(known.ended)):
            if 0 < known.ended[later] < self.begun:
                self.violate(f"got {publisher} {number} as the latest, but {later} was there")

    def _first(self, known: Publisher, publisher: str) -> int:
        """The number that must come next from a publisher."""
        last = self.last.get(publisher)
        return bisect_right(known.begun, self.owed) if last is None else last[0] + 1

    def _between(self, publisher: str, known: Publisher, number: int) -> list[int]:
        """The numbers that should have come before this one."""
        own = publisher.startswith(f"ws-{self.name}.")  # also if it comes back by another one
        return [
            each
            for each in range(self._first(known, publisher), number)
            if known.ended[each] > 0 and not (own and each in known.excluded)
        ]

    def _miss(self, publisher: str, missing: list[int], until: int) -> None:
        self.missing += len(missing)
        self._checker.counts["missing"] += len(missing)
        rules = self.rules
        if rules.told and rules.policy != "latest":
            last = self.last.get(publisher)
            if self._gap_at <= (-1 if last is None else last[1]):
                known = self._checker.ledger.topics[rules.topic][publisher]
                self.violate(
                    f"{publisher} {missing} never came before {until}, and no gap "
                    f"(published from {known.begun[missing[0]]:.3f}, owed from {self.owed:.3f})"
                )

    def _said(self, publisher: str, number: int) -> None:
        """Its own message was published, and not excluded: it came before it was told so."""
        if self._checker.is_local and self._ever.get(publisher, -1) < number and not self.told:
            self.violate(f"its own {publisher} {number} came later than what was sent then")

    def _end(self, now: float, how: str) -> None:
        self.is_open = False
        self._checker.counts[f"ended: {how}"] += 1
        if self.rules.told:
            self.settle(self.told)
        else:
            # The application tells how many it was, if it is not killed.
            self._checker.accounts[self.connection] = self, self.missing, self.begun

    def settle(self, told: int) -> None:
        """An account ends: what was told is what is missing, no more and no less."""
        if self._checker.was_disturbed(self.begun):
            return  # then "at least one" is told
        if self.missing > told:
            self.violate(f"{self.missing} are missing, and {told} were told")
        tail = 0
        ledger = self._checker.ledger
        for publisher, known in ledger.topics.get(self.rules.topic, {}).items():
            last = self.last.get(publisher)
            first = bisect_right(known.begun, self.begun - 5.0) if last is None else last[0] + 1
            tail += len(known.begun) - first
        failed = ledger.failed[self.rules.topic]
        if told > self.missing + tail + failed:
            self.violate(
                f"{told} were told as missing, and only {self.missing}, or {tail + failed} "
                "more, can be"
            )

    def wait_for(self, now: float, seconds: float) -> int:
        """All that was published so long ago must have come; how much has not, and may be late.

        With 0 seconds nothing is said about what has not.
        """
        late = 0
        if not self.is_open or self.owed == NEVER:
            return 0
        ledger = self._checker.ledger
        for publisher, known in ledger.lively.get(self.rules.topic, {}).items():
            last = self.last.get(publisher)
            top = len(known.ended) - 1
            while top >= 0 and not 0 < known.ended[top] < now - seconds:
                top -= 1
            missing = self._between(publisher, known, top + 1)
            if not missing:
                continue
            killed = NEVER if self._checker.is_local else ledger.killed.get(known.pid, NEVER)
            if not is_kept(self.rules.topic) and known.ended[missing[0]] > killed - KILLED_SECONDS:
                self._checker.counts["lost with a killed worker"] += len(missing)
                self.last[publisher] = top, self._index
            elif self._gap_at > (-1 if last is None else last[1]) or not self.rules.told:
                if seconds:
                    self.missing += len(missing)
                    self._checker.counts["missing"] += len(missing)
                    # That gap may be about those that are due a moment later, too.
                    self.last[publisher] = top, -1 if last is None else last[1]
            elif seconds:
                self.violate(
                    f"{publisher} {missing[:20]} have not come for {seconds:g} s "
                    f"(published at {known.ended[missing[0]]:.3f})"
                )
                self.last[publisher] = top, self._index
            else:
                late += len(missing)
        return late

    def violate(self, what: str) -> None:
        self._checker.violate(f"{self.name} {self.rules}: {what}", self._recent)


class Checker:
    """All subscribers, and the verdict."""

    def __init__(self, patience: float, is_local: bool = True) -> None:
        """``patience``: seconds after which what was published has come to whoever reads.
        ``is_local``: there is no broker. So who publishes gets its own message before anything
        it sends afterwards, and what is lost with a killed worker is told.
        """
        self.patience = patience
        self.is_local = is_local
        self.ledger = Ledger()
        self.streams: dict[str, Stream] = {}
        self.counts: Counter[str] = Counter()
        self.epochs: set[str] = set()
        self.positions: dict[str, tuple[str, str, int]] = {}
        self.latencies: list[float] = []
        self.violations: list[str] = []
        # Of subscribers that are told of no gaps, by connection: how many they have missed, and
        # how many the application was told.
        self.accounts: dict[str, tuple[Stream, int, float]] = {}
        self.dropped: dict[str, int] = {}
        self._disturbed: list[float] = []

    def stream(self, name: str, rules: Rules) -> Stream:
        """A new subscriber."""
        stream = self.streams[name] = Stream(self, name, rules)
        return stream

    def forget(self, name: str) -> None:
        """It never comes back; what it has seen has been looked at."""
        del self.streams[name]

    def disturb(self, now: float) -> None:
        """Something was done to a process: then losses may be told as "at least one"."""
        self._disturbed.append(now)

    def was_disturbed(self, since: float) -> bool:
        """Return whether that was so since then, or shortly before."""
        return bool(self._disturbed) and self._disturbed[-1] > since - 2 * self.patience

    def pending(self) -> list[tuple[Stream, list[Event]]]:
        """What was seen and not looked at; the ledger is to be brought up to date then."""
        taken = []
        for stream in self.streams.values():
            events = list(stream.events)
            stream.events.clear()
            taken.append((stream, events))
        return taken

    def look(self, pending: list[tuple[Stream, list[Event]]], now: float) -> None:
        """Look at all of it, and at what has not come."""
        for stream, events in pending:
            for event in events:
                stream.look(event)
        for stream in self._waiting():
            stream.wait_for(now, self.patience)
        for connection in self.accounts.keys() & self.dropped.keys():
            stream, missing, begun = self.accounts.pop(connection)
            dropped = self.dropped.pop(connection)
            if missing > dropped and not self.was_disturbed(begun):
                stream.violate(f"{connection}: {missing} are missing, and {dropped} were dropped")
        self.ledger.retire(now)

    def late(self, now: float) -> int:
        """Return how many messages are still on their way."""
        return sum(stream.wait_for(now, 0.0) for stream in self.streams.values())

    def _waiting(self) -> Iterator[Stream]:
        return (stream for stream in self.streams.values() if not stream.rules.slow)

    def violate(self, what: str, recent: Iterable[str] = ()) -> None:
        """Something that may not be has been seen."""
        self.counts["VIOLATIONS"] += 1
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append("\n    ".join((what, *recent)))
