"""docs/deploy/supervisord.md under Debian's Supervisor."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from . import chat_app
from .machine import DEADLINE, Machine
from .pages import file, free_port, put, text, typed

pytestmark = pytest.mark.slow

PAGE = "deploy/supervisord"
CONF = "/etc/supervisor/conf.d/chat.conf"
PYPROJECT = "/srv/chat/pyproject.toml"
LOG = "/var/log/supervisor/chat.log"


class Supervised:
    """A machine with the files of the page, and what is typed there, on a port of its own."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.port = free_port()
        # Where even root cannot have as many descriptors.
        self.files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        self.conf = put(file(PAGE, CONF), "65536", str(self.files))
        machine.write(CONF, self.conf)
        unit = Path("/lib/systemd/system/supervisor.service").read_text()
        machine.write("/etc/systemd/system/supervisor.service", unit)
        machine.type(PAGE, "user")
        machine.write("/srv/chat/main.py", Path(chat_app.__file__).read_text())
        machine.write(PYPROJECT, put(file(PAGE, PYPROJECT), ":8000", f":{self.port}"))
        machine.run("ln", "-s", sys.prefix, "/srv/chat/.venv")
        machine.run("chown", "-R", "chat", "/srv/chat")
        # A machine has its own /run and /var, and the log of the real one is not in it.
        machine.run("mkdir", "-p", "/var/log/supervisor")
        machine.run("rm", "-f", LOG)

    def start(self) -> None:
        self.machine.type(PAGE, "start")

    def type(self, name: str) -> str:
        return self.machine.run("sh", "-c", typed(PAGE, name).replace(":8000", f":{self.port}"))

    def log(self) -> str:
        path = self.machine.path(LOG)
        return path.read_text() if path.exists() else ""

    def wait(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{what} does not come:\n{self.log()}"
            time.sleep(0.05)

    def wait_for(self, pattern: str) -> None:
        self.wait(lambda: re.search(pattern, self.log()), pattern)

    def status(self) -> str:
        return self.machine.run("supervisorctl", "status", "chat", check=False)

    def pid(self) -> str:
        return self.machine.run("supervisorctl", "pid", "chat").strip()

    def ask(self) -> int:
        """The process id of the worker that answers."""
        return int(httpx.get(f"http://127.0.0.1:{self.port}/").json()[0])


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    with Machine() as machine:
        supervised = Supervised(machine)
        yield supervised
        print(supervised.log())  # shown where the test has failed


def test_the_page_as_it_stands(supervised: Supervised) -> None:
    supervised.start()
    supervised.wait_for("Serving on")
    supervised.wait(lambda: "RUNNING" in supervised.status(), "RUNNING")
    status, _, answer = supervised.type("look").partition("\n")
    assert "RUNNING" in status
    assert json.loads(answer)[1] == "http"
    first = supervised.pid()
    limits = supervised.machine.run("cat", f"/proc/{first}/limits")
    assert re.search(rf"Max open files\s+{supervised.files}", limits)
    owner = supervised.machine.run("stat", "--format=%U", f"/proc/{first}")
    assert owner.strip() == "chat"

    before = supervised.ask()
    supervised.type("reload")
    supervised.wait_for("All workers are replaced")
    assert supervised.ask() != before
    supervised.machine.run("truncate", "--size=0", LOG)
    supervised.type("upgrade")
    supervised.wait_for("All workers are replaced")
    assert supervised.pid() == first
    with contextlib.ExitStack() as stack:
        url = f"ws://127.0.0.1:{supervised.port}/"
        websockets = [stack.enter_context(connect(url)) for _ in range(10)]
        supervised.machine.run("supervisorctl", "stop", "chat")
        for websocket in websockets:
            with pytest.raises(ConnectionClosed):
                websocket.recv(DEADLINE)
            assert websocket.close_code == 1012
    assert "STOPPED" in supervised.status()
    main = supervised.machine.path("/var/log/supervisor/supervisord.log").read_text()
    assert re.search(r"stopped: chat \(exit status 0\)", main)
    assert "Traceback" not in supervised.log()


def test_what_goes_wrong_is_what_the_page_says(supervised: Supervised) -> None:
    table = text(PAGE).partition("## What goes wrong")[2].partition("\n## ")[0]
    machine = supervised.machine

    def conf(old: str, new: str) -> None:
        machine.write(CONF, put(supervised.conf, old, new))

    machine.write(PYPROJECT, '[tool.asgiws]\napp = "main:app"\nprot = 1\n')
    supervised.start()
    supervised.wait(lambda: re.search(r"FATAL\s+Exited too quickly", supervised.status()), "FATAL")
    assert "`FATAL`, `Exited too quickly`" in table
    assert "exit status 2" in machine.path("/var/log/supervisor/supervisord.log").read_text()
    conf("/srv/chat/.venv/bin/asgiws", "/srv/chat/nothing/asgiws")
    machine.run("supervisorctl", "update")
    supervised.wait(lambda: "can't find command" in supervised.status(), "FATAL")
    assert "`FATAL`, `can't find command`" in table
    conf(f"minfds={supervised.files}", f"minfds={10**9}")
    said = machine.run("supervisord", "-n", "-c", "/etc/supervisor/supervisord.conf", check=False)
    assert "The minimum number of file descriptors required" in said
    assert "`The minimum number of file descriptors required`" in table
    conf("", "")
    machine.run("userdel", "chat")
    said = machine.run("supervisord", "-n", "-c", "/etc/supervisor/supervisord.conf", check=False)
    assert "Invalid user name chat" in said
    assert "`Invalid user name chat`" in table


def test_one_process_ends_at_hup_and_comes_back(supervised: Supervised) -> None:
    conf = put(file(PAGE, PYPROJECT), "workers = 2", "workers = 1")
    supervised.machine.write(PYPROJECT, put(conf, ":8000", f":{supervised.port}"))
    supervised.start()
    supervised.wait(lambda: "RUNNING" in supervised.status(), "RUNNING")
    first = supervised.ask()
    supervised.type("reload")
    supervised.wait(lambda: "RUNNING" in supervised.status(), "RUNNING")

    def another() -> bool:
        try:
            return supervised.ask() != first
        except httpx.HTTPError:
            return False

    supervised.wait(another, "another process")
