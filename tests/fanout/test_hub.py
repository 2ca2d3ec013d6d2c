"""Topics in one process: what subscribers get, over real sockets, in both builds."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.toolkit.certificates import NO_TLS, Certificates, for_two_threads
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
    url = f"http://127.0.0.1:{running.port}/{topic}"
    return int(httpx.post(url, content=text, verify=NO_TLS).text)


def get(running: Running, topic: str) -> dict[str, int]:
    url = f"http://127.0.0.1:{running.port}/{topic}"
    found: dict[str, int] = httpx.get(url, verify=NO_TLS).json()
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
    for number in range(3):
        # What the session deflates itself may refer to what it has sent before.
        one.socket.send(f"own {text}{number}")
        assert one.next() == f"own {text}{number}"
        one.socket.send(text)
        assert two.next() == text
        publish(running, "a", f"{number}{text}")
        assert one.next() == two.next() == f"{number}{text}"


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


def test_a_websocket_subscribes_to_a_topic_once(
    package: ModuleType, loop: str, topics: Any, errors: list[str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        subscribing = topics.subscribe(scope, "a")
        for accepted in (False, True):
            try:
                async with topics.subscribe(scope, "a"), topics.subscribe(scope, "a"):
                    pass
            except topics.TopicError as error:
                errors.append(str(error))
            if not accepted:
                await send({"type": "websocket.accept"})
        try:
            async with AsyncExitStack() as stack:
                for number in range(200):
                    await stack.enter_async_context(topics.subscribe(scope, str(number)))
        except topics.TopicError as error:
            errors.append(str(error))
        async with subscribing:
            errors.append(str(topics.stats().subscriptions))

    with (
        serve(app, loop, package) as server,
        connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as client,
    ):
        assert close_code_of(client) == 1000
    assert ["accepted" in errors[0], "already" in errors[1], "128 topics" in errors[2]] == [
        True
    ] * 3
    assert errors[3:] == ["1"]


def test_a_subscription_takes_less_than_200_bytes(
    package: ModuleType, loop: str, topics: Any, errors: list[str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        async with topics.subscribe(scope, "a") as subscription:
            member = subscription._about
            place = sys.getsizeof([None] * 100) / 100  # in the list of the topic
            errors.append(str(sys.getsizeof(subscription) + sys.getsizeof(member) + place))

    with (
        serve(app, loop, package) as server,
        connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as client,
    ):
        assert close_code_of(client) == 1000
    assert float(errors[0]) < 200


def test_a_client_that_has_left_is_told_as_such(
    package: ModuleType, loop: str, topics: Any, log: list[Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        async with topics.subscribe(scope, "a"):
            raise AssertionError("it has subscribed")

    with serve(app, loop, package) as server:
        with connect(f"ws://127.0.0.1:{server.port}/", proxy=None):
            pass
        server.wait_until(lambda: not server.server.serving.tasks)
    assert [record.getMessage() for record in log if record.levelname == "ERROR"] == []


def test_a_loop_of_its_own_is_refused_and_may_publish_as_a_thread_does(
    package: ModuleType, loop: str, topics: Any, errors: list[str]
) -> None:
    async def elsewhere() -> None:
        for call in (topics.publish("a", text="x"), topics.count("a")):
            try:
                await call
            except RuntimeError as error:
                errors.append(str(error))
        topics.publish_from_thread("a", text="from its thread")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        async with topics.subscribe(scope, "a"):
            await asyncio.to_thread(asyncio.run, elsewhere())

    with serve(app, loop, package) as server, STACK:
        client = subscribed(server, "")
        assert client.recv(timeout=DEADLINE) == "from its thread"
        assert close_code_of(client) == 1000
    assert ["publish_from_thread" in error for error in errors] == [True] * 2


def test_the_lifespan_a_task_and_a_thread_publish(
    package: ModuleType, loop: str, topics: Any, errors: list[str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await receive()
            errors.append(str(await topics.publish("a", text="the end")))
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "websocket.accept"})
        async with topics.subscribe(scope, "a"):
            await asyncio.create_task(topics.publish("a", text="a task"))
            await asyncio.to_thread(topics.publish_from_thread, "a", text="a thread")
            thread = threading.Thread(
                target=topics.publish_from_thread, args=("a",), kwargs={"text": "its own"}
            )
            thread.start()
            await receive()

    with serve(app, loop, package, lifespan="on") as server, STACK:
        client = subscribed(server, "")
        texts = [client.recv(timeout=DEADLINE) for _ in range(3)]
        assert texts == ["a task", "a thread", "its own"]
    assert errors == ["0"]


def test_messages_of_all_sizes_come_over_tls(
    package: ModuleType, loop: str, topics: Any, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.client()
    app = partial(topics_app.app, topics=topics)
    with serve(app, loop, package, **certificates.options) as server, STACK:
        url = f"wss://localhost:{server.port}/a"
        clients = [
            STACK.enter_context(
                connect(url, proxy=None, ssl=for_two_threads(context), close_timeout=1)
            )
            for _ in range(2)
        ]
        for client in clients:
            assert str(client.recv(timeout=DEADLINE)).startswith("pid")
        for size in (10, 100_000, 900_000):
            clients[0].send("x" * size)
            assert clients[1].recv(timeout=DEADLINE) == "x" * size


@pytest.fixture
def errors() -> list[str]:
    return []
