"""The end of the process: nothing that blocks keeps it, and nothing changes its exit code."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from ..toolkit.raw_http import Client
from ..toolkit.running import LOOPS
from ..toolkit.served import ROOT, Served

APP = "tests.process.end_apps:app"
DEADLINE = 20.0


def serve(*options: str, **environment: str) -> Served:
    return Served("asgiws", APP, "--port", "0", *options, **environment)


def get(served: Served, path: str) -> bytes:
    with Client(served) as client:
        reply = client.get(path)
        assert reply.status == 200
        return reply.body


def said(served: Served) -> list[str]:
    return [line.removeprefix("app: ").strip() for line in served.output if line.startswith("app:")]


class Silent:
    """A server whose output nobody reads: its pipe fills up. It listens on a socket of ours."""

    def __init__(self, *options: str, full: bool = False, **environment: str) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.unread, self.output = os.pipe()
        output = self.output
        if full:
            os.set_blocking(output, False)
            while select.select([], [output], [], 0)[1]:
                os.write(output, b"." * 4096)
            os.set_blocking(output, True)
        fd = str(self.listening.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asgiws", APP, "--fd", fd, *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
            pass_fds=[self.listening.fileno()],
            stdout=output,
            stderr=subprocess.DEVNULL if full else output,
        )

    def answers(self, path: str, seconds: float) -> bool:
        """Return whether a request is answered; with a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as client:
            client.sendall(b"GET %b HTTP/1.0\r\nHost: localhost\r\n\r\n" % path.encode())
            try:
                return client.recv(100).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                return False

    def fill(self) -> None:
        """Ask until the access log blocks the server."""
        assert self.answers("/", DEADLINE)
        path = "/?" + "a" * 4000
        deadline = time.monotonic() + DEADLINE
        # An answer that does not come while there is room in the pipe is only late.
        while self.answers(path, 0.5) or select.select([], [self.output], [], 0)[1]:
            assert time.monotonic() < deadline, "the pipe never fills up"

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self.listening.close()
        os.close(self.unread)
        os.close(self.output)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_a_server_whose_log_nobody_reads(loop: str) -> None:
    with Silent("--loop", loop) as server:
        server.fill()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 143


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_one_signal_ends_a_server_whose_log_nobody_reads_at_the_deadline(loop: str) -> None:
    with Silent("--loop", loop, "--timeout-graceful-shutdown", "0") as server:
        server.fill()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 1


