"""Drains of a fleet: who is replaced drains late, and all together when the program ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ..toolkit.client_frames import CLOSE
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.served import Served

APP = "tests.process.fleet_app:app"
WORKERS = 2


def fleet(*options: str) -> Served:
    words = ("--workers", str(WORKERS), "--port", "0", "--no-access-log", *options)
    served = Served("asgiws", APP, *words)
    served.wait_for_count("Worker .* is ready", WORKERS)
    return served


def test_an_idle_connection_gets_its_answer_from_a_worker_that_is_replaced() -> None:
    options = ("--drain-code", "4000", "--drain-reason", "deploy", "--timeout-keep-alive", "60")
    with fleet(*options) as served, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(served)) for _ in range(2 * WORKERS)]
        websocket = stack.enter_context(RawWebSocket(served))
        websocket.sock.settimeout(served.deadline)
        websocket.read_frame()
        for client in clients:
            assert "connection" not in client.get().headers
        served.process.send_signal(signal.SIGHUP)
        served.wait_for_count("Worker .* is ready", WORKERS + 1)
        # Two of the connections are the first worker's; all get their answers.
        closed = 0
        while closed < WORKERS:
            for client in tuple(clients):
                if client.get().headers.get("connection") == "close":
                    assert client.rest() == b""
                    clients.remove(client)
                    closed += 1
        for client in clients:
            client.close()
        assert websocket.read_frame() == (CLOSE, b"\x0f\xa0deploy")
        websocket.close()
        served.wait_for_line("All workers are replaced")
        assert served.stop() == 0


def test_all_workers_drain_at_the_same_time_when_the_program_ends() -> None:
    with fleet("--drain-window", "1") as served, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(RawWebSocket(served)) for _ in range(20)]
        begun = time.monotonic()
        served.process.terminate()
        for websocket in sockets:
            assert websocket.close_code() == 1012
            websocket.close()
        assert served.wait_for_end() == 0
        assert time.monotonic() - begun >= 0.3


def test_a_worker_that_has_served_enough_is_replaced_and_drains() -> None:
    with fleet("--limit-max-requests", "3") as served, RawWebSocket(served) as websocket:
        websocket.sock.settimeout(served.deadline)
        worker = int(websocket.read_frame()[1])
        while not served.lines(rf"\(pid {worker}\) is replaced: it has served 3 requests"):
            # The emptiest worker gets the next connection: so every worker gets some.
            with contextlib.ExitStack() as stack:
                for _ in range(2 * WORKERS):
                    assert stack.enter_context(Client(served)).get().status == 200
        assert websocket.close_code() == 1012
        websocket.close()
        served.wait_until(lambda: not _lives(worker), "the end of the worker")
        assert served.stop() == 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_fleet_admits_what_it_was_told_to_and_not_each_worker() -> None:
    with fleet("--limit-handshakes", "4") as served, contextlib.ExitStack() as stack:
        # Two begin, two at least wait in each worker, and the rest is refused.
        clients = [stack.enter_context(Client(served)) for _ in range(40)]
        for client in clients:
            client.send(upgrade())
        statuses = [client.read_head().status for client in clients]
        assert statuses.count(101) <= 16
        assert statuses.count(503) == 40 - statuses.count(101)
