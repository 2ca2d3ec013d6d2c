"""Topics between machines as users have them: two programs with several workers each, one Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..fleet import Client, Fleet
from .redis_server import RedisServer


class Machines:
    """Two programs over one Redis, and clients of each of their workers."""

    def __init__(self, redis: RedisServer, stack: ExitStack) -> None:
        self.redis = redis
        self.fleets = [
            stack.enter_context(Fleet("--topics-url", redis.url, workers=2)) for _ in range(2)
        ]
        for fleet in self.fleets:
            stack.enter_context(fleet.stack)

    def clients(self, path: str) -> list[Client]:
        """One of each worker."""
        found: dict[int, Client] = {}
        for fleet in self.fleets:
            wanted = len(found) + 2
            while len(found) < wanted:
                client = fleet.subscribe(path)
                if found.setdefault(client.pid, client) is not client:
                    client.socket.close()
        topic = path.partition("?")[0]
        self.fleets[0].wait_until(
            lambda: self.fleets[0].count(topic)["everywhere"] == 4, "the count"
        )
        return list(found.values())


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(stack.enter_context(RedisServer(tmp_path / "redis")), stack)


def test_a_message_reaches_all_workers_of_all_machines_but_who_has_sent_it(
    machines: Machines,
) -> None:
    for topic in ("a", "kept:a"):
        speaker, *others = machines.clients(topic)
        for number in range(100):
            speaker.socket.send(str(number))
        for client in others:
            assert [client.next() for _ in range(100)] == [str(n) for n in range(100)]
        speaker.socket.send("own last")
        assert speaker.next() == "own last"


def test_a_client_recovers_at_another_machine_and_over_a_restart_of_all_workers(
    machines: Machines,
) -> None:
    first, second = machines.fleets
    client = first.subscribe("kept:a?envelope=true")
    second.publish("kept:a", "before")
    position = client.next()["position"]
    client.socket.close()
    for number in range(5):
        first.publish("kept:a", str(number))
    second.send(signal.SIGHUP)
    second.wait_for_line("All workers are replaced")
    again = second.subscribe(f"kept:a?envelope=true&since={position}")
    assert again.notices[0]["recovered"] is True
    assert [message["data"] for message in again.recovered] == ["0", "1", "2", "3", "4"]
    first.publish("kept:a", "after")
    assert again.next()["data"] == "after"


def test_a_killed_worker_is_not_missed(machines: Machines) -> None:
    victim, *others = machines.clients("a")
    os.kill(victim.pid, signal.SIGKILL)
    machines.fleets[0].wait_for_line("died")
    machines.fleets[1].publish("a", "x")
    assert [client.next() for client in others] == ["x"] * 3


def test_the_sockets_of_all_machines_hear_of_what_redis_has_lost(machines: Machines) -> None:
    kept = machines.clients("kept:a?envelope=true")
    plain = machines.clients("a?envelope=true")
    machines.fleets[0].publish("kept:a", "before")
    assert [client.next()["data"] for client in kept] == ["before"] * 4
    machines.redis.kill()
    machines.fleets[0].wait_for_count("is away", 2)
    machines.redis.start()
    for client in plain:
        assert client.next()["gap"] == 1
    for client in kept:
        assert client.next()["gap"] == 1
    machines.fleets[1].publish("kept:a", "after")
    machines.fleets[1].publish("a", "after")
    assert [client.next()["data"] for client in [*kept, *plain]] == ["after"] * 8
    for fleet in machines.fleets:
        assert len(fleet.lines("Topics: connected")) == 4
