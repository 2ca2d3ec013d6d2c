"""``asgiws.topics`` as applications call it, without any server of ours."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from asgiws import topics
from asgiws.fanout import bus, current, history, hub


@pytest.fixture(autouse=True)
def _own_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_own", current.Place(history.Wanted()))
    monkeypatch.setattr(hub, "_rules", {})


async def test_a_listener_gets_what_is_published_in_order() -> None:
    async with topics.listen("a") as messages:
        assert await topics.publish("a", text="1") == 1
        assert await topics.publish("a", bytes=b"2") == 1
        assert await topics.publish("a", json={"n": 3}) == 1
        assert [(await anext(messages)).data for _ in range(3)] == ["1", b"2", {"n": 3}]
        assert await topics.count("a") == (1, 1)
    assert await topics.count("a") == (0, 0)
    assert await topics.publish("a", text="?") == 0


async def test_the_name_of_a_topic_is_kept_once_for_all_subscriptions() -> None:
    class Socket:
        async def send(self, event: dict[str, Any]) -> None: ...

    def name() -> str:
        return "".join(["room:", "a"])

    async with (
        topics.subscribe(Socket(), name()) as first,
        topics.subscribe(Socket(), name()) as second,
    ):
        assert first.topic == "room:a"
        assert second.topic is first.topic


def test_a_call_without_async_with_warns_where_it_stands() -> None:
    with pytest.warns(RuntimeWarning, match='subscribe does nothing without "async w') as first:
        topics.subscribe(object(), "a")
    with pytest.warns(RuntimeWarning, match='listen does nothing without "async with"') as second:
        topics.listen("a")
    assert [warning.filename for warning in (*first, *second)] == [__file__] * 2


@pytest.mark.parametrize("on_gap", ["tell", "close"])
async def test_a_socket_of_another_server_is_closed_for_a_loss_if_it_prefers_that(
    on_gap: Any,
) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    class Socket:
        async def send(self, event: dict[str, Any]) -> None:
            events.put_nowait(event)

    async with topics.subscribe(Socket(), "a", on_gap=on_gap):
        current.hub().miss("a", 1)
        await topics.publish("a", text="behind")
        event = await events.get()
    assert event.get("code") == (1012 if on_gap == "close" else None)


async def test_a_listener_goes_on_behind_a_position() -> None:
    topics.keep("a", messages=10, seconds=60)
    async with topics.listen("a") as messages:
        for number in range(5):
            await topics.publish("a", json=number)
        position = (await anext(messages)).position
    async with topics.listen("a", since=position) as messages:
        assert messages.recovered is True
        assert [(await anext(messages)).data for _ in range(4)] == [1, 2, 3, 4]
    async with topics.listen("a", since="other:1") as messages:
        assert messages.recovered is False
        await topics.publish("a", json=5)
        assert (await anext(messages)).data == 5


async def test_a_listener_is_told_what_it_missed_and_may_end_for_it() -> None:
    async with topics.listen("a", max_bytes=600) as messages:
        for number in range(5):
            await topics.publish("a", json=number)
        message = await anext(messages)
        assert (message.data, message.gap, messages.dropped) == (3, 3, 3)
    async with topics.listen("a", max_bytes=600, policy="close") as messages:
        for number in range(5):
            await topics.publish("a", json=number)
        assert [message.data async for message in messages] == [0, 1]
    assert topics.stats().dropped == 6


async def test_only_one_waits_for_the_next_message_and_nobody_after_the_end() -> None:
    async with topics.listen("a") as messages:
        first = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(messages)
        await topics.publish("a", text="x")
        assert (await first).data == "x"
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(StopAsyncIteration):
        await anext(messages)


async def test_what_is_kept_comes_whole_however_little_may_wait() -> None:
    topics.keep("a", messages=50, seconds=60)
    for number in range(50):
        await topics.publish("a", json=number)
    async with topics.listen("a", replay=50, max_bytes=300) as messages:
        assert [(await anext(messages)).data for _ in range(50)] == list(range(50))
        assert messages.dropped == 0
        position = messages.position
    # And whoever is cut off before it has read them has lost nothing.
    async with topics.listen("a", since=position) as messages:
        assert messages.recovered is True
        assert (await anext(messages)).data == 0


async def test_what_comes_before_a_listener_has_begun_is_only_for_who_looks_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker fills a hole just then, and the client has had it elsewhere."""
    topics.keep("a", messages=50, seconds=60)
    await topics.publish("a", text="first")
    follow = bus.Bus.follow

    async def busy(self: bus.Bus, topic: str, first: bool) -> None:
        await follow(self, topic, first)
        await topics.publish(topic, text="meanwhile")

    async with topics.listen("a", replay=1) as messages:
        position = (await anext(messages)).position
    monkeypatch.setattr(bus.Bus, "follow", busy)
    async with topics.listen("a") as plain, topics.listen("a", since=position) as back:
        await topics.publish("a", text="then")
        # The second "meanwhile" came when the first listener had begun.
        assert [(await anext(plain)).text for _ in range(2)] == ["meanwhile", "then"]
        assert [(await anext(back)).text for _ in range(3)] == ["meanwhile"] * 2 + ["then"]


