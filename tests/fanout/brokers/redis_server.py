"""Real Redis servers for tests."""

from __future__ import annotations

import subprocess

from .server import DEADLINE, Server


class RedisServer(Server):
    """One redis-server."""

    program = "redis-server"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def arguments(self) -> list[str]:
        self.socket = self.folder / "s"
        arguments = ["--dir", str(self.folder), "--bind", self.host]
        arguments += ["--save", "", "--unixsocket", str(self.socket)]
        if "--tls-cert-file" in self.options:
            return [*arguments, "--port", "0", "--tls-port", str(self.port)]
        return [*arguments, "--port", str(self.port)]

    def answers(self) -> bool:
        return self.cli("PING") == "PONG"

    def cli(self, *words: str) -> str:
        """What redis-cli answers."""
        command = ["redis-cli", "-s", str(self.socket), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        ).stdout.strip()
