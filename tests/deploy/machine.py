"""A machine with a systemd of its own, made of namespaces: files, processes, control groups.

It needs root, and Debian's systemd. The network is this machine's. The manager is root's
`systemd --user`: it does all that is asked of it here, and lets this machine alone.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from .pages import typed

HERE = Path(__file__).parent
DEADLINE = 30.0
APP = '[tool.asgiws]\napp = "main:app"\n'  # a pyproject.toml, to which options are added
ENVIRONMENT = {
    "PATH": "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/srv",
    "XDG_RUNTIME_DIR": "/run/user/0",
}


class Machine:
    """A context manager; what runs in it ends with it."""

    def __enter__(self) -> Self:
        assert os.geteuid() == 0, "only root can make a machine out of namespaces"
        self._directory = tempfile.TemporaryDirectory(prefix="asgiws-machine")
        self._name = f"asgiws-test-{os.getpid()}-{time.monotonic_ns()}"
        script = ["bash", str(HERE / "outer.sh"), self._name, self._directory.name]
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", *script],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            self.__exit__()
            raise AssertionError(f"the machine does not start: {line!r}")
        children = ["pgrep", "-P", str(self._process.pid)]
        self._pid = subprocess.run(
            children, check=True, capture_output=True, text=True
        ).stdout.strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        # The control groups are empty once the last process has gone.
        tidy = f"mount -t cgroup2 none {self._directory.name} && cd {self._directory.name} && "
        tidy += f"until find {self._name} -depth -type d -exec rmdir {{}} +; do sleep 0.1; done"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", tidy]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=DEADLINE)
        self._directory.cleanup()

    def path(self, inside: str) -> Path:
        """Where a file of the machine is seen from outside."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def write(self, inside: str, content: str, mode: int = 0o644) -> None:
        file = self.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def run(self, *command: str, check: bool = True) -> str:
        """What the command prints, run in the machine by root."""
        inside = ["nsenter", "-t", self._pid, "--mount", "--pid", "--cgroup", "--wd=/srv"]
        done: Any = subprocess.run(
            [*inside, *command],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{self.log()}"
        return str(done.stdout)

    def type(self, page: str, name: str, check: bool = True) -> str:
        """Type the lines of a page in a shell, as root; what is printed."""
        return self.run("bash", "-ec", typed(page, name), check=check)

    def start(self, *command: str) -> None:
        """Run it in the background, until the machine ends."""
        self.run("setsid", "sh", "-c", f"{shlex.join(command)} >/run/started.log 2>&1 </dev/null &")

    def wait_for_port(self, port: int) -> None:
        """Wait until somebody listens on it."""
        end = time.monotonic() + DEADLINE
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert time.monotonic() < end, self.path("/run/started.log").read_text()
            time.sleep(0.05)

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).strip()

    def log(self) -> str:
        """What asgiws has printed."""
        file = self.path("/run/chat.log")
        return file.read_text() if file.exists() else ""
