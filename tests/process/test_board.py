"""Seats: numbers that several processes read and one writes."""

from __future__ import annotations

import os
import subprocess
import sys

from asgiws.process.board import SEATS, Board


def test_another_process_sees_what_was_written() -> None:
    board = Board()
    seat = board.seat(3)
    seat.given = 7
    os.set_inheritable(board.fd, True)
    program = (
        "from asgiws.process.board import Board\n"
        f"seat = Board({board.fd}).seat(3)\n"
        "print(seat.given, seat.load)\n"
        "seat.ended = 5; seat.beat = 2**62; seat.takes = True\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        pass_fds=[board.fd],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["7", "7"]
    assert (seat.load, seat.beat, seat.takes) == (2, 2**62, True)
    board.close()


def test_seats_do_not_touch_each_other() -> None:
    board = Board()
    seats = [board.seat(index) for index in range(SEATS)]
    for number, seat in enumerate(seats):
        seat.given, seat.shares, seat.ended, seat.beat = number, -number, 2 * number, 3 * number
        seat.takes = number % 2 == 1
    for number, seat in enumerate(seats):
        values = (seat.given, seat.shares, seat.ended, seat.beat, seat.takes)
        assert values == (number, -number, 2 * number, 3 * number, number % 2 == 1)
    seats[1].clear()
    assert (seats[1].given, seats[1].beat, seats[0].beat, seats[2].beat) == (0, 0, 0, 6)
    board.close()
