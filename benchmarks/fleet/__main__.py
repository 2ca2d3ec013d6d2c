"""``python -m benchmarks.fleet``: several workers, measured in interleaved rounds."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import environment, measure, parts
from ..scenarios import SCENARIOS, Scenario
from ..servers import Server
from . import report
from .clients import Load, WebSocket, join, opened_anew
from .servers import ACCEPTING, ASGIWS, FLEETS, Fleet

WORKERS = (2, 4)
RESTART_SECONDS = 120.0
RESULT = environment.WORK / "results" / "fleet.json"
PAGE = environment.CHECKOUT / "docs" / "benchmarks-fleet.md"

Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--only", metavar="PARTS", default=",".join(PARTS), help="the default: all")
    parser.add_argument("--servers", metavar="NAMES", default=",".join(FLEETS))
    parser.add_argument("--workers", metavar="NUMBERS", default=",".join(map(str, WORKERS)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=1000, help="that are spread")
    parser.add_argument("--sockets", type=int, default=2000, help="that stay through a restart")
    parser.add_argument("--no-install", action="store_true", help="take the environment as it is")
    parser.add_argument("--publish", action="store_true", help=f"write docs/{PAGE.name} as well")
    return parser.parse_args()


@contextmanager
def running(server: Server, workers: int) -> Iterator[measure.Running]:
    """Start a server on all cores; it runs when all its workers answer."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with measure.running(SCENARIOS["handshake"], server, "raw", cores) as target:
        deadline = time.monotonic() + 20.0
        before = 0.0
        while (used := cpu(measure.process_tree(target.root))) - before > 0.02:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{server.name} does not come to rest")
            before = used
            time.sleep(0.5)
        target.pids = measure.process_tree(target.root)
        yield target


def cpu(pids: list[int]) -> float:
    """The CPU time of these processes, in seconds."""
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            pass  # it has ended
    return total


# Speed.


def loaded(name: str) -> Callable[[measure.Running], Row]:
    """A scenario of the load generator's."""
    scenario: Scenario = SCENARIOS[name]

    def measured(target: measure.Running) -> Row:
        command = measure.load_command(scenario, Server("", "", ""), target, measure.Cores())
        result = measure._result(command, target)
        if result["errors"]:
            return {"refused": result["first_error"]}
        # Nothing is pinned, so there is one kind of slices.
        part = result.get("near") or result["far"]
        return {
            "cpu_us": part["server_cpu_s"] / part["units"] * 1e6,
            "per_second": part["units"] / part["wall_s"],
            "p99": part["latency_us"]["p99"],
        }

    return measured


def handshakes_with_tls(target: measure.Running) -> Row:
    """16 clients that open, say one thing and close, over TLS."""
    assert isinstance(target.address, int)
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    asyncio.run(opened_anew(target.address, tls, 0.2, 16))
    before, began = cpu(target.pids), time.monotonic()
    count = asyncio.run(opened_anew(target.address, tls, 2.0, 16))
    seconds = time.monotonic() - began
    return {
        "cpu_us": (cpu(target.pids) - before) / count * 1e6,
        "per_second": count / seconds,
    }


def speed(options: argparse.Namespace, fleets: list[Fleet], tls: bool) -> list[Row]:
    """Handshakes and echoes with every number of workers, in turn."""
    rows = []
    with certificate() as (chain, key):
        kinds: list[tuple[str, Callable[[measure.Running], Row], tuple[str, str]]] = [
            ("handshake", loaded("handshake"), ("", "")),
        ]
        if tls:
            kinds.append(("handshake, TLS", handshakes_with_tls, (chain, key)))
        else:
            kinds.append(("echo 125 B", loaded("echo-125-64"), ("", "")))
        for round in range(options.rounds):
            for workers in map(int, options.workers.split(",")):
                for kind, measured, files in kinds:
                    turn = round % len(fleets)
                    for fleet in [*fleets[turn:], *fleets[:turn]]:
                        row = {"kind": kind, "server": fleet.name, "workers": workers}
                        row["round"] = round
                        try:
                            with running(fleet.server(workers, *files), workers) as target:
                                row |= measured(target)
                        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                            row["refused"] = str(error)[:200]
                        print(row, file=sys.stderr, flush=True)
                        rows.append(row)
    return rows


@contextmanager
def certificate() -> Iterator[tuple[str, str]]:
    """A certificate and its key, P-256 as most have today."""
    directory = Path(tempfile.mkdtemp())
    chain, key = directory / "chain.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    words = [*command.split(), "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        yield str(chain), str(key)
    finally:
        shutil.rmtree(directory)


# Spread.


def spread_of(sockets: list[WebSocket], workers: int) -> list[int]:
    """The number of connections of each worker, the busiest first."""
    counts = sorted(Counter(one.pid for one in sockets).values(), reverse=True)
    return counts + [0] * (workers - len(counts))


