"""The units of docs/deploy/systemd.md under a real systemd."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from ..process import fleet_app
from ..toolkit.crowd import Crowd, skew
from ..toolkit.raw_http import Client, request
from ..toolkit.served import ROOT
from .machine import DEADLINE, Machine
from .pages import free_port, listed, put

pytestmark = pytest.mark.slow

SOCKET = "/run/chat/chat.sock"


def test_a_service_with_a_socket_unit_starts_serves_restarts_and_stops(machine: Machine) -> None:
    machine.systemctl("start", "chat.socket", "chat.service")
    assert machine.show("chat.service", "ActiveState") == "active"
    # `start` has waited for the application.
    pid = machine.path("/srv/chat/started").read_text().strip()
    assert machine.show("chat.service", "MainPID") == pid
    assert machine.show("chat.service", "StatusText") == f"Serving on unix:{SOCKET}"
    file = machine.path(SOCKET)
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    assert file.group() == "www-data"
    with Client(str(file)) as client:
        reply = client.get()
        assert json.loads(reply.body) == [int(pid), "http", None]
        assert reply.headers["x-read"] == "yes"
    machine.systemctl("stop", "chat.service")
    with Client(str(file)) as client:  # waits in systemd's socket, which starts it again
        assert json.loads(client.get().body)[0] != int(pid)
    machine.systemctl("stop", "chat.socket", "chat.service")
    assert machine.show("chat.service", "Result") == "success"
    assert "Traceback" not in machine.log()


def test_an_application_that_blocks_the_event_loop_is_restarted_by_the_watchdog(
    machine: Machine,
) -> None:
    machine.write("/etc/systemd/user/chat.service.d/soon.conf", "[Service]\nWatchdogSec=2\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    file = machine.path(SOCKET)
    with Client(str(file)) as client:
        pid = json.loads(client.get().body)[0]
    time.sleep(5)  # the time that a server which gives no sign of life would have had, twice
    with Client(str(file)) as client:
        assert json.loads(client.get().body)[0] == pid
    with Client(str(file)) as client, Client(str(file)) as waits:
        client.send(request("Host: a", target="/hang"))
        waits.sock.settimeout(DEADLINE)
        assert client.sock.recv(1) == b""
        waits.sock.close()
    with Client(str(file)) as client:
        client.sock.settimeout(DEADLINE)
        assert json.loads(client.get().body)[0] != pid
    assert machine.show("chat.service", "NRestarts") == "1"


@pytest.mark.parametrize(
    "order", [["reload"], ["kill", "--signal=USR2", "--kill-who=main"]], ids=["reload", "upgrade"]
)
def test_a_fleet_is_reloaded_without_a_request_that_is_lost(
    machine: Machine, order: list[str]
) -> None:
    machine.write("/srv/chat/pyproject.toml", "[tool.asgiws]\nworkers = 2\n")
    reload = f"[Service]\n{listed('deploy/systemd', 'ExecReload=')}\n"
    machine.write("/etc/systemd/user/chat.service.d/reload.conf", reload)
    machine.systemctl("start", "chat.socket", "chat.service")
    main = machine.show("chat.service", "MainPID")
    path = str(machine.path(SOCKET))

    def ask() -> int:
        with Client(path) as client:
            return int(json.loads(client.get().body)[0])

    before = {ask() for _ in range(20)}
    assert len(before) == 2
    assert int(main) not in before
    machine.systemctl(*order, "chat.service")
    end = time.monotonic() + DEADLINE
    recent = [*before]
    while before.intersection(recent) or machine.show("chat.service", "SubState") != "running":
        assert time.monotonic() < end
        recent = [ask() for _ in range(20)]
    assert len(set(recent)) == 2
    assert machine.show("chat.service", "MainPID") == main
    assert machine.show("chat.service", "StatusText").startswith(f"Serving on unix:{SOCKET}")
    machine.systemctl("stop", "chat.service")
    assert machine.show("chat.service", "Result") == "success"
    assert "Traceback" not in machine.log()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_thousand_websockets_of_a_socket_unit_are_even(kind: str, machine: Machine) -> None:
    """One after the other, 64 at a time and all at once, also after a worker was killed.

    Each of the two takes 22 s on two busy cores.
    """
    where: Any = str(machine.path(SOCKET))
    if kind == "tcp":
        where = Namespace(port=free_port())
        line = put(
            listed("deploy/systemd", "ListenStream="), "127.0.0.1:8000", f"127.0.0.1:{where.port}"
        )
        machine.write("/etc/systemd/user/chat.socket.d/tcp.conf", f"[Socket]\n{line}\n")
    machine.write("/srv/chat/main.py", Path(fleet_app.__file__).read_text())
    machine.write("/srv/chat/pyproject.toml", "[tool.asgiws]\nworkers = 4\n")
    machine.systemctl("start", "chat.socket")
    ready = 0

    def wait_for_workers(more: int) -> None:
        nonlocal ready
        ready += more
        end = time.monotonic() + DEADLINE
        while machine.log().count(" is ready") < ready:
            assert time.monotonic() < end
            time.sleep(0.05)

    for at_once, most in ((1, 0.02), (64, 0.1), (1000, 0.1)):
        machine.systemctl("restart", "chat.service")
        wait_for_workers(4)
        with Crowd(where) as crowd:
            crowd.join(1000, at_once)
            workers = set(crowd.counts())
            assert len(workers) == 4
            assert skew(crowd.counts(), workers) <= most
            killed = min(workers)
            machine.run("kill", "-KILL", str(killed))
            crowd.forget(killed)
            wait_for_workers(1)
            crowd.join(1000 - len(crowd.open), at_once)
            assert killed not in crowd.counts()
            assert len(crowd.counts()) == 4
            assert skew(crowd.counts(), crowd.counts()) <= most


def test_a_supervisor_that_hangs_is_restarted_by_the_watchdog(machine: Machine) -> None:
    machine.write("/srv/chat/pyproject.toml", "[tool.asgiws]\nworkers = 2\n")
    machine.write("/etc/systemd/user/chat.service.d/soon.conf", "[Service]\nWatchdogSec=2\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    main = machine.show("chat.service", "MainPID")
    machine.run("kill", "-STOP", main)
    with Client(str(machine.path(SOCKET))) as client:
        client.sock.settimeout(DEADLINE)
        assert client.get().status == 200
    assert machine.show("chat.service", "MainPID") != main
    assert machine.show("chat.service", "NRestarts") == "1"


def test_a_start_that_fails_is_a_unit_that_failed(machine: Machine) -> None:
    machine.write("/srv/chat/main.py", "raise RuntimeError('no database')\n")
    machine.systemctl("start", "chat.socket")
    limit = "[Service]\nRestart=no\n"
    machine.write("/etc/systemd/user/chat.service.d/once.conf", limit)
    machine.systemctl("daemon-reload")
    said = machine.systemctl("start", "chat.service", check=False)
    assert "Job for chat.service failed" in said
    assert machine.show("chat.service", "ExecMainStatus") == "3"
    assert "no database" in machine.log()


def test_systemd_socket_activate_hands_its_sockets_over() -> None:
    """The tool that tries socket units out; it needs no systemd that runs."""
    port = free_port()
    tool = shutil.which("systemd-socket-activate")
    assert tool is not None
    app = "tests.toolkit.apps:tell_address"
    command = [tool, "-l", f"127.0.0.1:{port}", sys.executable, "-m", "asgiws", app]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "Listening on" in process.stderr.readline()
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(request("Host: localhost", "Connection: close"))
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        assert str(port).encode() in answer
        process.terminate()
        assert f"Serving on http://127.0.0.1:{port} " in process.communicate(timeout=DEADLINE)[1]
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
