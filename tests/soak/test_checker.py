"""The checker of the soak sees each thing that may not be, and nothing else."""

from __future__ import annotations

import re

import pytest

from .checker import Checker, Rules

KEPT = Rules("kept:0")
PLAIN = Rules("plain:0")


class Told:
    """A publisher whose messages 0 to 9 were published at 10, 11, ... seconds, and a subscriber."""

    def __init__(self, rules: Rules = PLAIN, published: int = 10) -> None:
        self.checker = Checker(patience=15.0)
        self.rules = rules
        for number in range(published):
            self.publish(number)
        self.stream = self.checker.stream("one", rules)
        self.stream.add("open", 5.0, "one.1", None, None)
        self.stream.add("hello", 9.0, 77)

    def publish(self, number: int, publisher: str = "p", excluded: bool = False) -> None:
        ledger = self.checker.ledger
        ledger.begin(self.rules.topic, publisher, number, 10.0 + number, excluded)
        ledger.done(self.rules.topic, publisher, number, 10.5 + number, 77)

    def get(self, *numbers: int, publisher: str = "p") -> None:
        for number in numbers:
            position = f"e:{100 + number}" if self.rules.topic.startswith("kept") else None
            self.stream.add("message", 11.0 + number, publisher, number, 10.0 + number, position)

    def violations(self, now: float = 21.0) -> str:
        self.checker.look(self.checker.pending(), now)
        return "\n".join(self.checker.violations)


def test_all_in_order_is_as_it_should_be() -> None:
    for rules in (PLAIN, KEPT, Rules("plain:0", told=False)):
        told = Told(rules)
        told.get(*range(10))
        assert not told.violations(now=100.0)
        assert told.checker.late(100.0) == 0


@pytest.mark.parametrize(
    ("numbers", "evidence"),
    [
        ((0, 1, 1), "p 1 twice"),
        ((0, 1, 2, 1, 2), "out of order"),
        ((0, 2, 1, 3), r"\[1\] never came before 2"),
        ((0, 1, 4), r"\[2, 3\] never came before 4"),
        ((1, 2), r"\[0\] never came before 1"),
        ((10,), "nobody has published"),
    ],
)
def test_what_may_not_be_is_seen(numbers: tuple[int, ...], evidence: str) -> None:
    for rules in (PLAIN, KEPT):
        told = Told(rules)
        told.get(*numbers)
        assert re.search(evidence, told.violations())


def test_what_was_published_before_the_subscription_is_not_owed() -> None:
    told = Told()
    told.stream.events[1] = told.stream.events[1]._replace(seconds=13.5)
    told.get(4, 5)
    assert not told.violations()
    told = Told()
    told.stream.events[1] = told.stream.events[1]._replace(seconds=13.5)
    told.get(5)
    assert "[4] never came" in told.violations()


def test_what_is_older_than_a_connection_may_have_come_over_another_one() -> None:
    for rules, numbers, evidence in (
        (PLAIN, (3, 4), ""),
        (PLAIN, (3, 3), "p 3 twice"),
        (PLAIN, (3, 5), "[4] never came"),
        (KEPT, (3, 4), "p 3 twice"),
    ):
        told = Told(rules)
        told.get(0, 1, 2, 3)
        end(told)
        told.stream.add("open", 13.5, "one.2", None, None)
        told.stream.add("hello", 13.6, 78)
        told.get(*numbers)
        assert evidence in told.violations()
        assert bool(evidence) is bool(told.checker.violations)


def test_what_never_comes_is_missed_after_a_while() -> None:
    told = Told()
    told.get(*range(8))
    assert not told.violations(now=30.0)
    assert told.checker.late(30.0) == 2
    assert "[8, 9] have not come for 15 s" in told.violations(now=60.0)


def test_what_has_failed_may_come_or_not() -> None:
    for numbers in ((0, 1, 2), (0, 2)):
        told = Told(published=1)
        told.checker.ledger.begin("plain:0", "p", 1, 11.0)
        told.checker.ledger.fail("plain:0", "p", 1)
        told.publish(2)
        told.get(*numbers)
        assert not told.violations()


def end(told: Told, how: str = "left") -> None:
    told.stream.add("end", 22.0, how)


def test_a_gap_must_be_told_where_it_is_and_how_large_it_is() -> None:
    def with_gap(gap: int, behind: int, *numbers: int) -> str:
        told = Told(Rules("plain:0", "drop_oldest", slow=True))
        for place, number in enumerate(numbers):
            if place == behind:
                told.stream.add("gap", 20.0, gap)
            told.get(number)
        end(told)
        return told.violations()

    assert not with_gap(3, 2, 0, 1, 5, 6, 7, 8, 9)
    assert "no gap" in with_gap(3, 3, 0, 1, 5, 6, 7, 8, 9)
    assert "3 are missing, and 2 were told" in with_gap(2, 2, 0, 1, 5, 6, 7, 8, 9)
    assert "4 were told as missing, and only 3" in with_gap(4, 2, 0, 1, 5, 6, 7, 8, 9)


