"""``python -m benchmarks.topics``: one publishes, many hear it; in interleaved rounds."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from .. import environment, measure, parts
from ..scenarios import Scenario
from . import report
from .ways import FLOOR, LOOP, OVER_REDIS, RAW, TOPICS, UVICORN, Way

RESULT = environment.WORK / "results" / "topics.json"
PAGE = environment.CHECKOUT / "docs" / "benchmarks-topics.md"
WORKERS = (1, 4)
HELD = 100  # topics of each WebSocket whose memory is measured

Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.topics", description=__doc__)
    parser.add_argument("--only", metavar="PARTS", default=",".join(PARTS), help="the default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, without 10,000 clients")
    parser.add_argument("--no-install", action="store_true", help="take the environment as it is")
    parser.add_argument("--publish", action="store_true", help=f"write docs/{PAGE.name} as well")
    return parser.parse_args()


@contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """A Redis that writes nothing to a disk: its port and its process id."""
    port = measure.free_port()
    with tempfile.TemporaryDirectory() as directory:
        words = f"redis-server --port {port} --bind 127.0.0.1 --appendonly no --save".split()
        process = subprocess.Popen(
            [*words, ""], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 10.0
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("redis-server did not start")
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.kill()
            process.wait(10)


def sample(
    kind: str, way: Way, load: str, *, options: str = "", slices: int = 6, slice_ms: int = 250
) -> Row:
    """The cost of a way under a load, by the placement of the cores; or why it is not known.

    Unless there are several workers, server and load generator have a core each.
    """
    row: Row = {"kind": kind, "way": way.name}
    scenario = Scenario(kind, "", way.load(load), slices=slices, slice_ms=slice_ms)
    cores = measure.Cores() if options else measure.choose_cores(shared=True)
    everywhere = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    try:
        with redis_server() if way.redis else nullcontext((None, None)) as (port, broker):
            server = way.command(port, options)
            pinned = everywhere if options else str(cores.server)
            with measure.running(scenario, server, "raw", pinned) as target:
                if broker is not None:
                    target.pids.append(broker)
                command = measure.load_command(scenario, server, target, cores)
                result = measure._result(command, target)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        return row | {"refused": str(error)[:200]}
    if result["errors"]:
        return row | {"refused": result["first_error"][:200]}
    for placement in ("near", "far"):
        part = result.get(placement)
        if part and part["units"]:
            row[placement] = {
                "cpu_us": part["server_cpu_s"] / part["units"] * 1e6,
                "per_second": part["units"] / part["wall_s"],
                "bytes": part["rx_bytes"] / part["units"],
                "latency": part["latency_us"],
                "last": part["last_delivery_us"],
            }
    return row


def interleaved(options: argparse.Namespace, samples: Sequence[Callable[[], Row]]) -> list[Row]:
    """All samples in turn, in each round from another one on."""
    rows = []
    for round in range(options.rounds):
        turn = round % len(samples)
        for take in (*samples[turn:], *samples[:turn]):
            row = take() | {"round": round}
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def worker(options: argparse.Namespace) -> list[Row]:
    """One worker, one topic."""
    loads = {
        "500, one at a time": ("--connections 500 --batch 1", 250),
        "500, two under way": ("--connections 500", 250),
        "10,000, one at a time": ("--connections 10000 --batch 1", 1000),
    }
    if options.quick:
        loads.popitem()
    rows = []
    for kind, (load, slice_ms) in loads.items():
        takes = [
            partial(sample, kind, way, f"broadcast --size 125 {load}", slice_ms=slice_ms)
            for way in (TOPICS, LOOP, RAW, UVICORN, FLOOR)
        ]
        rows += interleaved(options, takes)
    return rows


def deflate(options: argparse.Namespace) -> list[Row]:
    """One worker, and all that is sent is compressed."""
    load = "broadcast --connections 500 --size 1024 --json --deflate --no-context"
    ways = (TOPICS, LOOP, UVICORN)
    return interleaved(options, [partial(sample, "deflated", way, load) for way in ways])


def burst(options: argparse.Namespace) -> list[Row]:
    """64 messages at once, and the system calls that they take."""
    load = "broadcast --connections 500 --size 125 --batch 64"
    ways = (TOPICS, LOOP, UVICORN)
    rows = interleaved(options, [partial(sample, "64 at once", way, load) for way in ways])
    for way in ways:
        scenario = Scenario("64 at once", "", way.load(load))
        cores = measure.choose_cores(shared=True)
        counts = measure.count(scenario, way.command(None), "raw", cores)
        rows.append({"kind": "64 at once", "way": way.name, "counts": counts})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def redis(options: argparse.Namespace) -> list[Row]:
    """Beside what is used today."""
    load = "broadcast --connections 500 --size 125"
    ways = (TOPICS, *OVER_REDIS)
    rows = []
    for kind, batch in {"one at a time": 1, "eight at once": 8}.items():
        takes = [partial(sample, kind, way, f"{load} --batch {batch}") for way in ways]
        rows += interleaved(options, takes)
    return rows


def workers(options: argparse.Namespace) -> list[Row]:
    """2,000 subscribers, in one worker and in four.

    Workers get connections in turn. With a number of topics that four divides, all subscribers of
    a topic would be in one worker.
    """
    loads = {
        "one topic": "broadcast --connections 2000 --size 125",
        "199 topics": "broadcast --connections 1990 --size 125 --groups 199",
        "1,000/s": "publish --connections 1990 --size 125 --groups 199 --rate 1000",
    }
    takes: list[Callable[[], Row]] = []
    for kind, load in loads.items():
        for count in WORKERS:

            def take(kind: str = kind, load: str = load, count: int = count) -> Row:
                row = sample(
                    kind, TOPICS, load, options=f"--workers {count}", slices=4, slice_ms=1000
                )
                return row | {"workers": count}

            takes.append(take)
    return interleaved(options, takes)


def slow(options: argparse.Namespace) -> list[Row]:
    """One of 500 reads nothing."""
    load = "publish --connections 500 --size 1024 --rate 40"
    loads = {"all read": load, "one does not": load + " --stuck"}
    takes = [
        partial(sample, kind, TOPICS, load, slices=4, slice_ms=1000) for kind, load in loads.items()
    ]
    return interleaved(options, takes)


def memory(options: argparse.Namespace) -> list[Row]:
    """Bytes that a subscription takes: 1,000 WebSockets with many, and with none."""
    cores = measure.choose_cores(shared=True)
    rows = []
    for round in range(options.rounds):
        grown = []
        for count in (0, HELD):
            load = f"idle --connections 1000 --path /held/{count}"
            scenario = Scenario("memory", "", load, throughput=False)
            with measure.running(scenario, TOPICS.command(None), "raw", cores.server) as target:
                found = measure._idle(scenario, TOPICS.command(None), "raw", round, target, cores)
            if found.refused:
                raise RuntimeError(found.refused)
            grown.append(found.memory_kib * 1024)
        row = {"round": round, "connection": grown[0], "bytes": (grown[1] - grown[0]) / HELD}
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "worker": worker,
    "deflate": deflate,
    "burst": burst,
    "redis": redis,
    "workers": workers,
    "slow": slow,
    "memory": memory,
}


def main() -> None:
    options = arguments()
    if options.quick:
        options.rounds = 1
    if not options.no_install:
        environment.install_peers()
        environment.install_asgiws()
        environment.build_load()
        environment.build_floor()
    measure.raise_file_limit()
    found = parts.measured(RESULT, options.only, lambda name, _: PARTS[name](options))
    print(text := report.page(found))
    if options.publish:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
