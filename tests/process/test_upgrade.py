"""SIGUSR2: the program executed anew under the same process id, with its sockets and workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from asgiws.errors import StartupError
from asgiws.options.config import Config
from asgiws.process import upgrade

from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.served import Served
from ..toolkit.traffic import Traffic
from .test_worker import APP, fleet, whose, workers_of


def executed_anew(served: Program) -> None:
    served.send(signal.SIGUSR2)
    served.wait_for_line("Executing the program anew")
    served.wait_for_line("All workers are replaced")


def test_the_process_stays_and_its_workers_are_new() -> None:
    with fleet(2) as served:
        old = workers_of(served)
        pid, port = served.process.pid, served.port
        executed_anew(served)
        assert served.process.pid == pid
        assert not set(old) & set(workers_of(served))
        assert len(workers_of(served)) == 2
        assert whose(served) in workers_of(served)
        assert served.lines(f":{port} with asgiws")
        assert not served.zombies()
        assert served.stop() == 0


@pytest.mark.slow
def test_it_can_be_done_again_and_again_and_leaks_no_descriptor() -> None:
    with fleet(2) as served:

        def descriptors() -> list[str]:
            return sorted(os.listdir(f"/proc/{served.process.pid}/fd"), key=int)

        executed_anew(served)
        before = len(descriptors())
        for _ in range(2):
            executed_anew(served)
        served.wait_until(lambda: len(descriptors()) <= before, "the same descriptors")
        assert whose(served) in workers_of(served)


@pytest.mark.slow
def test_nobody_notices_it() -> None:
    """Open WebSockets hear of it by 1012 only, requests and handshakes not at all."""
    with fleet(2) as served:
        with RawWebSocket(served) as kept, Traffic(served) as traffic:
            kept.read_frame()
            executed_anew(served)
            assert kept.close_code() == 1012
            new = workers_of(served)
            served.wait_until(lambda: set(new) <= set(traffic.answers), "answers of the new ones")
        assert not traffic.failures


@pytest.mark.slow
def test_a_program_that_would_not_start_changes_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with fleet(2, BROKEN=str(broken)) as served:
        old = workers_of(served)
        broken.touch()
        served.send(signal.SIGUSR2)
        served.wait_for_line(r"The program would not start \(exit code 3\): nothing is changed")
        assert served.lines("^RuntimeError: this application is broken")
        assert workers_of(served) == old
        assert whose(served) in old
        # And it can be tried again.
        broken.unlink()
        executed_anew(served)


@pytest.mark.slow
def test_the_options_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("workers = 2\n")
    with Served("asgiws", APP, "--config", str(file), "--port", "0") as served:
        served.wait_for_count("is ready", 2)
        file.write_text("workers = 1\nserver-header = false\n")
        executed_anew(served)
        assert len(workers_of(served)) == 1
        with Client(served) as client:
            assert "server" not in client.get().headers


@pytest.mark.slow
def test_a_unix_socket_stays_the_programs_own(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    options = ("--workers", "2", "--uds", str(path), "--no-access-log")
    with Served("asgiws", APP, *options) as served:
        served.wait_for_count("is ready", 2)
        executed_anew(served)
        with Client(str(path)) as client:
            assert int(client.get().body) in workers_of(served)
        with Program("asgiws", APP, "--uds", str(path)) as other:
            assert other.wait_for_end() == 4
        assert served.stop() == 0
        assert not path.exists()


@pytest.mark.slow
def test_a_script_is_executed_anew_and_what_stands_behind_the_call_runs_once(
    tmp_path: Path,
) -> None:
    source = Path(__file__).parent / "fleet_app.py"
    (tmp_path / "fleet_app.py").write_text(source.read_text("utf-8"), "utf-8")
    (tmp_path / "script.py").write_text(
        "import asgiws\n"
        'if __name__ == "__main__":\n'
        '    asgiws.run("fleet_app:app", port=0, workers=2)\n'
        '    print("it is over")\n',
        "utf-8",
    )
    with Program("script", cwd=tmp_path) as script:
        script.wait_until_serving()
        executed_anew(script)
        assert not script.lines("it is over")
        assert script.stop() == 0
        assert len(script.lines("it is over")) == 1


def test_sigterm_while_it_is_checked_ends_the_program() -> None:
    with fleet(2) as served:
        served.send(signal.SIGUSR2)
        served.wait_for_line("Checking whether the program can be executed anew")
        assert served.stop() == 0
    assert not served.processes()


@pytest.mark.slow
def test_connections_that_wait_for_a_worker_wait_on() -> None:
    with fleet(2, "--timeout-worker-healthcheck", "none") as served:
        old = workers_of(served)
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
        clients = [Client(served) for _ in range(5)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        served.send(signal.SIGUSR2)
        served.wait_for_line("Executing the program anew")
        for client in clients:
            assert int(client.read().body) not in old
            client.close()
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        served.wait_for_line("All workers are replaced")


def test_a_version_that_shares_something_else_cannot_take_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(upgrade.CHECK, str(upgrade.FORMAT + 1))
    with pytest.raises(StartupError, match="cannot take over"):
        upgrade.check(Config("nothing:app"))
    assert not upgrade.is_check()
