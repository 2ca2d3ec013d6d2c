"""One sample: start a server on its core, put load on it from the other, judge the result.

The load generator reads the CPU clocks of the server's whole process tree itself,
at the boundaries of slices in which nothing is in flight, and tells the slices in
which the two cores shared a cache from those in which they did not (the host of a
virtual machine moves them about, and a loopback message costs up to twice as much
when they are far apart). Here a sample is refused where it would mislead.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .environment import BIN, C_EPOLL, HERE, LOAD, WORK
from .scenarios import Scenario
from .servers import Server

SERVER_IDLE = 0.08  # a saturated core is idle for less of the time than this
SERVER_BUSY = 0.85  # and belongs to the server for at least this much of it
CLIENT_BUSY = 0.97  # a client busier than this is the bottleneck
ATTEMPTS = 3
OWN = {"floors.py": HERE / "floors.py", "c-epoll": C_EPOLL}
KERNEL_TOLD = 0.5  # seconds of CPU time that are enough to tell the kernel's share


@dataclass
class Sample:
    """The figures of one server under one load, with the cores either near each other or far.

    ``cpu_us``, ``wire_in`` and ``wire_out`` (bytes to and from the server) are per
    unit, the latencies in µs; ``memory_kib`` is the growth per idle connection.
    ``kernel`` is the share of the CPU time that was spent in the kernel, if it can be told.
    """

    server: str
    scenario: str
    app: str
    round: int
    placement: str = ""
    cpu_us: float = 0.0
    kernel: float | None = None
    per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0
    server_busy: float = 0.0
    client_busy: float = 0.0
    wire_in: float = 0.0
    wire_out: float = 0.0
    memory_kib: float = 0.0
    extensions: str = ""
    refused: str = ""

    @property
    def user_us(self) -> float:
        """The part of ``cpu_us`` outside the kernel; 0 if that is not known."""
        return 0.0 if self.kernel is None else self.cpu_us * (1 - self.kernel)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Cores:
    """Which core the server is pinned to and which the load generator.

    ``shared``: other processes use them too, so that nothing is ever saturated;
    CPU time per unit is all that can be told then.
    """

    server: int = -1
    client: int = -1
    shared: bool = False


def choose_cores(shared: bool = False) -> Cores:
    """The last core for the server, and the nearest that is not its second thread for the client.

    Interrupts prefer the first core, and cores with neighbouring numbers share a cache.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed: one for the server, one for the client")
    server = cores.pop()
    topology = Path(f"/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list")
    threads = re.findall(r"\d+", topology.read_text()) if topology.exists() else []
    apart = [core for core in cores if str(core) not in threads]
    return Cores(server, (apart or cores)[-1], shared)