async def spread_over(target: measure.Running, workers: int, count: int) -> Row:
    """Open many WebSockets in three ways; kill a worker, and open as many as were lost."""
    port = target.address
    assert isinstance(port, int)
    row: Row = {}
    for name, at_once in (("64 at a time", 64), ("all at once", count), ("one by one", 1)):
        sockets = await join(port, count, at_once)
        row[name] = spread_of(sockets, workers)
        if at_once != 1:
            for one in sockets:
                one.cut()
            await asyncio.sleep(1.0)
    killed = Counter(one.pid for one in sockets).most_common(1)[0][0]
    os.kill(killed, signal.SIGKILL)
    kept = [one for one in sockets if one.pid != killed]
    try:
        await replaced(port, {one.pid for one in kept}, workers)
        kept += await join(port, count - len(kept), 1)
        row["after a kill"] = spread_of(kept, workers)
    except ConnectionError:
        row["after a kill"] = "nobody answers"
    except EOFError:
        row["after a kill"] = "connections are cut"
    except (OSError, RuntimeError) as error:
        row["after a kill"] = f"{type(error).__name__} {error}"
    return row


async def replaced(port: int, old: set[int], workers: int) -> None:
    """Wait until a new worker answers; what was opened for it is closed again."""
    deadline = time.monotonic() + 20.0
    tried = []
    while len(old | {one.pid for one in tried}) < workers:
        if time.monotonic() > deadline:
            raise RuntimeError("no new worker answers")
        tried.append(await WebSocket.connect(port))
        if len(tried) >= 64:
            for one in tried:
                one.cut()
            tried.clear()
            await asyncio.sleep(0.5)
    for one in tried:
        one.cut()
    await asyncio.sleep(1.0)


def spread(options: argparse.Namespace, fleets: list[Fleet]) -> list[Row]:
    rows = []
    for fleet in fleets:
        row: Row = {"server": fleet.name, "workers": 4}
        try:
            with running(fleet.server(4), 4) as target:
                row |= asyncio.run(spread_over(target, 4, options.connections))
        except (RuntimeError, OSError, EOFError) as error:
            row["refused"] = f"{type(error).__name__} {error}"[:200]
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


# A rolling restart.


async def restarted(target: measure.Running, how: signal.Signals, sockets: int) -> Row:
    """Restart all workers under load; what it cost."""
    assert isinstance(target.address, int)
    load = Load(target.address)
    workers = await load.stay(sockets)
    load.start()
    await asyncio.sleep(2.0)
    began = time.monotonic()
    os.kill(target.root, how)
    deadline = began + RESTART_SECONDS
    for _ in range(int(RESTART_SECONDS / 0.2)):
        await asyncio.sleep(0.2)
        if not workers & set(measure.process_tree(target.root)):
            break
    took = time.monotonic() - began
    await asyncio.sleep(2.0)
    await load.stop()
    return {
        "seconds": took,
        "over": time.monotonic() < deadline,
        "requests": load.requests.done,
        "requests lost": dict(load.requests.lost),
        "handshakes": load.handshakes.done + load.reconnects.done,
        "handshakes lost": dict(load.handshakes.lost + load.reconnects.lost),
        "slowest": max(load.requests.slowest, load.handshakes.slowest, load.reconnects.slowest),
        "closings": len(load.closings),
        "codes": dict(load.codes),
        "fullest second": load.fullest_second,
        "mean second": load.mean_second,
    }


def restart(options: argparse.Namespace, fleets: list[Fleet]) -> list[Row]:
    rows = []
    for fleet in fleets:
        row: Row = {"server": fleet.name, "workers": 4}
        if fleet.restart is None:
            row["refused"] = "has no such thing"
        else:
            words = "--drain-window 10" if fleet is ASGIWS else ""
            try:
                with running(fleet.server(4, options=words), 4) as target:
                    row |= asyncio.run(restarted(target, fleet.restart, options.sockets))
            except (RuntimeError, OSError, EOFError) as error:
                row["refused"] = f"{type(error).__name__} {error}"[:200]
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


PARTS: dict[str, Callable[[argparse.Namespace, list[Fleet]], list[Row]]] = {
    "ways": lambda options, _: speed(options, [ASGIWS, *ACCEPTING], tls=True),
    "speed": lambda options, fleets: speed(options, fleets, tls=False),
    "spread": spread,
    "restart": restart,
}


def main() -> None:
    options = arguments()
    fleets = [FLEETS[name] for name in options.servers.split(",")]
    if not options.no_install:
        environment.install_peers()
        environment.install_asgiws()
        environment.build_load()
    measure.raise_file_limit()

    def measure_part(name: str, before: list[Row] | None) -> list[Row]:
        rows = PARTS[name](options, fleets)
        measured = {row["server"] for row in rows}
        return rows + [row for row in before or () if row["server"] not in measured]

    found = parts.measured(RESULT, options.only, measure_part)
    print(text := report.page(found))
    if options.publish:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
