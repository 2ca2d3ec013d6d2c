"""The worker's side of the inbox."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgiws.http.admission import Admission
from asgiws.process import inbox
from asgiws.process.arrivals import Arrivals
from asgiws.process.board import Board
from asgiws.process.intake import Intake

from ..toolkit.running import LOOPS


class Protocol(asyncio.Protocol):
    """One connection, in the registry as long as it lives."""

    def __init__(self, serving: Any, peer: Any) -> None:
        self.serving = serving
        self.peer = peer

    def connection_made(self, transport: Any) -> None:
        self.serving.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.serving.connections.discard(self)
        self.serving.ended()


class Worker:
    """What a worker has beside its application."""

    def __init__(self, handshakes: float | None) -> None:
        loop = asyncio.get_running_loop()
        admission = None if handshakes is None else Admission(loop, handshakes)
        self.board = Board()
        self.seat = self.board.seat(0)
        self.near, self.far = inbox.pair()
        self.serving: Any = types.SimpleNamespace(
            connections=set(), ended=None, admission=admission
        )
        arrivals = Arrivals(loop, lambda peer, own, fd: Protocol(self.serving, peer), None, 5.0)
        self.intake = Intake(loop, self.far, self.seat, self.serving, arrivals)

    def put(self, count: int) -> list[socket.socket]:
        """Put so many connections into the inbox; their clients."""
        clients = []
        for _ in range(count):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                clients.append(socket.create_connection(listening.getsockname()))
                server = listening.accept()[0]
            self.seat.given += 1
            assert inbox.put(self.near, [server])
            server.close()
        return clients

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def run(
    loop: str, scenario: Callable[[Worker], Awaitable[None]], handshakes: float | None = None
) -> None:
    async def call() -> None:
        worker = Worker(handshakes)
        async with asyncio.timeout(10):
            await scenario(worker)
        worker.intake.close()
        for sock in (worker.near, worker.far):
            sock.close()
        worker.board.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(call())


@pytest.mark.parametrize("loop", LOOPS)
def test_connections_are_taken_and_counted_until_they_end(loop: str) -> None:
    async def scenario(worker: Worker) -> None:
        clients = worker.put(3)
        worker.intake.start()
        await worker.until(lambda: len(worker.serving.connections) == 3)
        peers = {protocol.peer for protocol in worker.serving.connections}
        assert peers == {client.getsockname() for client in clients}
        assert (worker.seat.load, worker.seat.takes) == (3, True)
        clients.pop().close()
        await worker.until(lambda: worker.seat.load == 2)
        for client in clients:
            client.close()
        await worker.until(lambda: worker.seat.load == 0)

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_beat_goes_on_as_long_as_the_loop_runs(loop: str) -> None:
    async def scenario(worker: Worker) -> None:
        worker.intake.start()
        for _ in range(3):
            beat = worker.seat.beat
            await worker.until(lambda beat=beat: worker.seat.beat > beat)
        worker.intake.stop()
        beat = worker.seat.beat
        await worker.until(lambda: worker.seat.beat > beat)

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_stopping_takes_all_that_lies_in_the_inbox_and_nothing_more(loop: str) -> None:
    async def scenario(worker: Worker) -> None:
        worker.intake.start()
        clients = worker.put(20)
        worker.intake.stop()
        late = worker.put(1)
        await worker.until(lambda: len(worker.serving.connections) == 20)
        (left,) = inbox.take(worker.far)
        left.close()
        assert not worker.seat.takes
        for client in clients + late:
            client.close()
        await worker.until(lambda: not worker.serving.connections)

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_without_descriptors_says_so_and_takes_what_waits_when_it_has_some(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(worker: Worker) -> None:
        clients = worker.put(4)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        try:
            worker.intake.start()
            await worker.until(lambda: not worker.seat.takes)
            assert not worker.serving.connections
            for fd in held:
                os.close(fd)
            await worker.until(lambda: len(worker.serving.connections) == 4)
            await worker.until(lambda: len(caplog.records) == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert worker.seat.takes
        for client in clients:
            client.close()
        await worker.until(lambda: worker.seat.load == 0)

    with caplog.at_level("INFO", "asgiws.error"):
        run(loop, scenario)
    assert [record.message for record in caplog.records] == [
        "Cannot take connections for now: no file descriptors are left",
        "Connections are taken again",
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_was_reset_on_its_way_counts_as_ended(loop: str) -> None:
    async def scenario(worker: Worker) -> None:
        (client,) = worker.put(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        worker.intake.start()
        await worker.until(lambda: worker.seat.ended == 1)
        assert worker.seat.load == 0

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_admits_its_share_of_what_the_fleet_admits(loop: str) -> None:
    async def scenario(worker: Worker) -> None:
        admission = worker.serving.admission
        assert admission.rate == 100
        worker.intake.start()
        for shares, rate in ((4, 25), (3, 100 / 3), (1, 100)):
            worker.seat.shares = shares
            await worker.until(lambda rate=rate: admission.rate == rate)

    run(loop, scenario, handshakes=100)
