"""Real NATS servers for tests: each in a directory of its own, ended by its process id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .redis_server import DEADLINE, free_port, needs


class NatsServer:
    """One nats-server with JetStream. It can be killed, frozen, and started again where it was."""

    def __init__(self, folder: Path, *options: str, config: str = "") -> None:
        needs("nats-server")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.options = options
        (folder / "config").write_text(
            f'jetstream: {{store_dir: "{folder}/store"}}\nmax_payload: 2MB\n{config}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port)]
        command += ["-c", str(self.folder / "config"), *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "nats-server does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                return sock.recv(4) == b"INFO"
        except OSError:
            return False

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once; its store stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Throw away what it has stored."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)

    def __enter__(self) -> NatsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