def raise_file_limit() -> int:
    """Allow this process and its children as many descriptors as the system lets them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def process_tree(root: int) -> list[int]:
    """``root`` and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue  # it has ended meanwhile
            children.setdefault(parent, []).append(int(path.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tree


def memory(pids: list[int]) -> float:
    """KiB of memory that would come back if these processes ended: their proportional set size."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return float(total)


def command_line(
    server: Server, app: str, address: int | str, uds: bool = False, mode: str = "echo"
) -> str:
    """The command that starts the server at this port or, with ``uds``, this path.

    ``mode`` is the scenario's, for the servers that cannot tell it by a path in the request.
    """
    module = "apps" if app == "raw" else "frameworks"
    listen = (server.uds if uds else server.port).format(address=address)
    return server.command.format(app=f"{module}:{app}", listen=listen, mode=mode)


@dataclass
class Running:
    """A server that has been started and answers."""

    address: int | str  # a port, or the path of a Unix socket
    pids: list[int]
    log: Path
    root: int = field(default=0)


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _listens(address: int | str) -> bool:
    if isinstance(address, int):
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", address)) == 0
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(address) == 0


@contextmanager
def running(
    scenario: Scenario,
    server: Server,
    app: str,
    cores: int | str,
    wrapper: list[str] | None = None,
    patience: float = 20.0,
) -> Iterator[Running]:
    """Start a server pinned to ``cores`` for a scenario; at the end its whole session is stopped.

    ``cores`` is one, or several with commas between them; ``wrapper`` is a command that runs
    the server's command (a profiler).
    """
    directory = tempfile.mkdtemp()  # its path is short: that of a Unix socket must be
    address = f"{directory}/socket" if scenario.uds else free_port()
    words = command_line(server, app, address, scenario.uds, scenario.mode).split()
    words = [str(OWN.get(word, word)) for word in words]
    words[0] = str(BIN / words[0])  # as it is, if it is one of ours
    # No settings of whoever runs this may reach the servers (WEB_CONCURRENCY, ASGIWS_PURE, ...).
    environment = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    environment |= {"PYTHONPATH": str(HERE), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= server.env
    log = WORK / "logs" / f"{server.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(cores), *(wrapper or []), *words],
            cwd=WORK,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        up = _wait_until(lambda: process.poll() is not None or _listens(address), patience)
        if not up or process.poll() is not None:
            raise RuntimeError(f"{server.name} did not start: {log.read_text()[-500:]}")
        # A supervisor's listening socket answers before its worker is there.
        _wait_until(lambda: _settled(process.pid), 2.0)
        yield Running(address, process_tree(process.pid), log, process.pid)
    finally:
        _stop(process)
        shutil.rmtree(directory)


def _settled(root: int) -> bool:
    """Return whether the process tree has used next to no CPU time for a moment."""

    def used() -> float:
        return sum(
            time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)
            for pid in process_tree(root)
            if Path(f"/proc/{pid}/exe").exists()
        )

    before = used()
    time.sleep(0.1)
    return used() - before < 0.005


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Nobody is connected any more: the whole session is killed, supervisors included."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(10)


def load_command(
    scenario: Scenario, server: Server, target: Running, cores: Cores, **options: int
) -> list[str]:
    """The command line of the load generator."""
    listen = ["--uds" if scenario.uds else "--port", str(target.address)]
    words = [str(LOAD), *scenario.load.split(), *listen]
    settings = {"slices": scenario.slices, "slice_ms": scenario.slice_ms} | options
    settings |= {"server_core": cores.server, "client_core": cores.client}
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--pids", ",".join(map(str, target.pids))]
    if server.tcp:
        words.append("--tcp")
    return words


def _result(command: list[str], target: Running) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"the load generator said {done.stdout!r} {done.stderr!r}") from None
    if result["errors"]:
        result["first_error"] += " " + target.log.read_text()[-200:].strip()
    return result


def _judge(scenario: Scenario, part: dict[str, Any], cores: Cores) -> str:
    """Why this part of a sample does not count; empty if it does."""
    if not scenario.throughput or cores.shared:
        return ""
    server_busy = part["server_cpu_s"] / part["wall_s"]
    client_busy = part["client_cpu_s"] / part["wall_s"]
    if client_busy > CLIENT_BUSY:
        return f"the client was the bottleneck ({client_busy:.0%} busy)"
    if part["server_core_idle"] > SERVER_IDLE:
        return f"the server's core was idle for {part['server_core_idle']:.0%}"
    if server_busy < SERVER_BUSY:
        return f"others used the server's core (the server had {server_busy:.0%})"
    return ""


def _kernel(part: dict[str, Any]) -> float | None:
    """The kernel's share of the server's CPU time; too short a time cannot tell."""
    total = part["server_user_s"] + part["server_kernel_s"]
    return part["server_kernel_s"] / total if total >= KERNEL_TOLD else None


def _samples(
    scenario: Scenario, server: Server, app: str, round: int, cores: Cores, result: dict[str, Any]
) -> list[Sample]:
    blank = Sample(server.name, scenario.name, app, round, extensions=result["extensions"])
    if result["errors"]:
        blank.refused = f"{result['first_error']} ({result['losses']} answers lost)"
        return [blank]
    samples = []
    for placement in ("near", "far"):
        part = result.get(placement)
        if not part or not part["units"]:
            continue
        units, wall = part["units"], part["wall_s"]
        latency = part.get("latency_us", {})
        samples.append(
            Sample(
                server.name,
                scenario.name,
                app,
                round,
                placement=placement,
                cpu_us=part["server_cpu_s"] / units * 1e6,
                kernel=_kernel(part),
                per_second=units / wall,
                p50=latency.get("p50", 0.0),
                p99=latency.get("p99", 0.0),
                p999=latency.get("p999", 0.0),
                max=latency.get("max", 0.0),
                server_busy=part["server_cpu_s"] / wall,
                client_busy=part["client_cpu_s"] / wall,
                wire_in=part["tx_bytes"] / units,
                wire_out=part["rx_bytes"] / units,
                extensions=result["extensions"],
                refused=_judge(scenario, part, cores),
            )
        )
    if not samples:
        blank.refused = "the cores were moved in every slice"
        samples.append(blank)
    return samples


def _idle(
    scenario: Scenario, server: Server, app: str, round: int, target: Running, cores: Cores
) -> Sample:
    """Memory per connection: what N connections add that have sent one message each and wait."""
    sample = Sample(server.name, scenario.name, app, round)
    command = load_command(scenario, server, target, cores)
    count = int(command[command.index("--connections") + 1])
    few = list(command)
    few[few.index("--connections") + 1] = "50"
    _result(few, target)  # what the first connections cost is not counted
    time.sleep(0.3)
    before = memory(target.pids)
    with subprocess.Popen(
        [*command, "--hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        line = load.stdout.readline()
        if line == "ready\n":
            time.sleep(1.0)
            sample.memory_kib = (memory(target.pids) - before) / count
            load.stdin.write("\n")
            load.stdin.close()
            line = load.stdout.read()
    result = json.loads(line)
    sample.extensions = result["extensions"]
    if result["errors"]:
        sample.refused = result["first_error"]
    return sample


def measure(
    scenario: Scenario,
    server: Server,
    app: str,
    round: int,
    cores: Cores,
    wanted: set[str] | None = None,
) -> list[Sample]:
    """The samples of one server in one scenario, one for each placement of the cores seen.

    It is tried again, up to ATTEMPTS times, while no sample is accepted or none has
    a placement that is ``wanted`` (one that can be compared within the round).
    """
    samples: list[Sample] = []
    for _ in range(ATTEMPTS):
        try:
            with running(scenario, server, app, cores.server) as target:
                if scenario.mode == "idle":
                    samples = [_idle(scenario, server, app, round, target, cores)]
                else:
                    result = _result(load_command(scenario, server, target, cores), target)
                    samples += _samples(scenario, server, app, round, cores, result)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            samples.append(Sample(server.name, scenario.name, app, round, refused=str(error)))
        good = [sample for sample in samples if not sample.refused]
        if good and (not wanted or any(sample.placement in wanted for sample in good)):
            break
    return _best(samples)


def _best(samples: list[Sample]) -> list[Sample]:
    """One sample for each placement, an accepted one if there is any."""
    best: dict[str, Sample] = {}
    for sample in samples:
        kept = best.get(sample.placement)
        if kept is None or (kept.refused and not sample.refused):
            best[sample.placement] = sample
    accepted = [sample for sample in best.values() if not sample.refused]
    return accepted or list(best.values())[-1:]


# ---- system calls and instructions: figures that do not drift ----


def _perf_events() -> list[str]:
    """Which of the two counters perf can read here."""
    if not shutil.which("perf"):
        return []
    events = []
    for event in ("raw_syscalls:sys_enter", "instructions:u"):
        command = ["perf", "stat", "-x,", "-e", event, "true"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and "not supported" not in done.stderr:
            events.append(event)
    return events


def _held(command: list[str], during: Callable[[], Callable[[], None]]) -> int:
    """Run the load between a start and a stop of something else; returns the units done."""
    with subprocess.Popen(
        [*command, "--hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        line = load.stdout.readline()
        if line == "ready\n":
            stop = during()
            load.stdin.write("\n")
            load.stdin.flush()
            line = load.stdout.readline()
            stop()
        if line == "measured\n":
            load.stdin.write("\n")
            load.stdin.close()
            line = load.stdout.read()
    result = json.loads(line)
    if result["errors"]:
        raise RuntimeError(result["first_error"])
    return sum(result[key]["units"] for key in ("near", "far") if key in result)


def _perf(pids: list[int], events: list[str], output: Path) -> Callable[[], Callable[[], None]]:
    def start() -> Callable[[], None]:
        listed = ",".join(map(str, pids))
        process = subprocess.Popen(
            ["perf", "stat", "-x,", "-e", ",".join(events), "-p", listed, "-o", output]
        )
        time.sleep(0.3)

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            process.wait(10)

        return stop

    return start


def _strace(pids: list[int], output: Path) -> Callable[[], Callable[[], None]]:
    def start() -> Callable[[], None]:
        words = ["strace", "-c", "-f", "-o", str(output)]
        for pid in pids:
            words += ["-p", str(pid)]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            process.wait(10)

        return stop

    return start


def _perf_totals(output: Path) -> dict[str, float]:
    totals = {}
    for line in output.read_text().splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            name = "system_calls" if "syscalls" in fields[2] else "instructions"
            totals[name] = float(fields[0])
    return totals


def _strace_total(output: Path) -> dict[str, float]:
    for line in output.read_text().splitlines():
        if line.endswith("total"):
            return {"system_calls": float(line.split()[3])}
    return {}


def count(scenario: Scenario, server: Server, app: str, cores: Cores) -> dict[str, float]:
    """System calls and (user-space) instructions per unit, on a run of its own.

    perf counts both where the machine lets it; else strace counts the calls, and
    callgrind the instructions (in one scenario only: it is fifty times slower).
    """
    events = _perf_events()
    output = WORK / "logs" / "counters"
    totals: dict[str, float] = {}
    with running(scenario, server, app, cores.server) as target:
        # without the server's core there is no ping-pong, and all slices are alike
        command = load_command(scenario, server, target, Cores(client=cores.client), slices=2)
        if events:
            units = _held(command, _perf(target.pids, events, output))
            totals = _perf_totals(output)
        elif shutil.which("strace"):
            units = _held(command, _strace(target.pids, output))
            totals = _strace_total(output)
    counts = {name: value / units for name, value in totals.items()}
    if "instructions" not in counts and scenario.name == "echo-125-64":
        counts |= instructions(scenario, server, app, cores)
    return counts


def instructions(scenario: Scenario, server: Server, app: str, cores: Cores) -> dict[str, float]:
    """Instructions per unit by valgrind, counted only while the load is on."""
    if not shutil.which("valgrind"):
        return {}
    files = WORK / "logs"
    for old in files.glob("callgrind.*"):
        old.unlink()
    wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes"]
    wrapper.append(f"--callgrind-out-file={files}/callgrind.%p")

    def control(*arguments: str) -> None:
        for pid in target.pids:
            subprocess.run(["callgrind_control", *arguments, str(pid)], capture_output=True)

    def start() -> Callable[[], None]:
        control("-i", "on")
        return lambda: control("-i", "off")

    with running(scenario, server, app, cores.server, wrapper, patience=120.0) as target:
        alone = Cores(client=cores.client)
        command = load_command(scenario, server, target, alone, slices=1, slice_ms=2000)
        units = _held(command, start)
        control("-d")
    total = 0
    for path in files.glob("callgrind.*"):
        for line in path.read_text().splitlines():
            if line.startswith("totals:"):
                total += int(line.split()[1])
    return {"instructions": total / units} if total else {}
