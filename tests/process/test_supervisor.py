"""The program with several workers: how it starts, spreads, restarts and ends."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from asgiws.options.config import Config
from asgiws.process import channel, inbox
from asgiws.process.child import Child
from asgiws.process.dispatch import Dispatcher, Receiver
from asgiws.process.fleet import Fleet
from asgiws.process.supervisor import ACCEPTS_AT_ONCE, WAITING_MOST, Supervisor

from ..toolkit.certificates import Certificates
from ..toolkit.crowd import Crowd, skew
from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from ..toolkit.served import Served
from ..toolkit.traffic import Traffic
from .test_worker import APP, fleet, whose, workers_of


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 16])
def test_connections_are_even_also_after_a_worker_was_killed_and_replaced(at_once: int) -> None:
    with fleet(4) as served, Crowd(served) as crowd:
        crowd.join(100, at_once)
        workers = workers_of(served)
        assert skew(crowd.counts(), workers) <= 0.1
        os.kill(workers[0], signal.SIGKILL)
        served.wait_for_line(r"Worker 1 \(pid \d+\) died: killed by SIGKILL")
        served.wait_for_line("is ready")
        crowd.forget(workers[0])
        assert len(crowd.open) == 75
        crowd.join(25, at_once)
        assert skew(crowd.counts(), workers_of(served)) <= 0.1


def thousand(stack: ExitStack, how: str, certificates: Certificates, tmp_path: Path) -> Crowd:
    """Four workers that listen in such a way, and who will connect to them."""
    options = ["--workers", "4", "--no-access-log", "--backlog", "1024"]
    fds: tuple[int, ...] = ()
    tls = None
    if how == "unix":
        options += ["--uds", str(tmp_path / "socket")]
    elif how == "fd":
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        fds = (listening.fileno(),)
        options += ["--fd", str(fds[0])]
    else:
        options += ["--port", "0"]
    if how == "tls":
        options += ["--ssl-certfile", certificates.chain, "--ssl-keyfile", certificates.key]
        tls = certificates.client()
    served = stack.enter_context(Served("asgiws", APP, *options, pass_fds=fds, deadline=60.0))
    served.wait_for_count("is ready", 4)
    where = str(tmp_path / "socket") if how == "unix" else served
    return stack.enter_context(Crowd(where, served, **({"tls": tls} if tls else {})))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["tcp", "unix", "tls", "fd"])
@pytest.mark.parametrize(("at_once", "most"), [(1, 0.02), (64, 0.1), (1000, 0.1)])
def test_a_thousand_connections_are_even(
    how: str, at_once: int, most: float, certificates: Certificates, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        crowd = thousand(stack, how, certificates, tmp_path)
        if how == "tls":
            at_once = min(at_once, 200)  # a thousand handshakes take a busy machine too long
        crowd.join(1000, at_once)
        workers = workers_of(crowd.served)
        assert len(crowd.open) == 1000
        assert skew(crowd.counts(), workers) <= most
        os.kill(workers[1], signal.SIGKILL)
        crowd.served.wait_for_line("is ready")
        crowd.forget(workers[1])
        crowd.join(1000 - len(crowd.open), at_once)
        assert len(crowd.open) == 1000
        assert skew(crowd.counts(), workers_of(crowd.served)) <= most


@pytest.mark.slow
def test_while_one_of_four_workers_is_stopped_every_connection_is_answered() -> None:
    with fleet(4, "--timeout-worker-healthcheck", "none") as served, Crowd(served) as crowd:
        crowd.join(40)
        stopped = workers_of(served)[2]
        os.kill(stopped, signal.SIGSTOP)
        crowd.join(200, at_once=16)
        assert len(crowd.open) == 240
        assert crowd.counts()[stopped] == 10
        os.kill(stopped, signal.SIGCONT)
        served.wait_until(lambda: whose(served) == stopped, "an answer of the one that was stopped")


def test_connections_are_even_over_tls(certificates: Certificates) -> None:
    files = ("--ssl-certfile", certificates.chain, "--ssl-keyfile", certificates.key)
    with fleet(3, *files) as served, Crowd(served, tls=certificates.client()) as crowd:
        crowd.join(30, 5)
        assert skew(crowd.counts(), workers_of(served)) <= 0.1


def test_connections_are_even_over_a_unix_socket_whose_file_is_the_supervisors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    options = ("--workers", "3", "--uds", str(path), "--no-access-log")
    with Served("asgiws", APP, *options) as served:
        served.wait_for_count("is ready", 3)
        with Crowd(str(path)) as crowd:
            crowd.join(30, 5)
            assert skew(crowd.counts(), workers_of(served)) <= 0.1
            os.kill(workers_of(served)[0], signal.SIGKILL)
            served.wait_for_count("is ready", 4)
            assert path.exists()
        assert served.stop() == 0
    assert not path.exists()


def test_connections_are_even_over_a_socket_that_somebody_else_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        fd = listening.fileno()
        options = ("--workers", "3", "--fd", str(fd), "--no-access-log")
        with Served("asgiws", APP, *options, pass_fds=(fd,)) as served:
            served.wait_for_count("is ready", 3)
            with Crowd(served) as crowd:
                crowd.join(30, 5)
                assert skew(crowd.counts(), workers_of(served)) <= 0.1


@pytest.mark.slow
def test_who_waits_while_the_only_worker_is_replaced_is_answered_by_the_next_one() -> None:
    with fleet(2, SLOW="0.5") as served:
        for pid in workers_of(served):
            os.kill(pid, signal.SIGKILL)
        assert whose(served) in workers_of(served)


@pytest.mark.slow
def test_a_worker_that_exits_or_crashes_takes_nobody_with_it() -> None:
    with fleet(3) as served, Crowd(served) as crowd:
        crowd.join(9)
        gone = []
        for path in ("/exit", "/segfault"):
            with Client(served) as client:
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                assert client.rest() == b""
            line = served.wait_for_line(r"\(pid (\d+)\) died: (exit code 7|killed by SIGSEGV)")
            gone.append(int(line[1]))
            served.wait_for_line("is ready")
        for pid, one in crowd.open:
            if pid not in gone:
                one.send(b"\x81\x82\0\0\0\0hi")
                assert one.read_frame() == (1, b"hi")


def test_a_start_that_fails_ends_the_program_with_its_words_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    options = ("--workers", "4", "--port", "0")
    with Program("asgiws", APP, *options, BROKEN=str(broken)) as program:
        assert program.wait_for_end() == 3
        assert len(program.lines("^RuntimeError: this application is broken")) == 1
        assert len(program.lines("^Error: ")) == 1
        assert not program.lines("Serving on")


@pytest.mark.slow
def test_a_crash_loop_is_slowed_down_and_ended_when_it_is_mended(tmp_path: Path) -> None:
    die = tmp_path / "die"
    with fleet(2, DIE=str(die)) as served:
        die.touch()
        os.kill(workers_of(served)[0], signal.SIGKILL)
        served.wait_for_line(r"died: exit code 9; a new one is started in 1 s")
        assert whose(served)
        die.unlink()
        served.wait_for_line("is ready")
        served.wait_until(lambda: len(workers_of(served)) == 2)


@pytest.mark.slow
def test_a_rolling_restart_loses_no_request_and_no_handshake() -> None:
    with fleet(3) as served:
        old = workers_of(served)
        with Traffic(served, requests=2) as traffic:
            served.send(signal.SIGHUP)
            served.wait_for_line("All workers are replaced")
            new = workers_of(served)
            served.wait_until(lambda: set(new) <= set(traffic.answers), "answers of the new ones")
        assert not traffic.failures
        assert not set(old) & set(new)


@pytest.mark.slow
def test_a_restart_with_a_broken_application_leaves_the_old_workers_serving(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken"
    with fleet(2, BROKEN=str(broken)) as served:
        old = workers_of(served)
        broken.touch()
        served.send(signal.SIGHUP)
        served.wait_for_line("the old workers go on serving")
        assert served.lines("this application is broken")
        served.wait_until(lambda: {whose(served) for _ in range(4)} == set(old), "answers")
        broken.unlink()
        served.send(signal.SIGHUP)
        served.wait_for_line("All workers are replaced")
        assert not {whose(served) for _ in range(4)} & set(old)


def test_a_restart_reads_the_options_anew_and_refuses_wrong_ones(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("workers = 2\nserver-header = true\n")
    options = (APP, "--config", str(file), "--port", "0", "--no-access-log")
    with Served("asgiws", *options) as served:
        served.wait_for_count("is ready", 2)
        old = workers_of(served)
        file.write_text("workers = 0\n")
        served.send(signal.SIGHUP)
        served.wait_for_line(r"workers.*nothing is restarted")
        assert workers_of(served) == old
        file.write_text("workers = 3\nserver-header = false\n")
        served.send(signal.SIGHUP)
        served.wait_for_line("All workers are replaced")
        assert len(workers_of(served)) == 3
        with Client(served) as client:
            assert "server" not in client.get().headers


def test_workers_are_added_and_taken_away_by_signals() -> None:
    with fleet(2) as served:
        served.send(signal.SIGTTIN)
        served.wait_until(lambda: len(workers_of(served)) == 3, "a third worker")
        served.wait_for_count("is ready", 3)
        for left in (2, 1):
            served.send(signal.SIGTTOU)
            served.wait_until(lambda left=left: len(workers_of(served)) == left, "one less")
        assert whose(served) == workers_of(served)[0]


def test_the_second_signal_ends_everything_at_once() -> None:
    with fleet(2) as served:
        with Client(served) as client:
            client.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
            served.send(signal.SIGTERM)
            served.wait_until(lambda: served.lines("lifespan ended in"), "the end of the idle one")
            served.send(signal.SIGTERM)
            assert served.wait_for_end() == 143
        assert not served.processes()


def test_requests_in_progress_are_finished_at_the_end() -> None:
    with fleet(2) as served:
        clients = [Client(served) for _ in range(4)]
        for client in clients:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        served.send(signal.SIGTERM)
        for client in clients:
            assert client.read().status == 200
            client.close()
        assert served.wait_for_end() == 0


@pytest.mark.slow
def test_no_zombie_is_left_of_those_that_died() -> None:
    with fleet(2) as served:
        for started in (3, 4, 5):
            os.kill(workers_of(served)[0], signal.SIGKILL)
            served.wait_for_count("is ready", started)
        served.wait_until(lambda: not served.zombies(), "the reaping")


def test_with_one_worker_there_is_no_supervisor() -> None:
    with Served("asgiws", APP, "--port", "0") as served:
        assert len(served.processes()) == 1


def test_web_concurrency_is_the_default_number_of_workers() -> None:
    with Served("asgiws", APP, "--port", "0", WEB_CONCURRENCY="2") as served:
        served.wait_for_count("is ready", 2)
        assert len(workers_of(served)) == 2


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_ends_at_once_while_the_application_is_being_imported(
    how: signal.Signals, status: int
) -> None:
    options = ("--workers", "2", "--port", "0")
    with Program("asgiws", APP, *options, SLOW="60") as program:
        program.wait_until(lambda: len(workers_of(program)) == 2, "the start of the workers")
        assert program.stop(how) == status
        assert not program.lines("WARNING|ERROR|Traceback")
    assert not program.processes()


def test_ctrl_c_tells_how_to_end_a_shutdown_that_takes_long() -> None:
    with fleet(2, "--timeout-graceful-shutdown", "3600") as served, Client(served) as client:
        client.send(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.wait_for_line("app: hangs")
        served.ctrl_c()
        served.wait_for_line("once more Ctrl-C ends the process at once")
        served.ctrl_c()
        assert served.wait_for_end() == 130
    assert not served.processes()


def test_the_end_of_a_worker_may_be_known_before_that_of_its_channel_is_seen() -> None:
    config = Config("app:app", workers=2)
    supervisor = Supervisor(config)
    fleet = Fleet(config, [], Dispatcher())
    supervisor._fleet = fleet
    fleet.on_end = supervisor._forget

    def start() -> int:
        """A worker that ends at once; the descriptor of its channel."""
        near, far = channel.pair()
        seat = fleet.board.seat(0)
        child = Child(0, 1, os.getpid(), seat, Receiver(seat, *inbox.pair()), near, 0, 0.0)
        fleet.children.append(child)
        supervisor._follow(child)
        far.close()
        return near.fileno()

    first = start()
    events = supervisor._selector.select(0)
    fleet.ended(fleet.children[0], 0, 0.0)
    # The descriptor has the same number as that of the next one.
    assert start() == first
    for key, _ in events:
        supervisor._meet(key)
    assert not fleet.children[0].channel.over
    fleet.ended(fleet.children[0], 0, 0.0)
    supervisor._selector.close()
    fleet.board.close()


@pytest.mark.slow
def test_signals_of_all_kinds_at_once_leave_as_many_workers_as_are_wanted() -> None:
    with fleet(3) as served:
        for _ in range(8):
            for how in (
                signal.SIGTTIN,
                signal.SIGTTOU,
                signal.SIGHUP,
                signal.SIGTTOU,
                signal.SIGTTIN,
            ):
                served.send(how)
                time.sleep(0.02)
        served.wait_for_line("All workers are replaced")
        served.wait_until(lambda: len(workers_of(served)) == 3, "three workers")
        assert whose(served) in workers_of(served)
        assert served.stop() == 0
        assert not served.lines("ERROR|Traceback")


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_without_descriptors_connections_wait_and_workers_are_replaced_later() -> None:
    with fleet(2) as served:
        pid = served.process.pid
        before, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        most = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most + 1, hard))
        with Client(served) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            served.wait_for_line("Cannot accept connections for now: Too many open files")
            begun, used = time.monotonic(), cpu_seconds(pid)
            served.wait_until(lambda: time.monotonic() > begun + 1.0)
            assert cpu_seconds(pid) - used < 0.5, "it tries again and again without a pause"
            os.kill(workers_of(served)[0], signal.SIGKILL)
            served.wait_for_line("Cannot start a worker for now: Too many open files")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (before, hard))
            assert client.read().status == 200
        served.wait_for_line("is ready")
        served.wait_until(lambda: len({whose(served) for _ in range(4)}) == 2, "two that answer")


@pytest.mark.slow
def test_a_program_that_was_stopped_and_goes_on_takes_nobody_for_hanging() -> None:
    with fleet(2, "--timeout-worker-healthcheck", "2") as served:
        workers = workers_of(served)
        for pid in (*workers, served.process.pid):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3)  # longer than a worker may hang
        # The supervisor is the first to go on, and looks at the workers.
        before = waits_of(served.process.pid)
        served.send(signal.SIGCONT)
        served.wait_until(lambda: waits_of(served.process.pid) >= before + 2, "its look")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        served.wait_until(lambda: {whose(served) for _ in range(4)} == set(workers), "answers")
        assert not served.lines("hangs")


def waits_of(pid: int) -> int:
    """How often a process has begun to wait for something."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def stays(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return whether ``condition`` was true at twenty looks in a row, and not for a moment only."""
    looks: deque[bool] = deque([False], 20)

    def look() -> bool:
        looks.append(condition())
        return looks.count(True) == 20

    return look


