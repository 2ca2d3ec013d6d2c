"""The bus of one machine: order, recovery, and another process that holds the log."""

from __future__ import annotations

import pytest

from asgiws.errors import BusUnavailable, TopicError
from asgiws.fanout import bus as module
from asgiws.fanout.bus import Local
from asgiws.fanout.history import SMALLEST, History, Retention
from asgiws.fanout.message import TEXT, Publication

KEPT = Retention(10, 60.0)


class Held(History):
    """A log that another process appends to, so many times."""

    times = 3

    def append(self, *arguments: object) -> int | None:
        self.times -= 1
        return None if self.times >= 0 else super().append(*arguments)  # type: ignore[arg-type]


def local(history: History, got: list[Publication], lost: list[object]) -> Local:
    def deliver(publication: Publication) -> int:
        got.append(publication)
        return 1

    def miss(topic: str | None, messages: int) -> None:
        lost.append(topic)

    return Local(None, lambda: history, lambda _: KEPT, deliver, miss, None)


async def test_a_publication_waits_for_another_process_that_appends() -> None:
    got: list[Publication] = []
    bus = local(Held(SMALLEST), got, [])
    assert await bus.publish(Publication("a", TEXT, b"x"), KEPT) == 1
    assert [publication.payload for publication in got] == [b"x"]


async def test_a_publication_that_is_not_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPEND_SECONDS", 0.01)
    history = Held(SMALLEST)
    history.times = 10**9
    with pytest.raises(BusUnavailable, match="not published"):
        await local(history, [], []).publish(Publication("a", TEXT, b"x"), KEPT)


async def test_what_others_append_is_delivered_in_order_and_a_loss_is_told() -> None:
    got: list[Publication] = []
    lost: list[object] = []
    history = History(SMALLEST)
    bus = local(history, got, lost)
    await bus.follow("a")
    for text in (b"1", b"2"):
        history.append("a", TEXT, None, text, lambda _: KEPT)
    bus.catch_up()
    assert [publication.payload for publication in got] == [b"1", b"2"]
    assert bus.is_behind(got[1].position, got[0].position)
    for _ in range(1_000):
        history.append("a", TEXT, None, b"x" * 200, lambda _: KEPT)
    bus.catch_up()
    assert lost == [None]


async def test_a_message_that_is_too_large_for_the_log_is_refused_and_the_largest_fits() -> None:
    got: list[Publication] = []
    history = History(SMALLEST)
    bus = local(history, got, [])
    most = history.largest - module.MOST_WORDS
    for _ in range(10):
        assert await bus.publish(Publication("a", TEXT, b"x" * most), KEPT) == 1
    with pytest.raises(TopicError, match=f"may have {most} bytes"):
        await bus.publish(Publication("a", TEXT, b"x" * (most + 1)), KEPT)
