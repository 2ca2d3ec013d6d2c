"""A server that has served long enough: --limit-max-requests and --limit-max-age."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest

from asgiws.process.recycling import Recycling

from ..toolkit.apps import hello_and_wait
from ..toolkit.jumping import jumping
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.running import LOOPS, Running, running
from ..toolkit.served import Served
from . import drain_app

APP = f"{drain_app.__name__}:app"


def test_the_reason_is_told_once() -> None:
    told: list[str] = []
    recycling = Recycling(3, 0, None, told.append)
    assert recycling.counts
    for _ in range(5):
        recycling.count()
    assert told == ["it has served 3 requests"]


def test_workers_that_started_together_do_not_end_together() -> None:
    ends = set()
    for _ in range(200):
        told: list[str] = []
        recycling = Recycling(100, 50, None, told.append)
        count = 0
        while not told:
            recycling.count()
            count += 1
        ends.add(count)
    assert len(ends) > 20
    assert min(ends) >= 100
    assert max(ends) <= 150


@jumping
async def test_an_age_is_reached_up_to_a_tenth_late() -> None:
    loop = asyncio.get_running_loop()
    ends: list[float] = []
    for _ in range(50):
        recycling = Recycling(None, 0, 1000.0, lambda reason: ends.append(loop.time()))
        assert not recycling.counts
        recycling.start(loop)
    stopped = Recycling(None, 0, 500.0, lambda reason: ends.append(0.0))
    stopped.start(loop)
    stopped.stop()
    await asyncio.sleep(1200)
    assert len(ends) == 50
    assert 1000 <= min(ends) < max(ends) <= 1100
    assert len(set(ends)) > 10


def test_a_server_that_ends_already_is_not_retired() -> None:
    told: list[str] = []
    recycling = Recycling(1, 0, None, told.append)
    recycling.stop()
    recycling.count()
    assert not told


def test_requests_and_websockets_are_counted_and_the_last_one_is_answered(
    loop: str, package: ModuleType
) -> None:
    server = Running(hello_and_wait, loop, package, limit_max_requests=3)
    with Client(server) as client, RawWebSocket(server) as websocket:
        assert "connection" not in client.get().headers
        reply = client.get()
        assert (reply.status, reply.body) == (200, b"hello")
        assert websocket.close_code() == 1012
    server.stop()


def test_a_worker_asks_for_its_successor_instead(loop: str, package: ModuleType) -> None:
    asked: list[str] = []
    worker = package.Server(package.Config(hello_and_wait, port=0, limit_max_requests=1))
    worker.retire = asked.append

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.serve())
            await worker.wait_started()
            port = worker.addresses[0][1]
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()
            worker.shutdown()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(serve())
    assert asked == ["it has served 1 request"]


def test_without_a_limit_nothing_is_counted(package: ModuleType) -> None:
    with running(hello_and_wait, "asyncio", package) as server:
        assert type(server.server.serving) is package.http.serving.Serving


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--limit-max-requests", "Ending: it has served 1 request"),
        ("--limit-max-age", "Ending: it has served for 1 s"),
    ],
)
def test_one_process_drains_and_exits_with_0(option: str, said: str) -> None:
    with Served("asgiws", APP, "--port", "0", option, "1") as served:
        if option == "--limit-max-requests":
            with Client(served) as client:
                assert client.get().status in (200, 503)  # its readiness
        assert served.wait_for_end() == 0
        assert said in "".join(served.output)
