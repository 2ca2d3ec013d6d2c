"""A deployment under load: all workers are replaced, and nobody notices.

The clients are those of ``python -m benchmarks.fleet``.
"""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable

import pytest

from benchmarks.fleet.clients import Load

from ..toolkit.running import LOOPS
from ..toolkit.served import ROOT, Served

pytestmark = pytest.mark.slow

WORKERS = 4
SOCKETS = 2000
WINDOW = 10


@pytest.fixture(autouse=True)
def many_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_rolling_restart_under_load_loses_nothing_and_closes_evenly(
    loop: str, figure: Callable[[str, str], None]
) -> None:
    directory = str(ROOT / "benchmarks")
    words = ("--workers", str(WORKERS), "--drain-window", str(WINDOW), "--loop", loop)
    quiet = ("--no-access-log", "--app-dir", directory, "--port", "0")
    with Served("asgiws", "apps:raw", *words, *quiet, deadline=180.0) as served:
        served.wait_for_count("Worker .* is ready", WORKERS)
        old = set(served.children("process.worker"))

        async def deploy() -> Load:
            load = Load(served.port)
            await load.stay(SOCKETS)
            load.start()
            served.send(signal.SIGHUP)
            await asyncio.to_thread(served.wait_for_line, "All workers are replaced")
            await asyncio.to_thread(
                served.wait_until,
                lambda: not old & set(served.children("process.worker")),
                "the end of the old workers",
            )
            await load.stop()
            return load

        load = asyncio.run(deploy())
        assert served.stop() == 0
    handshakes = load.handshakes.done + load.reconnects.done
    lost = load.requests.lost + load.handshakes.lost + load.reconnects.lost
    slowest = max(load.handshakes.slowest, load.reconnects.slowest)
    figure(
        f"a rolling restart of {WORKERS} workers with {SOCKETS:,} WebSockets that come back,"
        f" requests and handshakes, `--drain-window {WINDOW}` ({loop})",
        f"{load.requests.done:,} requests and {handshakes:,} handshakes, {lost.total()} lost;"
        f" slowest request {load.requests.slowest * 1000:.0f} ms, slowest handshake"
        f" {slowest * 1000:.0f} ms;"
        f" {len(load.closings):,} closings, all with 1012, {load.mean_second:.0f} a second in the"
        f" mean, {load.fullest_second} in the fullest",
    )
    assert not lost
    assert set(load.codes) == {1012}
    assert len(load.closings) >= SOCKETS
    assert load.fullest_second <= 2 * load.mean_second
