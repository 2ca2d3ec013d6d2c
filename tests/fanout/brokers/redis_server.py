"""Real Redis servers for tests: each in a directory of its own, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

DEADLINE = 10.0


def needs(program: str) -> None:
    """Skip the test if this machine has no such program; CI has it."""
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """One redis-server. It can be killed, frozen, and started again where it was."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        needs("redis-server")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.socket = folder / "s"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        command = ["redis-server", "--dir", str(self.folder), "--bind", "127.0.0.1"]
        command += ["--save", "", "--unixsocket", str(self.socket)]
        if "--tls-port" not in self.options:
            command += ["--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options, *options], stdin=subprocess.DEVNULL, stdout=log
            )
        deadline = time.monotonic() + DEADLINE
        while self.cli("PING") != "PONG":
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def cli(self, *words: str) -> str:
        """What redis-cli answers."""
        command = ["redis-cli", "-s", str(self.socket), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        ).stdout.strip()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a machine that fails: nothing is saved that was not saved already."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
