"""The log: what is kept, what is recovered, and what other processes see of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from asgiws.fanout.history import AT_ONCE, SMALLEST, History, Lost, Record, Retention, begin_log
from asgiws.fanout.message import TEXT
from asgiws.process.descriptors import memory_file

KEPT = Retention(100, 60.0)


def all_kept(_topic: str) -> Retention:
    return KEPT


def append(history: History, topic: str, text: str, kept: Retention = KEPT) -> int:
    number = history.append(topic, TEXT, None, text.encode(), lambda _: kept)
    assert number is not None
    return number


def new(history: History) -> list[Record]:
    """What is new, of which nothing was lost."""
    found = history.new()
    assert not any(isinstance(each, Lost) for each in found)
    return [each for each in found if isinstance(each, Record)]


def texts(history: History, topic: str, since: int | None) -> tuple[list[str], bool]:
    history.advance()
    records, complete = history.recover(topic, since, KEPT)
    return [record.payload.decode() for record in records], complete


def test_what_came_behind_a_number_is_recovered_whatever_else_came() -> None:
    history = History(SMALLEST)
    numbers = []
    for index in range(10):
        numbers.append(append(history, "a", str(index)))
        append(history, "b", "other")
    assert texts(history, "a", numbers[6]) == (["7", "8", "9"], True)
    assert texts(history, "a", numbers[9]) == ([], True)
    assert texts(history, "a", 0) == ([str(n) for n in range(10)], True)
    assert texts(history, "nothing", 0) == ([], True)


def test_a_number_that_does_not_exist_yet_recovers_nothing() -> None:
    history = History(SMALLEST)
    number = append(history, "a", "0")
    assert texts(history, "a", number + 1) == ([], False)
    assert texts(history, "nothing", number + 1) == ([], False)


def test_what_is_lost_is_never_recovered_in_part() -> None:
    """Against a plain list, over many turns of a small log."""
    chance = random.Random(1)
    history = History(SMALLEST)
    published: dict[str, list[tuple[int, str]]] = {"a": [], "b": [], "c": []}
    recovered = refused = 0
    for step in range(3_000):
        topic = chance.choice("aaaaabbc" if step % 1000 < 800 else "a")
        text = f"{step} " + "x" * chance.randrange(400)
        published[topic].append((append(history, topic, text), text))
        asked = chance.choice("abc")
        since = chance.randrange(max(0, step - 600), step + 2)
        found, complete = texts(history, asked, since)
        if complete:
            recovered += 1
            assert found == [text for number, text in published[asked] if number > since]
        else:
            refused += 1
            assert found == []
    assert recovered > 500
    assert refused > 500


def test_the_latest_message_of_a_topic_outlives_what_comes_after_it() -> None:
    latest = Retention(1, 60.0)

    def retention(topic: str) -> Retention:
        return latest if topic == "price" else KEPT

    history = History(SMALLEST)
    first = append(history, "price", "41")
    history.append("price", TEXT, None, b"42", retention)
    for _ in range(2_000):
        history.append("noise", TEXT, None, b"x" * 200, retention)
    records, _ = history.recover("price", None, latest)
    assert [record.payload for record in records] == [b"42"]
    assert history.recover("price", first, latest)[1]
    assert not history.recover("price", first - 1, latest)[1]


def test_many_that_outlive_others_are_written_again_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latest = Retention(1, 60.0)
    history = History(16 * SMALLEST)
    written = 0
    write = history._write

    def count(record: Record) -> None:
        nonlocal written
        written += 1
        write(record)

    def retention(topic: str) -> Retention:
        return latest if topic.startswith("price") else KEPT

    monkeypatch.setattr(history, "_write", count)
    for number in range(2_000):
        history.append(f"price {number}", TEXT, None, b"%d" % number, retention)
    most = again = 0
    for size in (100, 20_000):
        for _ in range(2 * 16 * SMALLEST // (size + 100)):
            number_or_none = None
            while number_or_none is None:
                written = 0
                number_or_none = history.append("noise", TEXT, None, b"x" * size, retention)
                again += number_or_none is None
                most = max(most, written)
        for number in range(2_000):
            records, _ = history.recover(f"price {number}", None, latest)
            assert [record.payload for record in records] == [b"%d" % number]
    assert 100 < most <= AT_ONCE + 1
    assert again > 1


def test_as_many_as_take_a_quarter_of_the_memory_outlive_others_and_no_more() -> None:
    latest = Retention(1, 60.0)
    history = History(SMALLEST)
    for number in range(3_000):
        while history.append(str(number), TEXT, None, b"x" * 100, lambda _: latest) is None:
            pass
    records, _ = history.recover("2999", None, latest)
    assert len(records) == 1


def test_a_writer_that_dies_while_it_writes_again_makes_nobody_believe_that_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    latest = Retention(1, 60.0)
    history = History(SMALLEST)
    first = history.append("price", TEXT, None, b"41", lambda _: latest)
    assert first is not None

    write = history._write

    def write_no_latest(record: Record) -> None:
        if record.topic == "price":
            raise KeyboardInterrupt
        write(record)

    def fill() -> None:
        for _ in range(1_000):
            history.append(
                "noise", TEXT, None, b"x" * 200, lambda t: latest if t == "price" else KEPT
            )

    monkeypatch.setattr(history, "_write", write_no_latest)
    with pytest.raises(KeyboardInterrupt):
        fill()
    assert history.recover("price", first - 1, latest) == ([], False)


def test_the_latest_message_is_complete_if_only_that_one_is_missing() -> None:
    latest = Retention(1, 60.0)
    chance = random.Random(2)
    history = History(SMALLEST)
    numbers = [0]
    complete = 0
    for _ in range(3_000):
        topic = chance.choice(["price", "noise", "noise", "noise"])
        number = history.append(
            topic,
            TEXT,
            None,
            b"x" * chance.randrange(3_000),
            lambda t: latest if t == "price" else KEPT,
        )
        if topic == "price":
            assert number is not None
            numbers.append(number)
        elif chance.randrange(20):
            continue
        since = min(chance.choice(numbers[-4:]) + chance.randrange(2), history.seen)
        records, is_complete = history.recover("price", since, latest)
        missed = [number for number in numbers if number > since]
        assert [record.number for record in records] == (missed if len(missed) < 2 else [])
        assert is_complete == (len(missed) < 2)
        complete += is_complete
    assert complete > 200


def test_what_is_old_is_not_recovered() -> None:
    history = History(SMALLEST)
    append(history, "a", "0")
    append(history, "a", "1")
    assert history.recover("a", None, Retention(100, 1e-9)) == ([], False)
    assert history.recover("a", 0, Retention(100, 1e-9)) == ([], False)


@pytest.fixture
def shared() -> Iterator[int]:
    fd = memory_file()
    begin_log(fd, SMALLEST)
    yield fd
    os.close(fd)


def test_a_reader_gets_all_in_order_and_is_told_if_it_was_too_slow(shared: int) -> None:
    history, reader = History(SMALLEST, shared), History(SMALLEST, shared)
    for index in range(50):
        append(history, "a", str(index))
    assert reader.advance(20)
    assert not reader.advance()
    assert [record.payload.decode() for record in new(reader)] == [str(n) for n in range(50)]
    append(history, "a", "seen")
    reader.advance()
    for _ in range(1_000):
        append(history, "a", "x" * 200)
    reader.advance()
    first, gap, *rest = reader.new()
    assert isinstance(first, Record)
    assert first.number == 51
    assert gap == Lost(51)
    assert all(isinstance(each, Record) for each in rest)
    assert rest[-1].number == history.seen
    assert reader.new() == []


def test_what_was_there_before_is_old_unless_a_number_is_named(shared: int) -> None:
    history = History(SMALLEST, shared)
    for index in range(10):
        append(history, "a", str(index))
    late, named = History(SMALLEST, shared), History(SMALLEST, shared)
    named.begin_at(8)
    append(history, "a", "new")
    for reader, numbers in ((late, [11]), (named, [8, 9, 10, 11])):
        reader.advance()
        assert [record.number for record in new(reader)] == numbers
    assert texts(late, "a", 8) == (["8", "9", "new"], True)


def test_a_writer_that_dies_before_its_record_is_whole_leaves_a_gap_and_no_second_number(
    shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, reader = History(SMALLEST, shared), History(SMALLEST, shared)
    append(history, "a", "0")

    def die(_record: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(history, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            append(history, "a", "never")
    assert append(history, "a", "1") == 3
    reader.advance()
    assert [(record.number, record.payload) for record in new(reader)] == [(1, b"0"), (3, b"1")]
    assert texts(reader, "a", 1) == (["1"], True)


def test_processes_share_a_log_and_number_together(shared: int) -> None:
    fd = shared
    history = History(SMALLEST, fd)
    program = (
        "import sys; from asgiws.fanout.history import *; from asgiws.fanout.message import TEXT\n"
        f"history = History({SMALLEST}, int(sys.argv[1])); done = 0\n"
        "while done < 100:\n"
        "    kept = Retention(100, 60.0)\n"
        "    number = history.append('a', TEXT, None, sys.argv[2].encode(), lambda _: kept)\n"
        "    done += number is not None"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program, str(fd), name], pass_fds=[fd])
        for name in "xy"
    ]
    assert [other.wait(30) for other in others] == [0, 0]
    history.advance()
    records = new(history)
    assert [record.number for record in records] == list(range(1, 201))
    assert sorted(record.payload for record in records) == [b"x"] * 100 + [b"y"] * 100


def test_whoever_dies_with_the_lock_holds_nobody_up(shared: int) -> None:
    fd = shared
    history = History(SMALLEST, fd)
    append(history, "a", "0")
    program = (
        "import fcntl, sys, time; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\n"
        "print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert history.append("a", TEXT, None, b"1", all_kept) is None
    assert texts(history, "a", 0) == (["0"], True)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert append(history, "a", "1") == 2


@pytest.mark.parametrize("at", [0, 8, 16, 24, 32, 40, 42, 44, 52, 60, 70])
def test_a_record_that_is_not_whole_is_not_read(at: int, shared: int) -> None:
    history, reader = History(SMALLEST, shared), History(SMALLEST, shared)
    append(history, "a", "0" * 20)
    history._memory[128 + at] ^= 0xFF
    reader.advance()
    assert reader.new() == []


def test_a_log_that_cannot_be_read_is_begun_anew() -> None:
    history = History(SMALLEST)
    append(history, "a", "0")
    history._memory[128] ^= 0xFF
    for _ in range(1_000):
        append(history, "a", "x" * 200)
    assert texts(history, "a", 0) == ([], False)
    assert texts(history, "a", history.seen - 2) == (["x" * 200] * 2, True)
