"""The units of docs/deployment.md under a real systemd."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import subprocess
import sys
import time

import pytest

from ..toolkit.raw_http import Client, request
from ..toolkit.served import ROOT
from .machine import DEADLINE, Machine
from .pages import free_port, listed

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
    reload = f"[Service]\n{listed('ExecReload=')}\n"
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
