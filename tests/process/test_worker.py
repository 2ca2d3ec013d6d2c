"""Real workers: what they obey, and what becomes of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.served import Served

APP = "tests.process.fleet_app:app"


def fleet(workers: int, *options: str, **environment: str) -> Served:
    """So many workers that serve the application."""
    words = ("--workers", str(workers), "--port", "0", "--no-access-log", *options)
    served = Served("asgiws", APP, *words, **environment)
    served.wait_for_count("Worker .* is ready", workers)
    return served


def workers_of(program: Program) -> list[int]:
    """The process ids of the workers, eldest first."""
    return program.children("process.worker")


@pytest.fixture
def pair() -> Iterator[Served]:
    with fleet(2) as served:
        yield served


def whose(served: Served) -> int:
    """Which process answers a request."""
    with Client(served) as client:
        return int(client.get("/").body)


def test_every_worker_serves_and_the_program_ends_with_all_of_them(pair: Served) -> None:
    workers = workers_of(pair)
    assert len(workers) == 2
    assert {whose(pair) for _ in range(4)} == set(workers)
    assert pair.stop() == 0
    assert len(pair.lines("lifespan ended in")) == 2
    stopped = [rf"Worker \d \(pid {pid}\) has stopped" for pid in workers]
    assert [len(pair.lines(line)) for line in [*stopped, "INFO: +Stopped"]] == [1, 1, 1]


def test_a_worker_that_gets_sigterm_is_replaced_before_it_drains(pair: Served) -> None:
    old = workers_of(pair)[0]
    with RawWebSocket(pair) as first, RawWebSocket(pair) as second:
        sockets = {int(one.read_frame()[1]): one for one in (first, second)}
        os.kill(old, signal.SIGTERM)
        pair.wait_for_line(r"Worker \d+ \(pid \d+\) is ready")
        assert sockets[old].close_code() == 1012
    pair.wait_until(lambda: old not in workers_of(pair), "the end of the old worker")
    assert len(workers_of(pair)) == 2
    assert old not in {whose(pair) for _ in range(4)}


def test_a_second_sigterm_ends_a_worker_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with fleet(2, BROKEN=str(broken)) as served:
        old = workers_of(served)[0]
        broken.touch()  # so that no successor comes
        os.kill(old, signal.SIGTERM)
        served.wait_for_line("this application is broken|importing it failed")
        os.kill(old, signal.SIGTERM)
        served.wait_for_line(r"died: exit code 143")


def test_ctrl_c_in_a_terminal_is_the_supervisors_to_act_on(pair: Served) -> None:
    pair.ctrl_c()
    assert pair.wait_for_end() == 0
    assert len(pair.lines("lifespan ended in")) == 2
    assert not pair.lines("Traceback|KeyboardInterrupt")


def test_if_the_supervisor_is_killed_the_workers_drain_and_nobody_keeps_the_port(
    pair: Served,
) -> None:
    with RawWebSocket(pair) as websocket:
        websocket.read_frame()
        pair.send(signal.SIGKILL)
        assert websocket.close_code() == 1012
    pair.wait_until(lambda: not pair.processes(), "the end of the workers")
    pair.wait_for_end()
    assert len(pair.lines("The supervisor is gone")) == 2
    assert len(pair.lines("lifespan ended in")) == 2


def test_if_the_supervisor_is_killed_those_that_still_start_end_at_once() -> None:
    options = ("--workers", "2", "--port", "0")
    with Program("asgiws", APP, *options, SLOW="60") as program:
        program.wait_until(lambda: len(workers_of(program)) == 2, "the start of the workers")
        program.send(signal.SIGKILL)
        program.wait_until(lambda: not program.processes(), "the end of the workers")


@pytest.mark.slow
def test_if_the_supervisor_is_killed_one_that_hangs_ends_as_well() -> None:
    options = ("--timeout-graceful-shutdown", "0.1", "--drain-window", "0")
    with fleet(2, *options) as served, Client(served) as client:
        client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        served.wait_until(lambda: len({whose(served) for _ in range(4)}) == 1, "its hanging")
        served.send(signal.SIGKILL)
        served.wait_until(lambda: not served.processes(), "the end of the workers")
        assert served.lines("The event loop is blocked: ending the process")


def test_a_worker_that_hangs_shows_where_and_is_replaced() -> None:
    with fleet(2, "--timeout-worker-healthcheck", "1") as served:
        client = Client(served)
        client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        served.wait_for_line("hangs: its event loop has not run for 1 s")
        served.wait_for_line(r"fleet_app.py., line \d+ in _http")
        served.wait_for_line("died: killed by SIGABRT; a new one is started")
        served.wait_for_line("is ready")
        client.close()
        assert len({whose(served) for _ in range(4)}) == 2


def test_one_that_is_stopped_gets_no_connections_and_those_on_their_way_go_to_others() -> None:
    with fleet(4, "--timeout-worker-healthcheck", "none") as served:
        stopped = workers_of(served)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            answers = [whose(served) for _ in range(40)]
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert len(answers) == 40
        assert stopped not in answers
        # It is back in the round as soon as its event loop runs.
        served.wait_until(lambda: whose(served) == stopped, "an answer of the one that was stopped")


def test_a_debugger_in_a_worker_is_not_taken_for_a_hanging_loop(tmp_path: Path) -> None:
    (tmp_path / "debugged.py").write_text(
        "import pdb, os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        pdb.set_trace()\n"
        "        print('it goes on', flush=True)\n"
        "        await send({'type': 'http.response.start', 'status': 204})\n"
        "        await send({'type': 'http.response.body'})\n",
        "utf-8",
    )
    read, write = os.pipe()
    options = ("--workers", "2", "--port", "0", "--timeout-worker-healthcheck", "1")
    program = Program(
        "asgiws",
        "debugged:app",
        *options,
        "--lifespan",
        "off",
        cwd=tmp_path,
        preexec=lambda: os.dup2(read, 0),
        pass_fds=(read,),
    )
    os.close(read)
    with program as served:
        served.wait_until_serving()
        client = Client(served)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        served.wait_for_line(r"\(Pdb\)|debugged.py\(5\)")
        # Longer than it may hang.
        begun = time.monotonic()
        served.wait_until(lambda: time.monotonic() - begun > 2.5)
        assert not served.lines("hangs")
        os.write(write, b"continue\n")
        served.wait_for_line("it goes on")
        assert client.read().status == 204
        client.close()
    os.close(write)
