"""The Dockerfile and the Kubernetes objects of docs/deploy.

An image is not built, and there is no cluster: the command of the one runs as process 1
of a PID namespace, and the numbers and options of the others are held against each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from asgiws.options.config import OPTIONS, Config
from asgiws.process.drain import CANCEL_SECONDS, DEFAULT_WINDOWS, TERMINATED

from ..toolkit.program import ROOT
from .pages import file, free_port, put, text

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


def health() -> list[str]:
    """The words of the Dockerfile's HEALTHCHECK."""
    (words,) = re.findall(r"^    CMD (\[.*\])$", file("deploy/docker", "Dockerfile"), re.MULTILINE)
    found: list[str] = json.loads(words)
    return found


#: As compose.yaml has it: nobody, without capabilities, and no file can be written. Root's
#: directory is made readable in this namespace only, because a Python may live there.
LOCKED_UP = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/root,upperdir=/mnt/upper,workdir=/mnt/work /root
chmod 755 /root
mount -t tmpfs tmpfs /srv
mkdir /srv/chat
cp main.py /srv/chat
cd /srv/chat
for point in /mnt /root /srv /tmp /; do
    mount --bind "$point" "$point" 2>/dev/null || true
    mount -o remount,bind,ro "$point"
done
cd /srv/chat
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
    --no-new-privs "$@"
"""


#: What outlives its parent, until its standard input ends.
ORPHAN = "import os; os.fork() or os.read(0, 1)"


@pytest.mark.slow
def test_the_command_of_the_dockerfile_is_a_good_process_1(tmp_path: Path) -> None:
    """It serves, buries strangers, restarts on SIGHUP and ends on SIGTERM, locked up as it is."""
    program, app, *words = command()
    assert (program, app) == ("asgiws", "main:app")
    port = free_port()
    (tmp_path / "main.py").write_text("from tests.process.fleet_app import app\n")
    words = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in words]
    space = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child"]
    locked = ["sh", "-ec", LOCKED_UP, "sh"]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*space, *locked, sys.executable, "-m", program, app, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_for(log, r"Serving on")
            (first,) = children(process.pid)
            status = Path(f"/proc/{first}/status").read_text()
            assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE)
            assert re.search(r"^Uid:\s+65534\s+65534", status, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert not os.access(f"/proc/{first}/root/srv/chat/main.py", os.W_OK)
            enter = ["nsenter", "--target", str(first), "--pid", "--mount"]

            def is_healthy() -> bool:
                asked = put(" ".join(health()[2:]), "8000/ready", f"{port}/")
                done = subprocess.run([*enter, sys.executable, "-c", asked], timeout=DEADLINE)
                return done.returncode == 0

            assert is_healthy()
            # A child of a worker that outlives its parent is a stranger to the supervisor.
            read, write = os.pipe()
            orphan = [*enter, sys.executable, "-c", ORPHAN]
            subprocess.run(orphan, check=True, timeout=DEADLINE, stdin=read)
            os.close(read)
            assert strangers(first)
            os.close(write)
            os.kill(first, signal.SIGHUP)
            wait_for(log, r"All workers are replaced")
            deadline = time.monotonic() + DEADLINE
            while strangers(first):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert is_healthy()
            os.kill(first, signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            print(log.read_text())  # shown where the test has failed
    assert "Traceback" not in log.read_text()


def test_the_files_of_docker_agree_with_each_other() -> None:
    dockerfile = file("deploy/docker", "Dockerfile")
    (port,) = re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)
    assert options(command())["bind"] == f"0.0.0.0:{port}"
    assert f":{port}/" in health()[2]
    compile(health()[2], "<HEALTHCHECK>", "exec")
    (service,) = yaml.safe_load(file("deploy/docker", "compose.yaml"))["services"].values()
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    # What is installed is copied out of the stage that has a compiler, and the last one has none.
    first, last = re.split(r"^FROM .*$", dockerfile, flags=re.MULTILINE)[1:]
    assert "gcc" in first
    assert "gcc" not in last
    assert "COPY --from=build /srv/venv /srv/venv" in last
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)


def test_compose_waits_longer_than_the_end_can_take() -> None:
    (service,) = yaml.safe_load(file("deploy/docker", "compose.yaml"))["services"].values()
    seconds = float(service["stop_grace_period"].removesuffix("s"))
    default = Config("main:app")
    needed = DEFAULT_WINDOWS[TERMINATED] + 2 * default.timeout_graceful_shutdown
    assert seconds > needed + CANCEL_SECONDS + BLOCKED_SECONDS


def strangers(root: int) -> list[int]:
    """The children that it has not started: zombies, and those that run ORPHAN."""
    found = []
    for pid in children(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if ORPHAN in command or "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                found.append(pid)
    return found


def wait_for(log: Path, pattern: str) -> None:
    """Wait until a line of the log matches."""
    deadline = time.monotonic() + DEADLINE
    while not re.search(pattern, log.read_text()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture
def objects() -> dict[str, Any]:
    """The Kubernetes objects of all files, by their kind."""
    names = ("chat.yaml", "ingress.yaml", "route.yaml", "autoscaler.yaml")
    files = [yaml.safe_load_all(file("deploy/kubernetes", name)) for name in names]
    found = [one for objects in files for one in objects]
    assert len(found) == len({one["kind"] for one in found})
    return {one["kind"]: one for one in found}


def test_what_points_at_another_object_finds_it(objects: dict[str, Any]) -> None:
    deployment, service = objects["Deployment"], objects["Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    pod = deployment["spec"]["template"]["spec"]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    (port,) = (one["port"] for one in service["spec"]["ports"])
    name = service["metadata"]["name"]
    (rule,) = objects["Ingress"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": name, "port": {"number": port}}
    (routed,) = objects["HTTPRoute"]["spec"]["rules"]
    assert routed["backendRefs"] == [{"name": name, "port": port}]
    assert objects["HTTPRoute"]["spec"]["hostnames"] == [rule["host"]]
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert target["apiVersion"] == deployment["apiVersion"]
    assert "replicas" not in deployment["spec"]  # the autoscaler's


def test_the_autoscaler_asks_for_what_a_pod_can_have(objects: dict[str, Any]) -> None:
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    told = options(container["args"])
    (metric,) = (one["pods"] for one in scaler["metrics"])
    assert f'Gauge("{metric["metric"]["name"]}"' in text("how-to/metrics").replace("\n    ", "")
    most = int(told["workers"]) * int(told["limit-concurrency"])
    assert int(metric["target"]["averageValue"]) < most
    # A worker takes 100 MiB with its application, a connection that compresses 53 KiB.
    kilobytes = 20_000 + int(told["workers"]) * 102_400 + most * 53
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert kilobytes < 1024 * 1024
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (policy,) = scaler["behavior"]["scaleDown"]["policies"]
    assert policy["periodSeconds"] > pod["terminationGracePeriodSeconds"]


def test_a_pod_may_do_as_little_as_the_image(objects: dict[str, Any]) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    annotations = objects["Ingress"]["metadata"]["annotations"]
    timeouts = [int(value) for name, value in annotations.items() if name.endswith("timeout")]
    assert len(timeouts) == 2
    assert min(timeouts) > Config("main:app").ws_ping_interval


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
