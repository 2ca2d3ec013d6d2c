"""What a slow subscriber has not taken: the bound, the policies, and where something is missing."""

from __future__ import annotations

import pytest

from asgiws.errors import TopicError
from asgiws.fanout.backlog import OVERHEAD, Backlog, checked
from asgiws.fanout.message import TEXT, Publication

ROOM = 3 * (OVERHEAD + 1)  # for three messages of one byte


def put(backlog: Backlog, text: str, key: str | None = None) -> bool:
    return backlog.put(Publication("a", TEXT, text.encode(), key))


def taken(backlog: Backlog) -> list[tuple[str, int]]:
    entries = []
    while backlog:
        entry = backlog.take()
        entries.append((entry.publication.payload.decode(), entry.gap))
    return entries


def test_what_fits_is_kept_in_order() -> None:
    backlog = Backlog("close", ROOM)
    assert all(put(backlog, text) for text in "123")
    assert not put(backlog, "4")
    assert taken(backlog) == [("1", 0), ("2", 0), ("3", 0)]


def test_the_oldest_are_dropped_and_the_first_that_is_left_tells() -> None:
    backlog = Backlog("drop_oldest", ROOM)
    for text in "12345":
        assert put(backlog, text)
    assert backlog.dropped == 2
    assert taken(backlog) == [("3", 2), ("4", 0), ("5", 0)]


def test_the_newest_are_dropped_and_the_next_that_fits_tells() -> None:
    backlog = Backlog("drop_newest", ROOM)
    for text in "12345":
        assert put(backlog, text)
    backlog.take()
    put(backlog, "6")
    assert backlog.dropped == 2
    assert taken(backlog) == [("2", 0), ("3", 0), ("6", 2)]


def test_of_those_with_one_key_the_latest_is_kept() -> None:
    backlog = Backlog("latest", ROOM)
    for text, key in (("1", "x"), ("2", "y"), ("3", "x"), ("4", "x"), ("5", None)):
        put(backlog, text, key)
    assert backlog.dropped == 2
    assert taken(backlog) == [("2", 0), ("4", 2), ("5", 0)]


def test_what_is_sent_again_is_whole_whatever_the_keys_are() -> None:
    backlog = Backlog("latest", ROOM)
    for text, key in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")):
        backlog.keep(Publication("t", TEXT, text.encode(), key))
    for _ in range(4):
        backlog.take()
    assert not backlog
    # And nothing of it counts any more: three fit.
    for text in "567":
        put(backlog, text, text)
    assert taken(backlog) == [("5", 0), ("6", 0), ("7", 0)]
    backlog.keep(Publication("t", TEXT, b"8", "a"))
    put(backlog, "9", "a")
    assert taken(backlog) == [("8", 0), ("9", 0)]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_a_message_that_never_fits_is_missing_and_what_waits_stays(policy: str) -> None:
    backlog = Backlog(policy, ROOM)
    put(backlog, "1")
    assert put(backlog, "x" * ROOM)
    assert put(backlog, "2")
    assert taken(backlog) == [("1", 0), ("2", 1)]


def test_what_is_missing_behind_all_is_told_once() -> None:
    backlog = Backlog("drop_newest", ROOM)
    backlog.miss(3)
    assert backlog.gap() == 3
    assert backlog.gap() == 0
    assert backlog.dropped == 3


@pytest.mark.parametrize(("policy", "size"), [("none", 1), ("close", 0), ("close", True)])
def test_what_does_not_exist_is_refused(policy: str, size: int) -> None:
    with pytest.raises(TopicError, match="must be"):
        checked(policy, size)
