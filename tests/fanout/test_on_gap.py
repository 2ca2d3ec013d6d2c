"""``subscribe(..., on_gap="close")``: what was lost before it came to a worker ends a WebSocket."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.toolkit.builds import PURE
from tests.toolkit.running import DEADLINE, Running
from tests.toolkit.running import running as serve

from . import topics_app
from .brokers.nats_server import NatsServer
from .brokers.redis_server import RedisServer
from .fleet import Fleet
from .test_hub import STACK, Client, get, publish, subscribed


@pytest.fixture
def topics(package: ModuleType) -> Any:
    found = importlib.import_module(f"{package.__name__}.topics")
    found.keep("kept:", messages=50, seconds=60.0)
    return found


Serve = Callable[..., Any]


@pytest.fixture
def serving(package: ModuleType, loop: str, topics: Any) -> Serve:
    """Serves the application of these tests; options are those of the server."""
    return partial(
        serve, partial(topics_app.app, topics=topics), loop, package, ws_ping_interval=None
    )


@pytest.fixture(params=[RedisServer, NatsServer])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with request.param(tmp_path / "broker") as running:
        yield running


def hub_of(running: Running, package: ModuleType) -> Any:
    places = importlib.import_module(f"{package.__name__}.fanout.current")._places
    return running.call(places[-1].hub)


def end_of(socket: ClientConnection) -> tuple[int | None, str | None, list[Any]]:
    """Close code and reason, and what came before."""
    came = []
    try:
        while True:
            came.append(socket.recv(timeout=DEADLINE))
    except ConnectionClosed:
        return socket.close_code, socket.close_reason, came


CLOSED = (1012, "messages were lost")


def restart(broker: Any, healthy: Callable[[], bool], running: Running) -> None:
    broker.kill()
    running.wait_until(lambda: not healthy())
    broker.start()
    running.wait_until(healthy)


def test_what_a_broker_has_lost_closes_who_prefers_that_and_others_are_told(
    package: ModuleType, serving: Serve, broker: Any
) -> None:
    with serving(topics_url=broker.url) as running, STACK:
        hub = hub_of(running, package)
        running.wait_until(hub.bus.healthy)
        ends = [Client(running, f"{topic}?on_gap=close") for topic in ("a", "kept:a")]
        stays = [Client(running, f"{topic}?envelope=true") for topic in ("a", "kept:a")]
        publish(running, "kept:a", "before")
        assert [stays[1].next(), stays[1].next()["data"]] == [f"pid {os.getpid()}", "before"]
        restart(broker, hub.bus.healthy, running)
        for client in ends:
            code, reason, came = end_of(client.socket)
            assert (code, reason) == CLOSED
            assert came in ([], ["before"])
        assert stays[0].next() == f"pid {os.getpid()}"
        for topic, client in zip(("a", "kept:a"), stays, strict=True):
            assert client.next() == {"topic": topic, "gap": 1}
            publish(running, topic, "after")
            assert client.next()["data"] == "after"
        found = get(running, "stats")
        assert (found["closed"], found["closed_on_gap"], found["subscriptions"]) == (0, 2, 2)
        # Who comes back goes on.
        again = Client(running, "a?on_gap=close")
        publish(running, "a", "again")
        assert again.next() == "again"


def test_nobody_is_closed_if_the_history_has_what_came_meanwhile(
    package: ModuleType, serving: Serve, broker: Any
) -> None:
    with serving(topics_url=f"{broker.url}?durable=true") as running, STACK:
        hub = hub_of(running, package)
        running.wait_until(hub.bus.healthy)
        client = Client(running, "kept:a?on_gap=close")
        publish(running, "kept:a", "before")
        assert client.next() == "before"
        lost = cut(running, hub.bus._client)
        publish(running, "kept:a", "meanwhile")
        running.wait_until(lambda: lost() and hub.bus.healthy())
        publish(running, "kept:a", "after")
        assert [client.next(), client.next()] == ["meanwhile", "after"]
        assert get(running, "stats")["closed_on_gap"] == 0


def cut(running: Running, client: Any) -> Callable[[], bool]:
    """Cut its connection; whether it is another one by now."""
    if hasattr(client, "_links"):
        link = next(iter(client._links.values()))
        transport = link._connection._writer.transport
        running.call(transport.abort)
        return lambda: link.lost is not None
    link = client._link
    running.call(link.connection._transport._io_writer.transport.abort)
    return lambda: client._link is not link


def test_a_gap_of_the_bus_closes_each_socket_once_and_in_slices(
    package: ModuleType, serving: Serve, topics: Any
) -> None:
    with serving() as running, STACK:
        hub = hub_of(running, package)
        number = 300
        ends = [
            subscribed(running, "a?on_gap=close&policy=latest", compression=None)
            for _ in range(number)
        ]
        for socket in ends:
            assert str(socket.recv(timeout=DEADLINE)).startswith("pid")
        stays = Client(running, "a?envelope=true")
        assert stays.next() == f"pid {os.getpid()}"
        plain = Client(running, "a?policy=latest")  # but for on_gap it wants the same

        def lose() -> int:
            hub.miss("a", 2)
            hub.miss("a", 1)
            return int(hub.bus._hub._topics["a"].deliver(publication("behind it")))

        message = importlib.import_module(f"{package.__name__}.fanout.message")

        def publication(text: str) -> Any:
            return message.Publication("a", message.TEXT, text.encode())

        assert running.call(lose) == 2
        for socket in ends:
            assert end_of(socket) == (*CLOSED, [])
        assert [stays.next()["gap"], stays.next()["gap"]] == [2, 1]
        assert stays.next()["data"] == plain.next() == "behind it"
        running.wait_until(lambda: topics_of(hub) == 2)
        found = get(running, "stats")
        assert (found["closed_on_gap"], found["closed"]) == (number, 0)
        assert found["dropped"] == 3 * (number + 2) + number


def topics_of(hub: Any) -> int:
    return int(hub.numbers().get("a", 0))


def test_a_socket_that_does_not_read_is_closed_for_a_loss_whatever_its_policy(
    package: ModuleType, serving: Serve
) -> None:
    with serving() as running, STACK:
        hub = hub_of(running, package)
        slow = Client(running, "a?on_gap=close&policy=drop_newest", compression=None, max_queue=1)
        large = "x" * 500_000
        while not get(running, "stats")["dropped"]:
            publish(running, "a", large)
        # What it has dropped for being slow does not close it.
        assert get(running, "stats")["closed_on_gap"] == 0
        running.call(lambda: hub.miss("a", 1))
        code, reason, came = end_of(slow.socket)
        assert (code, reason) == CLOSED
        assert set(came) == {large}


def test_a_loss_while_it_subscribes_closes_it(package: ModuleType, serving: Serve) -> None:
    with serving() as running, STACK:
        hub = hub_of(running, package)
        follow = hub.bus.follow

        async def followed(topic: str, first: bool) -> None:
            await follow(topic, first)
            hub.miss(topic, 1)

        hub.bus.follow = followed
        socket = subscribed(running, "a?on_gap=close")
        assert end_of(socket)[:2] == CLOSED
        running.wait_until(lambda: topics_of(hub) == 0)


@pytest.mark.parametrize("pure", PURE)
def test_a_worker_that_has_missed_messages_of_others_closes_its_sockets(pure: str) -> None:
    options = ("--timeout-worker-healthcheck", "60")
    with Fleet(*options, workers=2, ASGIWS_PURE=pure) as fleet, fleet.stack:
        path = "a?on_gap=close&policy=drop_newest"
        victim = fleet.subscribe(path)
        while (speaker := fleet.subscribe(path)).pid == victim.pid:
            speaker.socket.close()
        fleet.wait_until(lambda: fleet.count("a")["everywhere"] == 2, "the count")
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            for number in range(40):
                speaker.socket.send(f"{number}{' ' * 900_000}")
            speaker.socket.send("own last")
            assert speaker.next() == "own last"
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        code, reason, came = end_of(victim.socket)
        assert (code, reason) == CLOSED
        numbers = [int(text) for text in came]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < 40
        again = fleet.subscribe(path)
        fleet.publish("a", "after")
        assert again.next() == speaker.next() == "after"


async def test_on_gap_is_one_of_two() -> None:
    from asgiws import topics

    with pytest.raises(topics.TopicError, match="on_gap must be one of tell, close, got 'shrug'"):
        async with topics.subscribe(object(), "a", on_gap="shrug"):  # type: ignore[arg-type]
            pass
