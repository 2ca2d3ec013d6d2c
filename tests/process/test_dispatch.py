"""Who gets a connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from asgiws.process import inbox
from asgiws.process.board import Board
from asgiws.process.dispatch import STALE_NANOSECONDS, Dispatcher, Receiver


def fill(receiver: Receiver) -> int:
    """Fill an inbox; how many there are in it then."""
    pair = socket.socketpair()
    count = 0
    while inbox.put(receiver.near, pair[:1]):
        count += 1
    for sock in pair:
        sock.close()
    return count


class Fleet:
    """Some receivers whose event loops run, and a dispatcher for them."""

    def __init__(self, count: int) -> None:
        self.board = Board()
        self.dispatcher = Dispatcher()
        for index in range(count):
            receiver = Receiver(self.board.seat(index), *inbox.pair())
            receiver.seat.beat = time.monotonic_ns() + 60_000_000_000
            receiver.seat.takes = True
            receiver.open = True
            self.dispatcher.receivers.append(receiver)
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def give(self, count: int) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        self.pairs += pairs
        self.dispatcher.give([ours for ours, _ in pairs])

    def loads(self) -> list[int]:
        return [receiver.seat.load for receiver in self.dispatcher.receivers]

    def taken(self, index: int) -> int:
        """Take what lies in an inbox; how many there were."""
        count = 0
        while sockets := inbox.take(self.dispatcher.receivers[index].far):
            count += len(sockets)
            for sock in sockets:
                sock.close()
        return count

    def close(self) -> None:
        for receiver in self.dispatcher.receivers:
            receiver.close()
        for pair in self.pairs:
            for sock in pair:
                sock.close()
        self.board.close()


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(4)
    yield fleet
    fleet.close()


def test_connections_are_spread_evenly_one_by_one_and_all_at_once(fleet: Fleet) -> None:
    for _ in range(20):
        fleet.give(1)
    assert fleet.loads() == [5, 5, 5, 5]
    fleet.give(200)
    assert fleet.loads() == [55, 55, 55, 55]
    assert [fleet.taken(index) for index in range(4)] == [55] * 4


def test_the_emptiest_gets_what_comes_until_it_is_as_full_as_the_others(fleet: Fleet) -> None:
    fleet.give(40)
    fleet.dispatcher.receivers[2].seat.ended = 8
    fleet.give(8)
    assert fleet.loads() == [10, 10, 10, 10]
    assert fleet.dispatcher.receivers[2].seat.given == 18


def test_among_equals_it_goes_round(fleet: Fleet) -> None:
    for _ in range(40):
        fleet.give(1)
        for receiver in fleet.dispatcher.receivers:
            receiver.seat.ended = receiver.seat.given
    assert [receiver.seat.given for receiver in fleet.dispatcher.receivers] == [10] * 4


def test_who_hangs_gets_nothing_and_what_it_has_not_taken_goes_to_others(fleet: Fleet) -> None:
    fleet.give(40)
    hanging = fleet.dispatcher.receivers[1]
    hanging.seat.beat = time.monotonic_ns() - STALE_NANOSECONDS - 1
    fleet.dispatcher.recover()
    fleet.dispatcher.flush()
    assert sum(fleet.loads()) == 40
    assert hanging.seat.load == 0
    fleet.give(20)
    assert fleet.loads() == [20, 0, 20, 20]
    assert fleet.taken(1) == 0


def test_who_has_no_descriptors_left_gets_nothing(fleet: Fleet) -> None:
    fleet.dispatcher.receivers[3].seat.takes = False
    fleet.give(30)
    assert fleet.loads() == [10, 10, 10, 0]


def test_where_nobody_takes_anything_it_waits(fleet: Fleet) -> None:
    for receiver in fleet.dispatcher.receivers:
        receiver.open = False
    fleet.give(10)
    assert len(fleet.dispatcher.waiting) == 10
    fleet.dispatcher.receivers[0].open = True
    fleet.dispatcher.flush()
    assert fleet.loads() == [10, 0, 0, 0]
    assert not fleet.dispatcher.waiting


def test_what_finds_no_room_in_an_inbox_goes_to_another_one() -> None:
    fleet = Fleet(2)
    full = fleet.dispatcher.receivers[0]
    fill(full)
    fleet.give(40)
    assert full.seat.given == 0
    assert fleet.dispatcher.receivers[1].seat.given == 40
    assert not fleet.dispatcher.waiting
    fleet.close()


def test_a_full_inbox_is_tried_again_after_a_moment() -> None:
    fleet = Fleet(1)
    (only,) = fleet.dispatcher.receivers
    lain = fill(only)
    fleet.give(3)
    assert len(fleet.dispatcher.waiting) == 3
    assert fleet.taken(0) == lain
    until = time.monotonic() + 5
    while fleet.dispatcher.waiting:
        assert time.monotonic() < until
        fleet.dispatcher.flush()
    assert fleet.taken(0) == 3
    fleet.close()


def test_what_a_dead_worker_has_not_taken_waits_until_there_are_descriptors(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.give(40)
    dead = fleet.dispatcher.receivers.pop(0)
    lost = dead.seat.load
    assert lost == 10
    take = inbox.take

    def short(box: socket.socket) -> list[inbox.StreamSocket]:
        if box is dead.far:
            raise inbox.NoDescriptors
        return take(box)

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "take", short)
        fleet.dispatcher.take_back(dead)
        dead.seat.clear()  # another worker sits there now
        fleet.dispatcher.bury(dead)
        fleet.dispatcher.recover()
        assert not fleet.dispatcher.waiting
    fleet.dispatcher.recover()
    fleet.dispatcher.flush()
    assert sum(fleet.loads()) == 40
    assert dead.seat.load == 0
    assert dead.far.fileno() == -1