def test_what_nobody_can_take_waits_in_the_kernel_beyond_a_bound() -> None:
    with fleet(2, "--timeout-worker-healthcheck", "none", "--backlog", "1000") as served:
        workers = workers_of(served)
        held = f"/proc/{served.process.pid}/fd"
        before = len(os.listdir(held))
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        clients = []
        try:
            for number in range(WAITING_MOST + 2 * ACCEPTS_AT_ONCE + 50):
                clients.append(Client(served))
                clients[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                if not number:
                    # It is taken back out of an inbox: now it is known that all stand still.
                    served.wait_until(stays(lambda: len(os.listdir(held)) > before), "its return")
            served.wait_until(lambda: len(os.listdir(held)) >= before + WAITING_MOST, "the bound")
            assert len(os.listdir(held)) < before + WAITING_MOST + 2 * ACCEPTS_AT_ONCE
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        for client in clients:
            assert int(client.read().body) in workers
            client.close()


def test_what_waits_in_the_backlog_when_the_end_comes_is_answered() -> None:
    with fleet(2) as served:
        served.send(signal.SIGSTOP)
        clients = [Client(served) for _ in range(3 * ACCEPTS_AT_ONCE)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        served.send(signal.SIGTERM)
        served.send(signal.SIGCONT)
        for client in clients:
            assert client.read().status == 200
            client.close()
        assert served.wait_for_end() == 0
