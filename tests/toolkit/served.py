"""A server in a process of its own, started as a user starts it.

`Served("asgiws", "app:app", ...)` runs `python -m asgiws app:app ...` and waits until it
has printed its URL; `stop()` ends it as a terminal or a service manager does and returns
its exit code. Keyword arguments are environment variables.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "starlette_app"


class Served:
    """One running server; a context manager that leaves no process behind."""

    def __init__(
        self,
        *command: str,
        deadline: float = 20.0,
        preexec: Callable[[], object] | None = None,
        **environment: str,
    ) -> None:
        self.command = command
        self.deadline = deadline
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=preexec,
        )
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            url = self.wait_for_line(r"https?://[^\s/]+:(\d+)")
        except BaseException:
            self.kill()
            raise
        self.port = int(url[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The first match in what the server prints from now on."""
        while True:
            try:
                line = self._lines.get(timeout=self.deadline)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(
                    f"{self.command} never printed {pattern!r}, but:\n{''.join(self.output)}"
                )
            self.output.append(line)
            if match := re.search(pattern, line):
                return match

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return the exit code."""
        self.process.send_signal(how)
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        """The exit code of a server that has been asked to end; ``output`` is complete then."""
        code = self.process.wait(self.deadline)
        self._reader.join(self.deadline)
        while (line := self._lines.get(timeout=self.deadline)) is not None:
            self.output.append(line)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(self.deadline)
        self._reader.join(self.deadline)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.kill()


def serve_example(server: str = "asgiws", port: int = 0, **environment: str) -> Served:
    """The example of the README; `server` is asgiws, or another one that it must run on."""
    command = (server, "app:app", "--app-dir", str(EXAMPLE), "--port", str(port))
    return Served(*command, **environment)
