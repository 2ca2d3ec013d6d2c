"""The bus of one machine: order, recovery, and another process that holds the log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from asgiws.errors import BusUnavailable, TopicError
from asgiws.fanout import bus as module
from asgiws.fanout.bus import Bus
from asgiws.fanout.history import SMALLEST, History, Retention, begin_log
from asgiws.fanout.message import TEXT, Publication
from asgiws.process.descriptors import memory_file

KEPT = Retention(10, 60.0)


class Held(History):
    """A log that another process appends to, so many times."""

    times = 3

    def append(self, *arguments: object) -> int | None:
        self.times -= 1
        return None if self.times >= 0 else super().append(*arguments)  # type: ignore[arg-type]


class Hub:
    """What a bus has told its hub."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.got: list[Publication] = []
        self.missed: list[str] = []

    def deliver(self, publication: Publication) -> int:
        self.got.append(publication)
        return 1

    def miss(self, topic: str, messages: int) -> None:
        self.missed.append(topic)

    def retention(self, topic: str) -> Retention:
        return KEPT

    def numbers(self) -> dict[str, int]:
        return {"a": 1, "quiet": 1}

    def new_history(self) -> History:
        return self.history


def local(history: History) -> tuple[Bus, Hub]:
    hub = Hub(history)
    return Bus(hub, None, None), hub


async def test_a_publication_waits_for_another_process_that_appends() -> None:
    bus, hub = local(Held(SMALLEST))
    assert await bus.publish(Publication("a", TEXT, b"x"), KEPT) == 1
    assert [publication.payload for publication in hub.got] == [b"x"]


async def test_a_publication_that_is_not_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPEND_SECONDS", 0.01)
    history = Held(SMALLEST)
    history.times = 10**9
    bus, _ = local(history)
    with pytest.raises(BusUnavailable, match="not published"):
        await bus.publish(Publication("a", TEXT, b"x"), KEPT)


@pytest.fixture
def shared() -> Iterator[int]:
    fd = memory_file()
    begin_log(fd, SMALLEST)
    yield fd
    os.close(fd)


def append(history: History, topic: str, text: bytes) -> int | None:
    return history.append(topic, TEXT, None, text, lambda _: KEPT)


async def test_what_others_append_is_delivered_in_order(shared: int) -> None:
    other = History(SMALLEST, shared)
    append(other, "a", b"old")
    bus, hub = local(History(SMALLEST, shared))
    await bus.follow("a", True)
    for text in (b"1", b"2"):
        append(other, "a", text)
    bus.catch_up()
    assert [publication.payload for publication in hub.got] == [b"1", b"2"]
    assert bus.is_behind("a", hub.got[1].position, hub.got[0].position)


async def test_only_topics_that_have_lost_something_are_told_so(shared: int) -> None:
    other = History(SMALLEST, shared)
    bus, hub = local(History(SMALLEST, shared))
    await bus.follow("a", True)
    append(other, "a", b"lost")
    for number in range(1_000):
        append(other, "noise" if number < 999 else "a", b"x" * 200)
    bus.catch_up()
    assert "a" in hub.missed
    hub.missed.clear()
    # Nothing is known of a topic whose last message is gone; of this one it is there.
    append(other, "quiet", b"there")
    bus.catch_up()
    for _ in range(100):
        append(other, "noise", b"x" * 200)
    bus.catch_up()
    assert hub.missed == []


async def test_the_latest_message_of_a_topic_comes_also_if_it_was_written_again(
    shared: int,
) -> None:
    other = History(SMALLEST, shared)
    bus, hub = local(History(SMALLEST, shared))
    await bus.follow("a", True)
    append(other, "a", b"seen")
    bus.catch_up()

    def retention(topic: str) -> Retention:
        return Retention(1, 60.0) if topic == "a" else KEPT

    other.append("a", TEXT, None, b"latest", retention)
    for _ in range(700):
        other.append("noise", TEXT, None, b"x" * 200, retention)
    bus.catch_up()
    bus.catch_up()
    got = [publication.payload for publication in hub.got if publication.topic == "a"]
    assert got == [b"seen", b"latest"]
    assert "a" not in hub.missed
    other.append("a", TEXT, None, b"next", retention)
    bus.catch_up()
    assert hub.got[-1].payload == b"next"


async def test_a_gap_is_told_where_it_is(shared: int) -> None:
    other = History(SMALLEST, shared)
    history = History(SMALLEST, shared)
    bus, hub = local(history)
    told: list[object] = []
    hub.deliver = lambda publication: told.append(publication.payload) or 1  # type: ignore
    hub.miss = lambda topic, messages: told.append(topic)  # type: ignore[assignment]
    await bus.follow("a", True)
    append(other, "a", b"before")
    history.advance()
    append(other, "a", b"lost")
    for number in range(1_000):
        append(other, "noise" if number < 999 else "a", b"x" if number == 999 else b"x" * 200)
    bus.catch_up()
    assert [each for each in told if each in (b"before", "a", b"x")] == [b"before", "a", b"x"]


async def test_news_of_a_log_that_was_not_looked_into_yet_loses_nothing(shared: int) -> None:
    other = History(SMALLEST, shared)
    append(other, "a", b"old")
    bus, hub = local(History(SMALLEST, shared))
    number = append(other, "a", b"new")
    assert number is not None
    bus.news(number)
    assert [publication.payload for publication in hub.got] == [b"new"]


async def test_a_long_log_is_looked_at_with_pauses(shared: int) -> None:
    other = History(SMALLEST, shared)
    for _ in range(600):
        append(other, "a", b"")
    bus, _ = local(History(SMALLEST, shared))
    looking = asyncio.ensure_future(bus.follow("a", True))
    await asyncio.sleep(0)
    assert not looking.done()
    await looking


async def test_a_message_that_is_too_large_for_the_log_is_refused_and_the_largest_fits() -> None:
    history = History(SMALLEST)
    bus, _ = local(history)
    most = history.largest - module.MOST_WORDS
    for _ in range(10):
        assert await bus.publish(Publication("a", TEXT, b"x" * most), KEPT) == 1
    with pytest.raises(TopicError, match=f"may have {most} bytes"):
        await bus.publish(Publication("a", TEXT, b"x" * (most + 1)), KEPT)


class Meeting:
    """Other workers that hear of a topic when they are told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[None]] = []

    async def heard_by_all(self, topic: str) -> None:
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]


async def test_a_topic_that_was_left_meanwhile_is_asked_about_again() -> None:
    """The others may have heard that it was left, and not yet that it has a member again."""
    meeting = Meeting()
    hub = Hub(History(SMALLEST))
    bus = Bus(hub, asyncio.get_running_loop(), meeting)  # type: ignore[arg-type]
    first = asyncio.ensure_future(bus.follow("a", True))
    await asyncio.sleep(0)
    again = asyncio.ensure_future(bus.follow("a", True))
    second = asyncio.ensure_future(bus.follow("a", False))
    await asyncio.sleep(0)
    meeting.asked[0].set_result(None)
    await asyncio.wait_for(first, 5)
    assert not again.done()
    assert not second.done()
    meeting.asked[1].set_result(None)
    await asyncio.wait_for(asyncio.gather(again, second), 5)
    await asyncio.wait_for(bus.follow("a", False), 5)
    assert len(meeting.asked) == 2
    await asyncio.sleep(0)
    assert bus._timer is not None
    bus._timer.cancel()