def test_one_gap_is_about_all_that_does_not_come_also_if_it_is_due_later() -> None:
    told = Told(Rules("plain:0", "drop_oldest"))
    told.get(0)
    told.stream.add("gap", 20.0, 9)
    assert not told.violations(now=30.0)
    assert not told.violations(now=33.0)
    assert told.stream.missing == 7


def test_who_is_told_of_no_gaps_is_told_a_sum() -> None:
    for dropped, violates in ((2, False), (1, True)):
        told = Told(Rules("plain:0", "drop_newest", told=False, slow=True))
        told.get(0, 3, 4)
        end(told)
        told.checker.dropped["one.1"] = dropped
        assert ("2 are missing" in told.violations()) is violates


def come_back(told: Told, since: tuple[str, float], recovered: bool | None) -> None:
    told.stream.add("open", 23.0, "one.2", since, recovered)
    told.stream.add("hello", 24.0, 78)


def test_a_recovery_is_complete_and_repeats_nothing() -> None:
    for numbers, evidence in (
        ((4, 5, 6), ""),
        ((3, 4, 5), "twice"),
        ((5, 6), "[4] never came before 5"),
    ):
        told = Told(KEPT)
        told.get(0, 1, 2, 3)
        end(told)
        come_back(told, ("e:103", 13.0), True)
        told.get(*numbers)
        assert evidence in told.violations()
        assert bool(evidence) is bool(told.checker.violations)


def test_a_recovery_that_was_possible_is_not_refused() -> None:
    told = Told(KEPT)
    told.get(0, 1, 2, 3)
    end(told)
    come_back(told, ("e:103", 19.0), False)
    assert "not recovered after 4.0 s" in told.violations()
    told = Told(KEPT)
    told.get(0, 1, 2, 3)
    end(told)
    come_back(told, ("e:103", 3.0), False)  # too old
    told.get(8, 9)
    assert not told.violations()
    come_back(told, ("e:103", 3.0), None)
    assert "was not told whether" in told.violations()


def test_a_position_is_one_message_and_they_grow() -> None:
    told = Told(KEPT)
    told.get(0)
    other = told.checker.stream("two", KEPT)
    other.add("message", 12.0, "p", 1, 11.0, "e:100")
    assert "at e:100, where others got" in told.violations()
    told = Told(KEPT)
    told.get(0)
    told.stream.add("message", 12.0, "p", 1, 11.0, "e:99")
    assert "got position e:99 behind e:100" in told.violations()
    told = Told(KEPT)
    told.stream.add("message", 12.0, "p", 0, 11.0, None)
    assert "without a position" in told.violations()


def test_the_latest_message_is_the_latest() -> None:
    for number, violates in ((0, True), (3, False)):
        told = Told(Rules("kept:0", replay=True))
        told.stream.events[0] = told.stream.events[0]._replace(seconds=13.6)
        told.stream.events[1] = told.stream.events[1]._replace(seconds=13.7)
        told.get(number)
        assert ("as the latest" in told.violations()) is violates


def test_a_socket_is_excluded_from_its_own_and_otherwise_gets_it_first() -> None:
    def own(excluded: bool, *events: str) -> str:
        told = Told(published=0)
        told.publish(0, "ws-one.1", excluded)
        for event in events:
            if event == "message":
                told.get(0, publisher="ws-one.1")
            else:
                told.stream.add("said", 13.0, "ws-one.1", 0)
        return told.violations(now=60.0)

    assert not own(True)
    assert "was excluded" in own(True, "message")
    assert not own(False, "message", "said")
    assert "came later" in own(False, "said", "message")


def test_what_is_lost_with_a_killed_worker_is_told_or_only_the_end_of_what_it_published() -> None:
    for kept, killed, is_local, violates in (
        (False, 19.0, False, False),
        (False, 40.0, False, True),
        (True, 19.0, False, True),
        (False, 19.0, True, True),
    ):
        told = Told(KEPT if kept else PLAIN)
        told.checker.is_local = is_local
        told.checker.ledger.killed[77] = killed
        told.get(*range(8))
        assert bool(told.violations(now=60.0)) is violates


def test_a_slow_one_may_take_its_time() -> None:
    told = Told(Rules("plain:0", slow=True))
    told.get(0)
    assert not told.violations(now=60.0)
    assert told.checker.late(60.0) == 9
