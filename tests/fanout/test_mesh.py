"""Topics between workers: real processes, over a supervisor's mesh."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.toolkit.served import Served

WORKERS = 4
DEADLINE = 10.0


class Fleet(Served):
    """Workers, and the clients that have subscribed to them."""

    def __init__(self, *options: str, workers: int = WORKERS) -> None:
        super().__init__(
            *("asgiws", "tests.fanout.topics_app:app", "--port", "0"),
            *("--workers", str(workers), "--ws-ping-interval", "none", *options),
        )
        self.stack = ExitStack()

    def subscribe(self, path: str) -> Client:
        return Client(self, path)

    def publish(self, topic: str, text: str) -> int:
        return int(httpx.post(f"{self.url}/{topic}", content=text, timeout=DEADLINE).text)

    def count(self, topic: str) -> dict[str, int]:
        found: dict[str, int] = httpx.get(f"{self.url}/{topic}", timeout=DEADLINE).json()
        return found

    def __exit__(self, *exc: object) -> None:
        self.stack.close()
        super().__exit__(*exc)


class Client:
    """One that subscribes, and has seen that it has: ``pid`` is its worker's."""

    def __init__(self, fleet: Fleet, path: str) -> None:
        self.socket: ClientConnection = fleet.stack.enter_context(
            connect(f"{fleet.ws_url}/{path}", proxy=None, close_timeout=1)
        )
        self.notices: list[Any] = []
        self.recovered: list[Any] = []
        while True:
            message = self.socket.recv(timeout=DEADLINE)
            if str(message).startswith("pid"):
                self.pid = int(str(message).split()[1])
                return
            parsed = json.loads(message)
            (self.recovered if "data" in parsed else self.notices).append(parsed)

    def next(self) -> Any:
        message = self.socket.recv(timeout=DEADLINE)
        return json.loads(message) if str(message).startswith("{") else message

    def is_closed(self) -> bool:
        with suppress(TimeoutError):
            try:
                self.socket.recv(timeout=0.01)
            except ConnectionClosed:
                return True
        return False


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet() as running:
        yield running


def one_for_each_worker(fleet: Fleet, path: str) -> list[Client]:
    clients = [fleet.subscribe(path) for _ in range(WORKERS)]
    assert len({client.pid for client in clients}) == WORKERS
    return clients


def test_a_message_reaches_the_subscribers_of_all_workers_in_order(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "a")
    publisher, *others = clients
    for number in range(200):
        publisher.socket.send(str(number))
    for client in others:
        assert [client.next() for _ in range(200)] == [str(n) for n in range(200)]
    assert fleet.publish("a", "for all") == WORKERS
    assert {client.next() for client in clients} == {"for all"}
    assert fleet.count("a")["everywhere"] == WORKERS


def test_a_large_message_reaches_all(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "a")
    large = "é" * 400_000
    assert fleet.publish("a", large) == WORKERS
    assert all(client.next() == large for client in clients)


def test_all_workers_see_the_messages_of_a_topic_with_history_in_one_order(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "kept:a?envelope=true")
    for number in range(40):
        for index, client in enumerate(clients):
            client.socket.send(f"{index} {number}")
    seen = []
    for client in clients:
        messages = [client.next() for _ in range(40 * (WORKERS - 1))]
        offsets = [int(message["position"].split(":")[1]) for message in messages]
        assert offsets == sorted(set(offsets))
        seen.append(
            {offset: message["data"] for offset, message in zip(offsets, messages, strict=True)}
        )
    together: dict[int, str] = {}
    for one in seen:
        for offset, data in one.items():
            assert together.setdefault(offset, data) == data
    assert len(together) == 40 * WORKERS


def test_who_comes_back_to_another_worker_misses_nothing(fleet: Fleet) -> None:
    client = fleet.subscribe("kept:a?envelope=true")
    fleet.publish("kept:a", "0")
    position = client.next()["position"]
    client.socket.close()
    for number in range(1, 6):
        fleet.publish("kept:a", str(number))
    for again in one_for_each_worker(fleet, f"kept:a?envelope=true&since={position}"):
        assert again.notices[0]["recovered"] is True
        assert [message["data"] for message in again.recovered] == ["1", "2", "3", "4", "5"]


def test_a_killed_worker_is_not_missed_and_its_successor_is_known(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "kept:a?envelope=true")
    fleet.publish("kept:a", "before")
    position = [client.next()["position"] for client in clients].pop()
    victim, *others = clients
    os.kill(victim.pid, signal.SIGKILL)
    fleet.wait_for_line("died")
    assert fleet.publish("kept:a", "meanwhile") >= WORKERS - 1
    assert [client.next()["data"] for client in others] == ["meanwhile"] * (WORKERS - 1)
    fleet.wait_for_count("is ready", WORKERS + 1)
    again = fleet.subscribe(f"kept:a?envelope=true&since={position}")
    assert again.pid not in {client.pid for client in clients}
    assert again.notices[0]["recovered"] is True
    assert [message["data"] for message in again.recovered] == ["meanwhile"]
    assert fleet.publish("kept:a", "after") == WORKERS
    assert [client.next()["data"] for client in [*others, again]] == ["after"] * WORKERS
    assert fleet.count("kept:a")["everywhere"] == WORKERS


def test_a_stopped_worker_does_not_hold_up_the_others(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "a")
    victim, *others = clients
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        # What is published comes to a worker that runs, once the supervisor sees who does not.
        fleet.wait_until(lambda: fleet.publish("a", "?") and True)
        while others[0].next() != "?":
            pass
        for number in range(100):
            others[0].socket.send(str(number))
        for client in others[1:]:
            expected = iter(range(100))
            wanted = next(expected)
            while wanted is not None:
                if client.next() == str(wanted):
                    wanted = next(expected, None)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    received = 0
    while received < 100:
        received += victim.next() == str(received)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_history_and_order_survive_a_restart_of_all_workers(
    fleet: Fleet, number: signal.Signals
) -> None:
    clients = one_for_each_worker(fleet, "kept:a?envelope=true")
    fleet.publish("kept:a", "before")
    position = clients[0].next()["position"]
    fleet.send(number)
    fleet.wait_for_line("All workers are replaced")
    fleet.publish("kept:a", "after")
    again = fleet.subscribe(f"kept:a?envelope=true&since={position}")
    assert again.notices[0]["recovered"] is True
    assert [message["data"] for message in again.recovered] == ["after"]
    others = [fleet.subscribe("kept:a?envelope=true") for _ in range(WORKERS - 1)]
    assert fleet.publish("kept:a", "new") == WORKERS
    assert [client.next()["data"] for client in [again, *others]] == ["new"] * WORKERS
