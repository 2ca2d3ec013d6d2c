"""docs/deploy/paas.md: its commands, in a shell and under honcho; no platform is reached."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..toolkit.program import ROOT
from .pages import file, free_port, text, typed
from .test_containers import options

PAGE = "deploy/paas"
DEADLINE = 20.0
APP = """
async def app(scope, receive, send):
    await receive()
    if scope["type"] == "http":
        body = f"{scope['scheme']} {scope['client'][0]}".encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
"""


def procfile() -> str:
    (command,) = re.findall(r"^web: (.*)$", file(PAGE, "Procfile"), re.MULTILINE)
    return str(command)


def render() -> dict[str, object]:
    (service,) = yaml.safe_load(file(PAGE, "render.yaml"))["services"]
    return dict(service)


def fly() -> dict[str, object]:
    return tomllib.loads(file(PAGE, "fly.toml"))


def railway() -> dict[str, object]:
    return dict(json.loads(file(PAGE, "railway.json"))["deploy"])


def cloud_run() -> dict[str, str]:
    words = shlex.split(typed(PAGE, "cloud-run"))
    pairs = zip(words, [*words[1:], ""], strict=True)
    found = {word: following for word, following in pairs if word.startswith("--")}
    (args,) = (word.removeprefix("--args=") for word in words if word.startswith("--args="))
    return {**found, "command": f"{found['--command']} {args.replace(',', ' ')}"}


#: Each command, and the seconds between SIGTERM and SIGKILL.
COMMANDS = {
    "Heroku": (procfile(), 30),
    "Render": (str(render()["startCommand"]), render()["maxShutdownDelaySeconds"]),
    "Fly.io": (str(fly()["processes"]["app"]), str(fly()["kill_timeout"]).removesuffix("s")),  # type: ignore[index]
    "Railway": (str(railway()["startCommand"]), railway()["drainingSeconds"]),
    "Cloud Run": (cloud_run()["command"], 10),
}


@pytest.mark.parametrize("platform", COMMANDS)
def test_the_end_is_over_before_the_platform_kills(platform: str) -> None:
    command, seconds = COMMANDS[platform]
    told = options(command.split())
    needed = float(told["drain-window"]) + 2 * float(told["timeout-graceful-shutdown"]) + 1
    assert needed < float(str(seconds))


def test_what_the_files_say_fits_together() -> None:
    (row,) = re.findall(r"^\| Heroku \|.*\|$", text(PAGE), re.MULTILINE)
    assert row.endswith("| 30 s |")
    assert re.search(r"^\| Cloud Run \|.*\| 10 s \|$", text(PAGE), re.MULTILINE)
    config = fly()
    assert config["kill_signal"] == "SIGTERM"
    port = config["http_service"]["internal_port"]  # type: ignore[index]
    assert options(COMMANDS["Fly.io"][0].split())["bind"] == f":{port}"
    assert options(COMMANDS["Cloud Run"][0].split())["bind"] == f":{cloud_run()['--port']}"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Where ``asgiws`` is a command, as it is where it was installed."""
    program = folder / "bin" / "asgiws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m asgiws "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **more}


@contextlib.contextmanager
def started(command: list[str], folder: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """It runs in a session of its own; the log is the file "log"."""
    (folder / "main.py").write_text(APP)
    told = environment(folder, **more)
    (folder / "pyproject.toml").write_text(file(PAGE, "pyproject.toml"))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [shutil.which(command[0], path=told["PATH"]) or command[0], *command[1:]],
            cwd=folder,
            env=told,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)
            print((folder / "log").read_text())  # shown where the test has failed


def answer(port: int, folder: Path, **headers: str) -> str:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", headers=headers).text
        except httpx.TransportError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)


def crowd(stack: contextlib.ExitStack, port: int) -> list[ClientConnection]:
    return [stack.enter_context(connect(f"ws://127.0.0.1:{port}/")) for _ in range(10)]


def all_see_1012(websockets: list[ClientConnection]) -> None:
    for websocket in websockets:
        with pytest.raises(ConnectionClosed):
            websocket.recv(DEADLINE)
        assert websocket.close_code == 1012


@pytest.mark.slow
@pytest.mark.parametrize("platform", COMMANDS)
def test_a_command_listens_where_it_is_told_and_ends_on_sigterm_to_all(
    platform: str, tmp_path: Path
) -> None:
    port = free_port()
    command = COMMANDS[platform][0].replace(":8000", f":{port}")
    in_shell = '":$PORT"' in command
    assert in_shell or f":{port}" in command
    command = re.sub(r"--drain-window[ =]\d+", "--drain-window=1", command)  # to be done soon
    words = ["sh", "-c", command] if in_shell else shlex.split(command)
    more = {"PORT": str(port), "WEB_CONCURRENCY": "2"}
    with started(words, tmp_path, **more) as process, contextlib.ExitStack() as all:
        assert answer(port, tmp_path) == "http 127.0.0.1"
        websockets = crowd(all, port)
        os.killpg(process.pid, signal.SIGTERM)
        all_see_1012(websockets)
        assert process.wait(DEADLINE) == 0
    log = (tmp_path / "log").read_text()
    assert "2 workers" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_the_procfile_under_honcho(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "Procfile").write_text(file(PAGE, "Procfile"))
    command = typed(PAGE, "honcho").replace("5000", str(port)).split()
    words = [sys.executable, "-m", *command]
    with started(words, tmp_path) as process, contextlib.ExitStack() as all:
        assert answer(port, tmp_path)
        websockets = crowd(all, port)
        process.send_signal(signal.SIGTERM)
        all_see_1012(websockets)
        process.wait(DEADLINE)
    log = (tmp_path / "log").read_text()
    assert "Stopped" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_the_client_is_the_last_public_address_and_cannot_be_forged(tmp_path: Path) -> None:
    trusted = tomllib.loads(file(PAGE, "pyproject.toml"))["tool"]["asgiws"]["forwarded-allow-ips"]
    port = free_port()
    more = {"PORT": str(port), "ASGIWS_FORWARDED_ALLOW_IPS": f"127.0.0.1,{trusted}"}
    with started(["sh", "-c", procfile()], tmp_path, **more):
        seen = answer(
            port,
            tmp_path,
            **{"X-Forwarded-For": "1.2.3.4, 203.0.113.7, 10.1.2.3", "X-Forwarded-Proto": "https"},
        )
        assert seen == "https 203.0.113.7"
