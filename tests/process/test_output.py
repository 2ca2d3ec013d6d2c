"""Output that nobody reads, and a supervisor that does not wait for it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgiws.process.output import Impatient, impatient_output

from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from .test_worker import APP, workers_of


class Pipe:
    """A pipe that is read when a test says so."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def fill(self) -> None:
        """Write until it is full; who writes next waits."""
        os.set_blocking(self.write_end, False)
        try:
            while True:
                os.write(self.write_end, b"." * 99 + b"\n")
        except BlockingIOError:
            pass
        os.set_blocking(self.write_end, True)

    def read(self) -> bytes:
        """All that is in it."""
        os.set_blocking(self.read_end, False)
        found = b""
        try:
            while data := os.read(self.read_end, 65_536):
                found += data
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        for fd in (self.read_end, self.write_end):
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_what_is_read_arrives_whole(pipe: Pipe) -> None:
    with Impatient(pipe.write_end) as output:
        line = b"x" * 20_000 + b"\n"
        assert output.write(line) == len(line)
        assert pipe.read() == line
        assert not output.isatty()


def test_what_finds_no_room_is_lost_and_counted(pipe: Pipe) -> None:
    with Impatient(pipe.write_end) as output:
        pipe.fill()
        for _ in range(3):
            output.write(b"lost\n")
        assert set(pipe.read()) == set(b".\n")
        output.write(b"seen\n")
        output.write(b"and this\n")
        told = b"(3 writes were lost: nobody read them)\n"
        assert pipe.read() == told + b"seen\nand this\n"


def test_one_that_is_lost_is_one_write(pipe: Pipe) -> None:
    with Impatient(pipe.write_end) as output:
        pipe.fill()
        output.write(b"lost\n")
        pipe.read()
        output.write(b"seen\n")
        assert pipe.read() == b"(1 write was lost: nobody read them)\nseen\n"


def test_what_a_full_disk_does_not_take_is_lost_and_counted(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, Impatient(full.fileno()) as output:
        for _ in range(3):
            assert output.write(b"lost\n") == 5
        with open(tmp_path / "log", "wb") as file:  # somebody makes room
            os.dup2(file.fileno(), output.fileno())
        output.write(b"seen\n")
    told = b"(3 writes were lost: No space left on device)\n"
    assert (tmp_path / "log").read_bytes() == told + b"seen\n"


def test_others_who_write_to_the_same_pipe_wait_as_before(pipe: Pipe) -> None:
    with Impatient(pipe.write_end):
        assert os.get_blocking(pipe.write_end)


def test_a_socket_is_asked_before_each_write() -> None:
    ours, theirs = socket.socketpair()
    with Impatient(ours.fileno()) as output:
        for _ in range(2_000):
            output.write(b"x" * 999 + b"\n")
        theirs.setblocking(False)
        try:
            while theirs.recv(65_536):
                pass
        except BlockingIOError:
            pass
        output.write(b"seen\n")
        assert b"writes were lost" in theirs.recv(65_536)
    for sock in (ours, theirs):
        sock.close()


def test_a_reader_that_is_gone_is_an_error_as_ever() -> None:
    pipe = Pipe()
    with Impatient(pipe.write_end) as output:
        os.close(pipe.read_end)
        with pytest.raises(BrokenPipeError):
            output.write(b"x")
    os.close(pipe.write_end)


def test_stand_ins_for_the_streams_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stand_in = sys.stderr
    with impatient_output(terminals=True):
        assert sys.stderr is stand_in
    assert sys.stderr is stand_in


def served(pipe: Pipe, path: Path, *options: str) -> Program:
    """Two workers behind a Unix socket; what they and the supervisor print goes to the pipe."""

    def redirect() -> None:
        os.dup2(pipe.write_end, 1)
        os.dup2(pipe.write_end, 2)

    words = ("--workers", "2", "--uds", str(path), *options)
    program = Program("asgiws", APP, *words, preexec=redirect, pass_fds=(pipe.write_end,))
    program.wait_until(lambda: answers(path), "an answer")
    return program


def answers(path: Path) -> int:
    """Which process answers a request, 0 if none does yet."""
    try:
        with Client(str(path)) as client:
            return int(client.get("/").body)
    except (FileNotFoundError, ConnectionRefusedError):
        return 0


def test_a_supervisor_goes_on_while_nobody_reads_its_log(pipe: Pipe, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    pipe.fill()
    with served(pipe, path) as program:
        old = workers_of(program)
        os.kill(old[0], signal.SIGKILL)
        program.wait_until(lambda: old[0] not in workers_of(program), "the end of a worker")
        program.wait_until(lambda: len(workers_of(program)) == 2, "its replacement")
        program.wait_until(
            lambda: {answers(path) for _ in range(4)} == {*workers_of(program)}, "two that answer"
        )
        pipe.read()
        program.send(signal.SIGHUP)
        program.wait_until(lambda: answers(path) not in (0, *old), "a new worker")
        seen = b""

        def told() -> bool:
            nonlocal seen
            seen += pipe.read()
            return b"All workers are replaced" in seen

        program.wait_until(told, "the end of the restart")
        assert b"writes were lost: nobody read them" in seen
        assert program.stop() == 0


def test_workers_go_on_while_nobody_reads_their_log(pipe: Pipe, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with served(pipe, path, "--timeout-worker-healthcheck", "1") as program:
        workers = workers_of(program)
        pipe.fill()
        for _ in range(200):
            assert answers(path) in workers
        assert workers_of(program) == workers


def test_a_program_whose_log_nobody_reads_ends_within_its_deadline(
    pipe: Pipe, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    pipe.fill()
    options = ("--timeout-graceful-shutdown", "0.1", "--drain-window", "0")
    with served(pipe, path, *options) as program:
        assert program.stop() == 0
        assert not program.processes()
