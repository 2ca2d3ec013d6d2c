"""A real server of some kind: in a directory of its own, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

import pytest

from .elsewhere import Elsewhere

DEADLINE = 10.0


def needs(program: str) -> None:
    """Skip the test if this machine has no such program; CI has it."""
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server(ABC):
    """It can be killed, frozen, and started again where it was."""

    program: str

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """It runs ``elsewhere``, or here."""
        needs(self.program)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.options = options
        self.host = "127.0.0.1" if elsewhere is None else elsewhere.address
        self._inside = [] if elsewhere is None else elsewhere.inside
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @abstractmethod
    def arguments(self) -> list[str]:
        """What stands before the options."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether it can be used."""

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        command = [*self._inside, self.program, *self.arguments(), *self.options, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, f"{self.program} does not answer"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a machine that fails: what was stored stays, and nothing else."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
