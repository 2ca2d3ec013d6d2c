"""As process 1 of a container, made of a namespace of processes. It needs root."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from ..toolkit.program import ROOT
from ..toolkit.raw_http import Client
from .machine import DEADLINE

pytestmark = pytest.mark.slow

APP = """
import json, os, subprocess

async def app(scope, receive, send):
    if scope["path"] == "/daemon":
        # Its parent ends at once, so that process 1 inherits it.
        subprocess.run(["sh", "-c", "(exit 7) & (kill -SEGV $$) & (sleep 0.2; exit 3) &"])
    states = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                states[name] = file.read().rpartition(")")[2].split()[0]
        except OSError:
            pass  # it has just ended
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(states).encode()})
"""


def test_strangers_are_buried_in_silence_and_sigterm_ends_it(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        fd = listening.fileno()
        namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        options = ["--workers", "2", "--lifespan", "off", "--no-access-log", "--fd", str(fd)]
        container = subprocess.Popen(
            [*namespace, sys.executable, "-m", "asgiws", "main:app", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(fd,),
        )

    where: Any = Namespace(port=port)

    def states(path: str = "/") -> dict[str, str]:
        with Client(where) as client:
            return dict(json.loads(client.get(path).body))

    try:
        assert set(states("/daemon")) >= {"1", "2", "3"}
        end = time.monotonic() + DEADLINE
        while set(found := states()) != {"1", "2", "3"}:
            assert time.monotonic() < end, found
            time.sleep(0.05)
        children = ["pgrep", "-P", str(container.pid)]
        first = subprocess.run(children, check=True, capture_output=True, text=True).stdout
        os.kill(int(first), signal.SIGTERM)
        assert container.wait(DEADLINE) == 0
        assert container.stderr is not None
        with container.stderr as log:
            assert "ERROR" not in (text := log.read()), text
    finally:
        container.kill()
