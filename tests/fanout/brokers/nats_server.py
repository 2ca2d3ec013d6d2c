"""Real NATS servers for tests."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from .elsewhere import Elsewhere
from .server import Server


class NatsServer(Server):
    """One nats-server, with JetStream if nothing else is said."""

    program = "nats-server"

    def __init__(
        self,
        folder: Path,
        *options: str,
        config: str = "",
        jetstream: bool = True,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        store = f'jetstream: {{store_dir: "{folder}/store"}}\n' if jetstream else ""
        self._config = f"{store}max_payload: 2MB\n{config}\n"
        super().__init__(folder, *options, elsewhere=elsewhere)

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    def arguments(self) -> list[str]:
        config = self.folder / "config"
        config.write_text(self._config)
        return ["-a", self.host, "-p", str(self.port), "-c", str(config)]

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as sock:
                return sock.recv(4) == b"INFO"
        except OSError:
            return False

    def forget(self) -> None:
        """Throw away what it has stored."""
        shutil.rmtree(self.folder / "store", ignore_errors=True)
