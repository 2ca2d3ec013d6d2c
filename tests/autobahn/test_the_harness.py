"""The proxy changes nothing but the pieces, and no failure passes for a success."""

from __future__ import annotations

import os
import socket
import threading

from .cuts import Cutter, CuttingProxy
from .run import Outcome, Result, complaints_in

STREAM = os.urandom(50_000)


def cut(seed: str, *arrivals: bytes) -> list[bytes]:
    cutter = Cutter(seed)
    return [piece for data in arrivals for piece in cutter.pieces(data)]


def test_cutting_keeps_every_byte_and_the_same_seed_cuts_at_the_same_places() -> None:
    pieces = cut("seed", STREAM)
    assert b"".join(pieces) == STREAM
    assert len(pieces) > 100
    assert pieces == cut("seed", STREAM)
    assert pieces != cut("another seed", STREAM)


def test_where_a_stream_is_cut_does_not_depend_on_how_it_arrives() -> None:
    def ends(pieces: list[bytes]) -> set[int]:
        places, position = set(), 0
        for piece in pieces:
            position += len(piece)
            places.add(position)
        return places

    arrivals = (STREAM[:7], STREAM[7:3000], STREAM[3000:])
    assert ends(cut("seed", *arrivals)) == ends(cut("seed", STREAM)) | {7, 3000}


def test_the_proxy_passes_on_both_directions_and_their_ends() -> None:
    def answer() -> None:
        connection, _ = target.accept()
        received = b""
        with connection:
            while data := connection.recv(65536):
                received += data
            connection.sendall(received[::-1])

    with socket.create_server(("127.0.0.1", 0)) as target:
        thread = threading.Thread(target=answer)
        thread.start()
        with (
            CuttingProxy(target.getsockname()[1], "seed") as proxy,
            socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client,
        ):
            client.sendall(STREAM)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as answers:
                assert answers.read() == STREAM[::-1]
        thread.join()


def outcome(*results: Result, exit_code: int = 0, output: str = "") -> Outcome:
    return Outcome(list(results), 1.0, exit_code, complaints_in(output.splitlines(True)))


OK = Result("1.1.1", "OK", "OK", 1000, 1)


def test_only_ok_and_three_informational_cases_are_good() -> None:
    assert outcome(OK, Result("7.13.1", "INFORMATIONAL", "INFORMATIONAL", 1002, 1)).good
    assert not outcome(OK, Result("7.13.3", "INFORMATIONAL", "OK", 1002, 1)).good
    for behavior in ("NON-STRICT", "FAILED", "UNIMPLEMENTED", "NO RESULT"):
        assert not outcome(OK, Result("1.1.2", behavior, "OK", 1000, 1)).good
        assert not outcome(OK, Result("7.1.6", behavior, "OK", 1000, 1)).good
    for close in ("UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"):
        assert not outcome(OK, Result("1.1.2", "OK", close, 1000, 1)).good


def test_no_result_at_all_is_not_good() -> None:
    assert not outcome().good


def test_a_traceback_or_an_exit_code_spoils_a_run() -> None:
    assert outcome(OK, output="INFO connection open\nINFO connection closed\n").good
    assert not outcome(OK, exit_code=1).good
    spoilt = outcome(OK, output="INFO fine\nTraceback (most recent call last):\n  File\n")
    assert not spoilt.good
    assert spoilt.complaints == ["Traceback (most recent call last):\n", "  File\n"]
    assert not outcome(OK, output="Task exception was never retrieved\n").good
