"""The units of docs/deploy/systemd.md under a real systemd."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from ..process import fleet_app
from ..toolkit.crowd import Crowd, skew
from ..toolkit.raw_http import Client, request
from ..toolkit.served import ROOT
from .machine import APP, DEADLINE, Machine
from .pages import file, free_port, listed, put, steps, text

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


def test_the_page_as_it_stands(machine: Machine) -> None:
    page = "deploy/systemd"
    pyproject = "/srv/chat/pyproject.toml"
    machine.write(pyproject, file(page, pyproject))
    machine.type(page, "start")
    pids = {int(pid) for pid in machine.path("/srv/chat/started").read_text().split()}
    assert len(pids) == 2  # the command has waited
    first, _, answer = machine.type(page, "look").partition("\n")
    assert first == steps(page, "printed")["look"].strip()
    assert json.loads(answer)[0] in pids
    assert machine.show("chat.service", "SubState") == "running"
    with contextlib.ExitStack() as stack:
        websockets = [
            stack.enter_context(unix_connect(str(machine.path(SOCKET)), "ws://localhost/"))
            for _ in range(30)
        ]
        machine.systemctl("stop", "chat.service")
        for websocket in websockets:
            with pytest.raises(ConnectionClosed):
                websocket.recv(DEADLINE)
            assert websocket.close_code == 1012
    assert machine.show("chat.service", "Result") == "success"
    log = machine.log()
    assert not re.search("Traceback|ERROR|is replaced", log)


def fails(machine: Machine) -> str:
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "chat.socket")
    said = machine.systemctl("start", "chat.service", check=False)
    assert "Job for chat.service failed" in said
    return f"status={machine.show('chat.service', 'ExecMainStatus')}"


def drop_in(machine: Machine, *lines: str) -> None:
    words = "\n".join(("[Service]", "Restart=no", *lines, ""))
    machine.write("/etc/systemd/system/chat.service.d/zz.conf", words)


def no_program(machine: Machine) -> str:
    drop_in(machine, "ExecStart=", "ExecStart=/srv/chat/nothing/asgiws")
    return fails(machine)


def no_user(machine: Machine) -> str:
    machine.run("userdel", "chat")
    drop_in(machine)
    return fails(machine)


def no_directory(machine: Machine) -> str:
    drop_in(machine, "WorkingDirectory=/srv/nothing")
    return fails(machine)


def wrong_option(machine: Machine) -> str:
    machine.write("/srv/chat/pyproject.toml", f"{APP}prot = 1\n")
    drop_in(machine)
    return fails(machine)


def one_process(machine: Machine) -> str:
    machine.systemctl("start", "chat.socket", "chat.service")
    machine.systemctl("reload", "chat.service")
    end = time.monotonic() + DEADLINE
    while machine.show("chat.service", "ActiveState") == "active":
        assert time.monotonic() < end
    return "`systemctl reload` ends the service"


def no_reload(machine: Machine) -> str:
    drop_in(machine, "ExecReload=")
    machine.systemctl("start", "chat.socket", "chat.service")
    return machine.systemctl("reload", "chat.service", check=False)


def too_often(machine: Machine) -> str:
    drop_in(machine, "Restart=on-failure", "RestartSec=0", "ExecStart=", "ExecStart=/bin/false")
    fails(machine)
    end = time.monotonic() + DEADLINE
    while (result := machine.show("chat.socket", "Result")) == "success":
        assert time.monotonic() < end
        time.sleep(0.05)
    found = re.search(r"`(systemctl reset-failed [^`]+)`, then `([^`]+)`", text("deploy/systemd"))
    assert found is not None
    drop_in(machine)
    machine.systemctl("daemon-reload")
    for command in found.groups():
        machine.run("sh", "-ec", command)
    assert machine.show("chat.service", "ActiveState") == "active"
    return result


def broken_code(machine: Machine) -> str:
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = 2\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    machine.write("/srv/chat/main.py", "raise ValueError\n")
    machine.type("deploy/systemd", "reload")
    end = time.monotonic() + DEADLINE
    while "given up" not in (status := machine.show("chat.service", "StatusText")):
        assert time.monotonic() < end
        time.sleep(0.05)
    return status


def another_address(machine: Machine) -> str:
    machine.write("/srv/chat/pyproject.toml", f"{APP}port = {free_port()}\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    return machine.log()


def a_wrapper(machine: Machine) -> str:
    line = "ExecStart=/bin/sh -c '/srv/chat/.venv/bin/asgiws --port 0; true'"
    drop_in(machine, "Type=exec", "ExecStart=", line)
    machine.systemctl("start", "chat.socket", "chat.service")
    end = time.monotonic() + DEADLINE
    while "Serving on" not in machine.log():
        assert time.monotonic() < end
        time.sleep(0.05)
    return machine.log()


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (no_program, "status=203"),
        (no_user, "status=217"),
        (no_directory, "status=200"),
        (wrong_option, "status=2"),
        (too_often, "service-start-limit-hit"),
        (broken_code, "the last restart was given up"),
        (no_reload, "Job type reload is not applicable"),
        (one_process, "`systemctl reload` ends the service"),
        (another_address, "systemd passed sockets that are not used"),
        (a_wrapper, "LISTEN_FDS names sockets of process"),
    ],
)
def test_what_goes_wrong_is_what_the_page_says(
    cause: Callable[[Machine], str], message: str, machine: Machine
) -> None:
    assert message in cause(machine)
    table = text("deploy/systemd").partition("## What goes wrong")[2].partition("\n## ")[0]
    assert message in table


def test_a_socket_whose_file_or_permissions_are_gone_comes_back_by_a_restart_of_its_unit(
    machine: Machine,
) -> None:
    machine.systemctl("start", "chat.socket", "chat.service")
    machine.run("rm", SOCKET)
    machine.systemctl("start", "chat.socket")  # it is active already
    file = machine.path(SOCKET)
    assert not file.exists()
    for group in ("www-data", "nogroup"):
        drop = f"[Socket]\nSocketGroup={group}\n"
        machine.write("/etc/systemd/system/chat.socket.d/group.conf", drop)
        machine.systemctl("daemon-reload")
        machine.systemctl("restart", "chat.socket")
        assert file.group() == group
        with Client(str(file)) as client:
            client.sock.settimeout(DEADLINE)
            assert client.get().status == 200


def test_an_application_that_blocks_the_event_loop_is_restarted_by_the_watchdog(
    machine: Machine,
) -> None:
    machine.write("/etc/systemd/system/chat.service.d/soon.conf", "[Service]\nWatchdogSec=2\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    file = machine.path(SOCKET)
    with Client(str(file)) as client:
        pid = json.loads(client.get().body)[0]
    # Signs of life come for longer than a server would have had without one, twice.
    began = int(machine.show("chat.service", "ActiveEnterTimestampMonotonic"))
    end = time.monotonic() + DEADLINE
    while int(machine.show("chat.service", "WatchdogTimestampMonotonic")) < began + 4_500_000:
        assert time.monotonic() < end
        time.sleep(0.05)
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


@pytest.mark.parametrize("order", ["reload", "upgrade"])
def test_a_fleet_is_reloaded_without_a_request_that_is_lost(machine: Machine, order: str) -> None:
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = 2\n")
    machine.systemctl("start", "chat.socket", "chat.service")
    main = machine.show("chat.service", "MainPID")
    path = str(machine.path(SOCKET))

    def ask() -> int:
        with Client(path) as client:
            return int(json.loads(client.get().body)[0])

    before = {ask() for _ in range(20)}
    assert len(before) == 2
    assert int(main) not in before
    machine.type("deploy/systemd", order)
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
        machine.write("/etc/systemd/system/chat.socket.d/tcp.conf", f"[Socket]\n{line}\n")
    machine.write("/srv/chat/main.py", Path(fleet_app.__file__).read_text())
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = 4\n")
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
    machine.write("/srv/chat/pyproject.toml", f"{APP}workers = 2\n")
    machine.write("/etc/systemd/system/chat.service.d/soon.conf", "[Service]\nWatchdogSec=2\n")
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
    machine.write("/etc/systemd/system/chat.service.d/once.conf", limit)
    machine.systemctl("daemon-reload")
    said = machine.systemctl("start", "chat.service", check=False)
    assert "Job for chat.service failed" in said
    assert machine.show("chat.service", "ExecMainStatus") == "3"
    assert "no database" in machine.log()


def test_a_start_that_fails_for_a_while_is_tried_until_it_succeeds(machine: Machine) -> None:
    """It takes 15 s: systemd gives up what fails five times in ten."""
    program = machine.path("/srv/chat/main.py").read_text()
    machine.write("/srv/chat/main.py", f"{program}\nopen('/srv/database').close()\n")
    machine.systemctl("start", "chat.socket")
    machine.systemctl("start", "chat.service", check=False)
    end = time.monotonic() + 2 * DEADLINE
    while int(machine.show("chat.service", "NRestarts")) < 6:
        assert time.monotonic() < end
        time.sleep(0.1)
    with Client(str(machine.path(SOCKET))) as waits:
        waits.sock.settimeout(DEADLINE)
        machine.write("/srv/database", "")
        assert waits.get().status == 200


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
