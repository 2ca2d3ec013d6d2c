"""A program in a process of its own, and every process that it starts.

`Program("asgiws", "app:app", ...)` runs `python -m asgiws app:app ...`. What it prints is
collected, line by line; `processes()` are those that belong to it, also after the one
that started them is gone. Keyword arguments are environment variables.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = "PROGRAM_OF_A_TEST"  # a variable that all processes of one program have


class Program:
    """One running program; a context manager that leaves no process behind.

    ``output`` holds the lines that it has printed so far, on stdout and stderr.
    """

    def __init__(
        self,
        *command: str,
        deadline: float = 20.0,
        cwd: Path = ROOT,
        pass_fds: Sequence[int] = (),
        preexec: Callable[[], object] | None = None,
        **environment: str,
    ) -> None:
        self.command = command
        self.deadline = deadline
        self.port = 0
        self.output: list[str] = []
        self._looked_at = 0
        self._over = False
        self._news = threading.Condition()
        self._mark = f"{MARK}={uuid.uuid4()}".encode()
        mark = dict([self._mark.decode().split("=")])
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **mark, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
            preexec_fn=preexec,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # --- What it prints ---

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self.output.append(line)
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The first match in what it prints from now on: behind the last one waited for."""
        until = time.monotonic() + self.deadline
        with self._news:
            while True:
                while self._looked_at < len(self.output):
                    self._looked_at += 1
                    if match := re.search(pattern, self.output[self._looked_at - 1]):
                        return match
                self._wait(until, pattern)

    def wait_for_count(self, pattern: str, count: int) -> list[str]:
        """Wait until so many lines match, of all that it ever printed; they are returned."""
        until = time.monotonic() + self.deadline
        with self._news:
            while len(found := self._matching(pattern)) < count:
                self._wait(until, pattern)
            return found

    def _wait(self, until: float, pattern: str) -> None:
        left = until - time.monotonic()
        if self._over or left <= 0:
            raise AssertionError(
                f"{self.command} never printed {pattern!r}, but:\n{''.join(self.output)}"
            )
        self._news.wait(left)

    def _matching(self, pattern: str) -> list[str]:
        return [line for line in self.output if re.search(pattern, line)]

    def lines(self, pattern: str = "") -> list[str]:
        """The lines that match, of all that it printed until now."""
        with self._news:
            return self._matching(pattern)

    # --- Where it serves ---

    def wait_until_serving(self) -> None:
        """Wait until it has printed its URL; ``port`` is known then."""
        url = self.wait_for_line(r"Serving on unix:|https?://[^\s/]+:(\d+)")
        self.port = int(url[1] or 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    # --- Its processes ---

    def processes(self) -> dict[int, str]:
        """The processes that belong to it and live: what runs in each, by process id."""
        found = {}
        for pid in _pids():
            with suppress(OSError):
                if self._mark in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0"):
                    words = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
                    found[pid] = " ".join(os.fsdecode(word) for word in words).strip()
        # Between fork and exec a child looks like its parent, and a zombie has no command.
        return {pid: command for pid, command in found.items() if command}

    def children(self, what: str = "") -> list[int]:
        """The process ids of those that it started and that live, eldest first.

        ``what`` is a part of the command line, as in ``children("process.worker")``.
        """
        return sorted(
            pid
            for pid, command in self.processes().items()
            if pid != self.process.pid and what in command
        )

    def zombies(self) -> list[int]:
        """Children that have ended, and that it has not reaped."""
        return [
            pid
            for pid in _pids()
            if (status := _status(pid)) and status[0] == "Z" and int(status[1]) == self.process.pid
        ]

    def wait_until(self, condition: Callable[[], Any], what: str = "it") -> Any:
        """Wait until ``condition`` gives something true, which is returned."""
        until = time.monotonic() + self.deadline
        while not (value := condition()):
            if time.monotonic() > until:
                raise AssertionError(f"{what} does not happen:\n{''.join(self.output)}")
            threading.Event().wait(0.01)
        return value

    # --- Its end ---

    def send(self, how: signal.Signals) -> None:
        """Send a signal to the process that was started, and to no other."""
        self.process.send_signal(how)

    def ctrl_c(self) -> None:
        """Interrupt it as a terminal does: all of its processes at the same time."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return the exit code."""
        self.send(how)
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        """The exit code of a program that has been asked to end; ``output`` is complete then."""
        code = self.process.wait(self.deadline)
        self._reader.join(self.deadline)
        assert self._over, f"a process that it started goes on: {self.processes()}"
        return code

    def kill(self) -> None:
        """End all of its processes at once."""
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
        self.process.wait(self.deadline)
        self._reader.join(self.deadline)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: state, parent, group, ..."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