def test_what_was_printed_and_nobody_reads_does_not_keep_the_process() -> None:
    with Silent("--no-access-log", full=True, UNFLUSHED="yes") as server:
        assert server.answers("/", DEADLINE)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            # say() flushes, and that blocks the loop as any application can.
            server.process.wait(0.5)
        os.read(server.unread, 4096)
        assert server.process.wait(5) == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_signal_ends_a_server_whose_main_thread_is_in_c_code(loop: str) -> None:
    with serve("--loop", loop) as served, Client(served) as client:
        client.send(b"GET /c-code HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.wait_for_line("app: blocks")
        served.process.send_signal(signal.SIGTERM)
        served.wait_for_line("once more Ctrl-C")
        assert served.stop(signal.SIGINT) == 130


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_whose_main_thread_is_in_c_code_is_ended_by_the_watchdog(loop: str) -> None:
    with (
        serve("--loop", loop, "--timeout-graceful-shutdown", "0") as served,
        Client(served) as client,
    ):
        client.send(b"GET /c-code HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.wait_for_line("app: blocks")
        assert served.stop() == 1
    assert "The event loop is blocked: ending the process" in "".join(served.output)


@pytest.mark.parametrize(
    ("path", "afterwards", "code"),
    [
        ("/", "7", 7),
        ("/executor", "7", 7),
        ("/thread", "", 0),
        ("/thread", "7", 7),
        ("/thread", "raise", 1),
        ("/thread", "in words", 1),
    ],
)
def test_a_program_keeps_its_exit_code_whatever_threads_are_left(
    path: str, afterwards: str, code: int
) -> None:
    with Served("tests.process.end_apps", AFTERWARDS=afterwards) as served:
        assert get(served, path) == b"done"
        assert served.stop() == code
    assert said(served) == ["lifespan.shutdown", "run has returned", "atexit"]
    output = "".join(served.output)
    assert "ignored" not in output, output
    assert ("RuntimeError: afterwards" in output) == (afterwards == "raise")
    assert ("in words" in output) == (afterwards == "in words")


def test_an_idle_pool_of_processes_does_not_keep_the_process() -> None:
    with serve() as served:
        assert get(served, "/idle-processes") == b"done"
        assert get(served, "/executor") == b"done"
        assert served.stop() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_was_forked_is_ended_by_sigterm_and_the_server_is_not(loop: str) -> None:
    with serve("--loop", loop) as served:
        assert get(served, "/child") == b"-15"
        assert get(served, "/child") == b"-15"
        assert served.stop() == 0
    assert said(served) == ["lifespan.shutdown"]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_applications_own_handlers_for_other_signals_are_called(loop: str) -> None:
    with serve("--loop", loop, START="usr1") as served:
        for _ in range(3):
            served.process.send_signal(signal.SIGUSR1)
            served.wait_for_line("app: usr1")
        assert served.stop() == 0


def test_an_application_may_have_sigterm_for_itself() -> None:
    with serve(START="own sigterm") as served:
        for _ in range(3):
            served.process.send_signal(signal.SIGTERM)
            served.wait_for_line("app: own sigterm")
        assert get(served, "/") == b"done"
        assert served.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_the_handler_of_sigterm_tells_when_streams_are_to_end(loop: str) -> None:
    with serve("--loop", loop, "--drain-window", "0.3") as served:
        assert get(served, "/should-exit") == b"False False True"
        assert served.wait_for_end() == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_an_exit_in_a_task_of_the_applications_own_is_logged_and_the_others_go_on(
    loop: str,
) -> None:
    with serve("--loop", loop) as served:
        for path, kind in (
            ("/exits-in-a-task", "SystemExit"),
            ("/exits-in-a-callback", "SystemExit"),
            ("/interrupts-in-a-task", "KeyboardInterrupt"),
        ):
            for _ in range(2):
                assert get(served, path) == b"done"
                served.wait_for_line(f"ERROR:    {kind} in a task that the application started")
            assert get(served, "/") == b"done"
        assert served.stop() == 0
    output = "".join(served.output)
    assert output.count("in a task that the application started") == 6, output
    assert said(served) == ["lifespan.shutdown"]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_exit_of_a_task_that_is_cancelled_at_the_end_changes_nothing(loop: str) -> None:
    with serve("--loop", loop) as served:
        assert get(served, "/exits-when-cancelled") == b"done"
        assert served.stop() == 0
    assert said(served) == ["lifespan.shutdown"]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_exit_in_the_lifespans_start_is_a_failed_start(loop: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "asgiws", APP, "--port", "0", "--loop", loop, "--lifespan", "on"],
        cwd=ROOT,
        env={**os.environ, "START": "exit"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert process.returncode == 5, process.stderr
    assert "SystemExit: no such database\nError: the application's lifespan raised" in (
        process.stderr
    )
    assert "asgiws/process" not in process.stderr


@pytest.mark.parametrize("loop", LOOPS)
def test_an_exit_in_the_lifespans_end_is_logged(loop: str) -> None:
    with serve("--loop", loop, EXIT_AT_THE_END="yes") as served:
        assert served.stop() == 0
    output = "".join(served.output)
    assert "ERROR:    Exception in the application's lifespan\nTraceback" in output
    assert "SystemExit: 9" in output
    assert "Stopped" in output


@pytest.mark.parametrize(
    ("closed", "loop", "program"),
    [
        ((0,), "uvloop", "command"),
        ((1,), "asyncio", "command"),
        ((2,), "uvloop", "run"),
        ((0, 1, 2), "uvloop", "command"),
        ((0, 1, 2), "asyncio", "command"),
        ((0, 1, 2), "uvloop", "run"),
    ],
)
def test_it_starts_and_ends_with_standard_descriptors_closed(
    closed: tuple[int, ...], loop: str, program: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        if program == "command":
            command = ["-m", "asgiws", APP, "--fd", str(fd), "--loop", loop]
        else:
            code = f"import asgiws; asgiws.run({APP!r}, fd={fd}, loop={loop!r})"
            command = ["-c", code]
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[fd],
            preexec_fn=lambda: [os.close(number) for number in closed],
        )
        try:
            with socket.create_connection(listening.getsockname(), timeout=DEADLINE) as client:
                client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            process.terminate()
            output, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
            process.wait(DEADLINE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert ("Serving on" in errors) == (2 not in closed)
    assert bool(re.search(r'"GET / HTTP/1.0" 200', output)) == (1 not in closed)
    assert "app: lifespan.shutdown" in output or 1 in closed
