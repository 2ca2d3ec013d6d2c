"""Topics in one process: what subscribers get, over real sockets, in both builds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.toolkit.running import DEADLINE, Running
from tests.toolkit.running import running as serve

from . import topics_app

STACK = ExitStack()


def subscribed(running: Running, path: str, **options: Any) -> ClientConnection:
    """A client that stays until the end of the test."""
    url = f"ws://127.0.0.1:{running.port}/{path}"
    return STACK.enter_context(connect(url, proxy=None, close_timeout=1, **options))


def close_code_of(socket: ClientConnection) -> int | None:
    """Read to the end; how it was closed."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=DEADLINE)
    return socket.close_code


class Client:
    """One that subscribes, and has seen that it has."""

    def __init__(self, running: Running, path: str, **options: Any) -> None:
        self.socket = subscribed(running, path, **options)
        self.first = self.next()

    def next(self) -> Any:
        message = self.socket.recv(timeout=DEADLINE)
        if isinstance(message, str) and message.startswith("{"):
            return json.loads(message)
        return message


@pytest.fixture
def topics(package: ModuleType) -> Any:
    found = importlib.import_module(f"{package.__name__}.topics")
    found.keep("kept:", messages=50, seconds=60.0)
    found.keep("latest:", messages=1, seconds=60.0)
    return found


@pytest.fixture
def running(package: ModuleType, loop: str, topics: Any) -> Iterator[Running]:
    app = partial(topics_app.app, topics=topics)
    with serve(app, loop, package, ws_ping_interval=None) as server, STACK:
        yield server


def publish(running: Running, topic: str, text: str) -> int:
    response = httpx.post(f"http://127.0.0.1:{running.port}/{topic}", content=text)
    return int(response.text)


def get(running: Running, topic: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"http://127.0.0.1:{running.port}/{topic}").json()
    return found


def test_a_message_reaches_all_who_have_subscribed_but_whom_it_excludes(running: Running) -> None:
    one, two, other = Client(running, "a"), Client(running, "a"), Client(running, "b")
    one.socket.send("hello")
    assert two.next() == "hello"
    assert publish(running, "a", "for both") == 2
    assert one.next() == two.next() == "for both"
    assert publish(running, "b", "for the other") == 1
    assert other.next() == "for the other"
    assert publish(running, "nobody", "?") == 0


def test_messages_come_in_order_with_those_of_the_application(running: Running) -> None:
    client = Client(running, "a")
    for number in range(300):
        publish(running, "a", str(number)) if number % 100 == 0 else None
    assert [client.next() for _ in range(3)] == ["0", "100", "200"]


def test_who_has_left_is_not_counted(running: Running) -> None:
    one, two = Client(running, "a"), Client(running, "a")
    assert get(running, "a")["here"] == 2
    one.socket.close()
    assert publish(running, "a", "x") == 1
    assert two.next() == "x"
    assert get(running, "a")["everywhere"] == 1
    assert get(running, "stats")["subscriptions"] == 1


@pytest.mark.parametrize("text", ["short", "long enough to be compressed, " * 20])
def test_messages_are_whole_with_compression(running: Running, text: str) -> None:
    one, two = Client(running, "a"), Client(running, "a", compression=None)
    for _ in range(3):
        one.socket.send(text)  # the session's own deflator is used in between
        assert two.next() == text
        publish(running, "a", text)
        assert one.next() == two.next() == text


def test_an_envelope_tells_topic_and_position(running: Running) -> None:
    client = Client(running, "kept:a?envelope=true")
    first = client.first
    assert first["topic"] == "kept:a"
    assert first["subscribed"] is True
    client.next()
    publish(running, "kept:a", "hello")
    message = client.next()
    assert message == {"topic": "kept:a", "position": message["position"], "data": "hello"}
    epoch, offset = message["position"].split(":")
    assert first["position"] == f"{epoch}:{int(offset) - 1}"


def test_who_comes_back_gets_exactly_what_was_missed(running: Running) -> None:
    client = Client(running, "kept:a?envelope=true")
    client.next()
    publish(running, "kept:a", "0")
    position = client.next()["position"]
    client.socket.close()
    for number in range(1, 11):
        publish(running, "kept:a", str(number))
        publish(running, "kept:other", "x")
    again = Client(running, f"kept:a?envelope=true&since={position}")
    assert again.first["recovered"] is True
    assert [again.next()["data"] for _ in range(10)] == [str(n) for n in range(1, 11)]
    assert str(again.next()).startswith("pid")
    publish(running, "kept:a", "new")
    assert again.next()["data"] == "new"


@pytest.mark.parametrize("since", ["another:5", "nonsense", ":", "1:99999999999999999999999"])
def test_an_unknown_position_recovers_nothing_and_says_so(running: Running, since: str) -> None:
    publish(running, "kept:a", "0")
    client = Client(running, f"kept:a?envelope=true&since={since}")
    assert client.first["recovered"] is False
    assert str(client.next()).startswith("pid")


def test_more_than_is_kept_recovers_nothing_and_says_so(running: Running) -> None:
    client = Client(running, "kept:a?envelope=true")
    for number in range(51):
        publish(running, "kept:a", str(number))
    position = client.first["position"]
    again = Client(running, f"kept:a?envelope=true&since={position}")
    assert again.first["recovered"] is False
    assert str(again.next()).startswith("pid")


def test_a_newcomer_may_have_the_last_messages(running: Running) -> None:
    for number in range(5):
        publish(running, "kept:b", str(number))
        publish(running, "latest:b", str(number))
    client = Client(running, "kept:b?replay=3")
    assert [client.first, client.next(), client.next()] == ["2", "3", "4"]
    assert Client(running, "latest:b?replay=9").first == "4"


def test_a_client_that_does_not_read_is_closed_and_others_do_not_notice(
    running: Running, topics: Any
) -> None:
    slow = subscribed(
        running,
        "a?max_bytes=100000",
        compression=None,
        max_queue=1,
    )
    assert str(slow.recv(timeout=DEADLINE)).startswith("pid")
    fast = Client(running, "a", compression=None, max_size=None)
    large = "x" * 500_000
    for number in range(200):
        publish(running, "a", f"{number} {large}")
        assert fast.next().startswith(f"{number} ")
        if get(running, "stats")["closed"]:
            break
    assert get(running, "stats")["closed"] == 1
    assert get(running, "stats")["dropped"] >= 1
    assert close_code_of(slow) == 1013


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_what_a_slow_client_misses_is_told_where_it_is_missing(
    running: Running, policy: str
) -> None:
    slow = subscribed(
        running,
        f"a?max_bytes=1200000&envelope=true&policy={policy}",
        compression=None,
        max_queue=1,
        max_size=None,
    )
    assert json.loads(slow.recv(timeout=DEADLINE))["subscribed"] is True
    assert str(slow.recv(timeout=DEADLINE)).startswith("pid")
    large = "x" * 500_000
    sent = 0
    while not get(running, "stats")["dropped"] and sent < 100:
        publish(running, "a", f"{sent} {large}")
        sent += 1
    for _ in range(3):
        publish(running, "a", f"{sent} {large}")
        sent += 1
    seen: list[int] = []
    expected = 0
    while expected < sent:
        message = json.loads(slow.recv(timeout=DEADLINE))
        if "gap" in message:
            expected += message["gap"]
        else:
            seen.append(int(message["data"].split()[0]))
            assert seen[-1] == expected
            expected += 1
    assert len(seen) + get(running, "stats")["dropped"] == sent
