"""The log: what is kept, what is recovered, and what other processes see of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest

from asgiws.fanout.history import SMALLEST, History, Retention
from asgiws.fanout.message import TEXT
from asgiws.process.descriptors import memory_file

KEPT = Retention(100, 60.0)


def all_kept(_topic: str) -> Retention:
    return KEPT


def append(history: History, topic: str, text: str, kept: Retention = KEPT) -> int:
    number = history.append(topic, TEXT, None, text.encode(), lambda _: kept)
    assert number is not None
    return number


def texts(history: History, topic: str, since: int | None) -> tuple[list[str], bool]:
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


def test_what_is_old_is_not_recovered() -> None:
    history = History(SMALLEST)
    append(history, "a", "0")
    append(history, "a", "1")
    assert history.recover("a", None, Retention(100, 1e-9)) == ([], False)
    assert history.recover("a", 0, Retention(100, 1e-9)) == ([], False)


def test_a_reader_gets_all_in_order_and_is_told_if_it_was_too_slow() -> None:
    history = History(SMALLEST)
    place = history.head
    for index in range(50):
        append(history, "a", str(index))
    records, place, lost = history.read(place)
    assert [record.payload.decode() for record in records] == [str(n) for n in range(50)]
    assert not lost
    for _ in range(1_000):
        append(history, "a", "x" * 200)
    records, place, lost = history.read(place)
    assert lost
    assert records[-1].number == history.last
    assert history.read(place) == ([], place, False)


def test_processes_share_a_log_and_number_together() -> None:
    fd = memory_file()
    history = History(SMALLEST, fd)
    place = history.head
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
    records, _, lost = history.read(place)
    assert not lost
    assert [record.number for record in records] == list(range(1, 201))
    assert sorted(record.payload for record in records) == [b"x"] * 100 + [b"y"] * 100
    os.close(fd)


def test_whoever_dies_with_the_lock_holds_nobody_up() -> None:
    fd = memory_file()
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
    os.close(fd)


@pytest.mark.parametrize("at", [0, 8, 16, 24, 32, 40, 42, 44, 52, 60, 70])
def test_a_record_that_is_not_whole_is_not_read(at: int) -> None:
    history = History(SMALLEST)
    place = history.head
    append(history, "a", "0" * 20)
    history._memory[128 + at] ^= 0xFF
    records, _, _ = history.read(place)
    assert records == []


def test_a_log_that_cannot_be_read_is_begun_anew() -> None:
    history = History(SMALLEST)
    append(history, "a", "0")
    history._memory[128] ^= 0xFF
    for _ in range(1_000):
        append(history, "a", "x" * 200)
    assert texts(history, "a", 0) == ([], False)
    assert texts(history, "a", history.last - 2) == (["x" * 200] * 2, True)