async def test_a_socket_of_another_server_subscribes_once_and_leaves_if_it_is_gone() -> None:
    async def send(_event: Any) -> None:
        raise RuntimeError("it is closed")

    scope = {"type": "websocket"}
    for envelope in (False, True):
        async with topics.subscribe(scope, "a", send=send, envelope=envelope):
            with pytest.raises(topics.TopicError, match="already"):
                async with topics.subscribe(scope, "a", send=send):
                    pass
            await topics.publish("a", text="x")
        assert topics.stats().subscriptions == 0


async def test_a_cancelled_listener_leaves() -> None:
    async def listen() -> None:
        async with topics.listen("a") as messages:
            async for _ in messages:
                pass

    task = asyncio.create_task(listen())
    while not (await topics.count("a")).here:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert topics.stats().subscriptions == 0


def test_starlettes_test_client_works_with_all_of_it() -> None:
    app = FastAPI()

    @app.websocket("/rooms/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        async with topics.subscribe(websocket, f"room:{room}"):
            await websocket.send_text("subscribed")
            async for text in websocket.iter_text():
                await topics.publish(f"room:{room}", text=text, exclude=websocket)

    @app.post("/rooms/{room}")
    async def say(room: str, text: str) -> int:
        return await topics.publish(f"room:{room}", json={"text": text})

    with (
        TestClient(app) as client,
        client.websocket_connect("/rooms/a") as one,
        client.websocket_connect("/rooms/a") as two,
        topics.recording() as recording,
    ):
        assert one.receive_text() == two.receive_text() == "subscribed"
        one.send_text("hello")
        assert two.receive_text() == "hello"
        assert client.post("/rooms/a", params={"text": "for both"}).json() == 2
        assert one.receive_json() == two.receive_json() == {"text": "for both"}
        assert [message.data for message in recording.published] == ["hello", {"text": "for both"}]
        assert recording.subscribed == {"room:a": 2}
    assert topics.stats().subscriptions == 0


async def test_a_thread_publishes() -> None:
    reached: list[int] = []

    def publish() -> None:
        reached.append(topics.publish_from_thread("a", text="from a thread"))

    async with topics.listen("a") as messages:
        thread = threading.Thread(target=publish)
        thread.start()
        assert (await anext(messages)).text == "from a thread"
        thread.join()
    assert reached == [1]
    with pytest.raises(RuntimeError, match=r"await topics\.publish"):
        topics.publish_from_thread("a", text="x")


@pytest.mark.parametrize(
    ("topic", "arguments", "message"),
    [
        ("", {"text": "x"}, "1 to 255 bytes"),
        ("x" * 256, {"text": "x"}, "1 to 255 bytes"),
        ("a", {}, "exactly one"),
        ("a", {"text": "x", "json": None}, "exactly one"),
        ("a", {"text": b"x"}, "text must be a str"),
        ("a", {"text": "\ud800"}, "UTF-8"),
        ("a", {"bytes": "x"}, "bytes must be bytes"),
        ("a", {"bytes": b"x" * 16_777_217}, "16777216 bytes"),
        (None, {"text": "x"}, "must be a str"),
    ],
)
async def test_what_cannot_be_published_is_refused(
    topic: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(topics.TopicError, match=message):
        await topics.publish(topic, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"policy": "?"}, {"max_bytes": 0}, {"replay": -1}, {"since": 1}]
)
async def test_what_cannot_be_listened_to_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(topics.TopicError, match="must be"):
        async with topics.listen("a", **arguments):
            pass


@pytest.mark.parametrize("arguments", [("a", -1, 1.0), ("a", 1, 0.0), ("", 1, 1.0)])
def test_what_cannot_be_kept_is_refused(arguments: tuple[str, int, float]) -> None:
    topic, messages, seconds = arguments
    with pytest.raises(topics.TopicError, match="must"):
        topics.keep(topic, messages, seconds)


async def test_a_scope_without_send_is_refused_where_nobody_can_write_to_it() -> None:
    with pytest.raises(topics.TopicError, match="send"):
        async with topics.subscribe({"type": "websocket"}, "a"):
            pass


async def test_a_process_has_a_bounded_number_of_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_TOPICS", 2)
    async with topics.listen("a"), topics.listen("b"):
        with pytest.raises(topics.TopicError, match="a process may have 2 topics"):
            async with topics.listen("c"):
                pass
        async with topics.listen("b"):
            assert topics.stats().topics == 2
    assert topics.stats().topics == 0


async def test_what_is_kept_is_bounded_and_so_is_one_message_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = history.Wanted(messages=1_000, memory=100_000)
    monkeypatch.setattr(current, "_own", current.Place(wanted))
    with pytest.raises(
        topics.TopicError, match=r"24436 bytes, not 25000 \(--topics-history-memory"
    ):
        await topics.publish("a", text="x" * 25_000)
    for number in range(200):
        await topics.publish("a", text=f"{number} {'x' * 1_000}")
    async with topics.listen("a", replay=1_000) as messages:
        await topics.publish("a", text="end")
        found = [(await anext(messages)).text]
        while found[-1] != "end":
            found.append((await anext(messages)).text)
    assert 50 < len(found) < 100  # as many as go into 100 kB, and none is missing
    assert [text.split()[0] for text in found[:-1]] == [
        str(n) for n in range(201 - len(found), 200)
    ]
