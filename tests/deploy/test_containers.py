"""The Dockerfile and the Kubernetes objects of docs/deploy.

An image is not built, and there is no cluster: the command of the one runs as process 1
of a PID namespace, and the numbers and options of the others are held against each other.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from asgiws.options.config import OPTIONS, Config
from asgiws.process.drain import CANCEL_SECONDS

from ..toolkit.program import ROOT
from .pages import file, free_port, text

DEADLINE = 20.0
BLOCKED_SECONDS = 6  # until a process whose event loop or log is blocked ends


def command() -> list[str]:
    """The words of the Dockerfile's CMD."""
    found = re.findall(r"^CMD (\[.*\])$", file("deploy/docker", "Dockerfile"), re.MULTILINE)
    assert len(found) == 1
    words: list[str] = json.loads(found[0])
    return words


def options(words: list[str]) -> dict[str, str]:
    """The options of a command line, ``--name=value`` or ``--name value``, without their dashes."""
    pairs = re.findall(r"--([a-z0-9-]+)[= ](\S+)", " ".join(words))
    known = {option.flag for option in OPTIONS}
    assert {f"--{name}" for name, _ in pairs} <= known
    return dict(pairs)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.slow
def test_the_command_of_the_dockerfile_is_a_good_process_1(tmp_path: Path) -> None:
    """It serves, buries strangers, restarts on SIGHUP and ends on SIGTERM."""
    program, app, *words = command()
    assert (program, app) == ("asgiws", "main:app")
    port = free_port()
    (tmp_path / "main.py").write_text("from tests.process.fleet_app import app\n")
    words = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in words]
    space = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*space, sys.executable, "-m", program, app, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_for(log, r"Serving on")
            (first,) = children(process.pid)
            assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
            # A child of a worker that outlives its parent is a stranger to the supervisor.
            orphan = "import os, time; os.fork() or time.sleep(0.5)"
            enter = ["nsenter", "--target", str(first), "--pid", "--mount"]
            subprocess.run([*enter, sys.executable, "-c", orphan], check=True, timeout=DEADLINE)
            os.kill(first, signal.SIGHUP)
            wait_for(log, r"All workers are replaced")
            assert not zombies(first)
            os.kill(first, signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            print(log.read_text())  # shown where the test has failed
    assert "Traceback" not in log.read_text()


def zombies(root: int) -> list[int]:
    return [pid for pid in children(root) if "State:\tZ" in Path(f"/proc/{pid}/status").read_text()]


def wait_for(log: Path, pattern: str) -> None:
    """Wait until a line of the log matches."""
    deadline = time.monotonic() + DEADLINE
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture
def objects() -> dict[str, Any]:
    """The Kubernetes objects, by their kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(file("deploy/kubernetes", "chat.yaml"))}


def test_the_grace_period_is_longer_than_the_end_can_take(objects: dict[str, Any]) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {
        name: float(value) for name, value in options(container["args"]).items() if is_number(value)
    }
    hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = hook + told["drain-delay"] + told["drain-window"]
    needed += 2 * told["timeout-graceful-shutdown"] + CANCEL_SECONDS + BLOCKED_SECONDS
    assert pod["terminationGracePeriodSeconds"] > needed
    (sums,) = re.findall(r"Above: ([\d +]+) = (\d+)\.", text("deploy/kubernetes"))
    assert sum(map(int, sums[0].split("+"))) == int(sums[1]) == needed


def is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit()


def test_the_delay_outlasts_what_the_readiness_probe_needs_to_fail(
    objects: dict[str, Any],
) -> None:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]
    delay = float(options(container["args"])["drain-delay"])
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]


def test_the_objects_name_the_same_port_labels_and_options(objects: dict[str, Any]) -> None:
    deployment, service = objects["Deployment"]["spec"], objects["Service"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    told = options(container["args"])
    Config("main:app", **{name.replace("-", "_"): parsed(value) for name, value in told.items()})
    port = int(told["bind"].rpartition(":")[2])
    assert [one["containerPort"] for one in container["ports"]] == [port]
    assert [one["targetPort"] for one in service["ports"]] == [port]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == service["selector"] == labels
    # Its name makes variables in every pod: ASGIWS_* would be taken for options.
    assert objects["Service"]["metadata"]["name"] != "asgiws"


def parsed(word: str) -> Any:
    return float(word) if "." in word and is_number(word) else int(word) if word.isdigit() else word
