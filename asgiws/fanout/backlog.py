"""The messages that a subscriber has not taken yet: bounded, with a policy for the excess.

A gap is told with the message behind it, as the number of messages that are missing just there.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ..errors import TopicError
from .message import Publication

CLOSE: Final = "close"
DROP_OLDEST: Final = "drop_oldest"
DROP_NEWEST: Final = "drop_newest"
LATEST: Final = "latest"

POLICIES: Final = (CLOSE, DROP_OLDEST, DROP_NEWEST, LATEST)

TELL: Final = "tell"
ON_GAP: Final = (TELL, CLOSE)  # what becomes of a socket when messages are lost on their way

MAX_BYTES: Final = 1_048_576  # the default of the bound

# The cost of a message beside its payload, so that empty messages are bounded, too.
OVERHEAD: Final = 256


def checked(policy: str, max_bytes: int, on_gap: str = TELL) -> None:
    """Raises TopicError for a policy or a bound that does not exist."""
    if on_gap not in ON_GAP:
        raise TopicError(f"on_gap must be one of {', '.join(ON_GAP)}, got {on_gap!r:.50}")
    if policy not in POLICIES:
        raise TopicError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r:.50}")
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise TopicError(f"max_bytes must be a positive int, got {max_bytes!r:.50}")


class Entry:
    """A message that waits, and how many are missing before it."""

    __slots__ = ("gap", "publication")

    def __init__(self, publication: Publication, gap: int) -> None:
        self.publication = publication
        self.gap = gap


class Backlog:
    """The messages that wait for one subscriber, at most ``max_bytes`` of them."""

    __slots__ = (
        "_entries",
        "_gap",
        "_max_bytes",
        "_number",
        "_policy",
        "_size",
        "dropped",
        "is_over",
    )

    def __init__(self, policy: str, max_bytes: int) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._entries: OrderedDict[object, Entry] = OrderedDict()
        self._number = 0
        self._size = 0
        self._gap = 0  # messages that are missing behind the last entry
        #: the number of messages that were dropped
        self.dropped = 0
        #: for its owner: the policy is to close, and no message may be put here any more
        self.is_over = False

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, publication: Publication) -> bool:
        """Keep a message; return False if there is no room, and the policy is to close."""
        room = self._max_bytes - publication.size - OVERHEAD
        if self._policy == LATEST and publication.key is not None:
            superseded = self._entries.pop((publication.key,), None)
            if superseded is not None:
                self._size -= superseded.publication.size + OVERHEAD
                self.miss(superseded.gap + 1)
                self.dropped -= superseded.gap  # they were counted then
        if self._size > room:
            if self._policy == CLOSE:
                return False
            if self._policy == DROP_NEWEST or room < 0:
                self.miss(1)
                return True
            while self._size > room:
                self._drop_first()
        if self._policy == LATEST and publication.key is not None:
            self._add((publication.key,), publication)
        else:
            self.keep(publication)
        return True

    def keep(self, publication: Publication) -> None:
        """Keep a message, even if the backlog is full or the same key comes later."""
        self._number += 1
        self._add(self._number, publication)

    def _add(self, name: object, publication: Publication) -> None:
        self._entries[name] = Entry(publication, self._gap)
        self._gap = 0
        self._size += publication.size + OVERHEAD

    def miss(self, messages: int) -> None:
        """That number of messages, which should come now, are lost."""
        self.dropped += messages
        self._gap += messages

    def first(self) -> Entry | None:
        """The entry to be taken next; it stays until ``take``."""
        return next(iter(self._entries.values()), None)

    def take(self) -> Entry:
        """Take it."""
        _, entry = self._entries.popitem(last=False)
        self._size -= entry.publication.size + OVERHEAD
        return entry

    def gap(self) -> int:
        """Return how many messages are missing behind all that wait; they count as told now."""
        gap, self._gap = self._gap, 0
        return gap

    def _drop_first(self) -> None:
        """Drop the oldest; the one behind it tells the gap."""
        entry = self.take()
        self.dropped += 1
        behind = self.first()
        if behind is None:
            self._gap += entry.gap + 1
        else:
            behind.gap += entry.gap + 1
