"""A machine that has the systemd units of docs/deploy/systemd.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import chat_app
from .machine import APP, Machine
from .pages import steps


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        for path, content in steps("deploy/systemd", "file").items():
            machine.write(path, content)
        machine.type("deploy/systemd", "user")
        log = "[Service]\nStandardOutput=append:/run/chat.log\nStandardError=inherit\n"
        machine.write("/etc/systemd/system/chat.service.d/log.conf", log)
        machine.write("/srv/chat/main.py", Path(chat_app.__file__).read_text())
        machine.write("/srv/chat/pyproject.toml", f"{APP}header = ['x-read: yes']\n")
        machine.run("ln", "-s", sys.prefix, "/srv/chat/.venv")
        machine.run("chown", "-R", "chat", "/srv/chat")
        yield machine
        print(machine.log())  # shown where the test has failed
