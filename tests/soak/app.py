"""The application of the soak: it publishes by itself, and for whoever asks it to.

What its own tasks and threads publish stands in a journal, one file for each process, before
and after each publication. So the checker knows of it, also if the process is killed.

    GET  /ws/TOPIC       a WebSocket that is subscribed; what it says is published
    GET  /events/TOPIC   server-sent events
    POST /publish/TOPIC  a message
    POST /flood/TOPIC    as many large messages as the body says, in the background
    GET  /count/TOPIC    how many have subscribed
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from asgiws import topics

from .topics import OF_TASKS, RETENTION, padding, said

for prefix, (messages, seconds) in RETENTION.items():
    topics.keep(prefix, messages=messages, seconds=seconds)

FOLDER = Path(os.environ["SOAK_FOLDER"])
RATE = float(os.environ["SOAK_RATE"])  # publications of this worker, per second
FLOOD_BYTES = 50_000
STOP = FOLDER / "stop"  # while it exists nothing is published from here


class Journal:
    """What this process has published, and how its subscriptions have ended."""

    def __init__(self) -> None:
        self._fd = os.open(
            FOLDER / f"{os.getpid()}.journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )

    def write(self, *words: object) -> None:
        os.write(self._fd, (" ".join(str(word) for word in words) + "\n").encode())


journal = Journal()
floods: list[asyncio.Task[None]] = []


class Own:
    """One publisher of this process. After a failure it goes on as another one."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lives = 0
        self._random = random.Random(f"{kind} {os.getpid()}")
        self._begin()

    def _begin(self) -> None:
        self._lives += 1
        self._name = f"{self._kind}-{os.getpid()}-{self._lives}"
        self._numbers: dict[str, int] = {}

    def next(self, topic: str = "", pad: int = 0) -> tuple[str, int, dict[str, Any]]:
        """What is to be published, as arguments; of any topic, or of that with so many bytes."""
        if not topic:
            topic = self._random.choice(OF_TASKS)
            pad = padding(topic, self._random)
        number = self._numbers[topic] = self._numbers.get(topic, -1) + 1
        now = time.monotonic()
        journal.write("begin", topic, self._name, number, now)
        return topic, number, said(self._name, number, now, pad)

    def done(self, topic: str, number: int) -> None:
        journal.write("done", topic, self._name, number, time.monotonic())

    def failed(self, topic: str, number: int) -> None:
        journal.write("failed", topic, self._name, number, time.monotonic())
        self._begin()

    def pause(self, rate: float) -> float:
        """Seconds until the next one; now and then there is none, for a burst."""
        return 0.0 if self._random.random() < 0.5 else self._random.expovariate(rate / 2)


async def publish_by_task(rate: float) -> None:
    own = Own("task")
    while True:
        await asyncio.sleep(own.pause(rate))
        if STOP.exists():
            await asyncio.sleep(0.2)
            continue
        topic, number, arguments = own.next()
        try:
            await topics.publish(topic, **arguments)
        except topics.BusUnavailable:
            own.failed(topic, number)
        else:
            own.done(topic, number)


async def flood(own: Own, topic: str, messages: int) -> None:
    for _ in range(messages):
        _, number, arguments = own.next(topic, FLOOD_BYTES)
        try:
            await topics.publish(topic, **arguments)
        except topics.BusUnavailable:
            own.failed(topic, number)
        else:
            own.done(topic, number)


def publish_by_thread(ends: threading.Event, rate: float) -> None:
    own = Own("thread")
    while not ends.wait(own.pause(rate)):
        if STOP.exists():
            ends.wait(0.2)
            continue
        topic, number, arguments = own.next()
        try:
            topics.publish_from_thread(topic, **arguments)
        except (topics.BusUnavailable, TimeoutError, RuntimeError):
            own.failed(topic, number)
        else:
            own.done(topic, number)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    _, what, topic = scope["path"].split("/")
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["type"] == "websocket":
        await websocket(scope, receive, send, topic, query)
    elif what == "publish":
        await publish(receive, send, topic)
    elif what == "flood":
        messages = int((await receive())["body"])
        floods.append(asyncio.create_task(flood(Own(f"flood{len(floods)}"), topic, messages)))
        await answer(send, 200, {"pid": os.getpid()})
    elif what == "events":
        await events(scope, receive, send, topic)
    else:
        try:
            count = await topics.count(topic)
        except topics.BusUnavailable:
            await answer(send, 503, {"everywhere": -1})
        else:
            await answer(send, 200, count._asdict())


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    ends = threading.Event()
    thread = threading.Thread(target=publish_by_thread, args=(ends, RATE / 10))
    task = asyncio.create_task(publish_by_task(RATE))
    thread.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    task.cancel()
    ends.set()
    # Its last publication needs this event loop.
    await asyncio.gather(asyncio.to_thread(thread.join), task, return_exceptions=True)
    await send({"type": "lifespan.shutdown.complete"})


async def websocket(scope: Any, receive: Any, send: Any, topic: str, query: dict[str, str]) -> None:
    await receive()
    await send({"type": "websocket.accept"})

    async def tell(**values: Any) -> None:
        await send({"type": "websocket.send", "text": json.dumps(values)})

    name = query.pop("name")
    arguments: dict[str, Any] = {
        key: value if key in ("policy", "since") else json.loads(value)
        for key, value in query.items()
    }
    subscription = topics.subscribe(scope, topic, **arguments)
    try:
        await subscription.__aenter__()
    except topics.BusUnavailable:
        await send({"type": "websocket.close", "code": 1013})
        return
    try:
        await tell(hello=os.getpid(), recovered=subscription.recovered)
        while (event := await receive())["type"] == "websocket.receive":
            heard = json.loads(event["text"])
            number = heard["n"]
            message = said(heard["p"], number, heard["t"], heard["x"])
            exclude = scope if heard["exclude"] else None
            try:
                await topics.publish(topic, exclude=exclude, **message)
            except topics.BusUnavailable:
                await tell(failed=number)
            else:
                await tell(said=number)
    finally:
        journal.write("dropped", name, subscription.dropped)
        await subscription.__aexit__(None, None, None)


async def events(scope: Any, receive: Any, send: Any, topic: str) -> None:
    since = dict(scope["headers"]).get(b"last-event-id")
    listening = topics.listen(topic, since=since and since.decode())
    headers = [(b"content-type", b"text/event-stream")]
    gone = asyncio.ensure_future(left(receive))
    begun = False
    try:
        async with listening as messages:
            begun = True
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            hello = {"hello": os.getpid(), "recovered": messages.recovered}
            await event(send, hello, messages.position)
            while True:
                following = asyncio.ensure_future(anext(messages))
                await asyncio.wait([following, gone], return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                message = await following
                if message.gap:
                    await event(send, {"gap": message.gap}, None)
                await event(send, json.loads(message.bytes), message.position)
    except topics.BusUnavailable:
        assert not begun
        await answer(send, 503, {})
    finally:
        gone.cancel()


async def left(receive: Any) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def event(send: Any, value: Any, position: str | None) -> None:
    head = f"id: {position}\n" if position else ""
    body = f"{head}data: {json.dumps(value)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def publish(receive: Any, send: Any, topic: str) -> None:
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    heard = json.loads(body)
    status = 200
    try:
        await topics.publish(topic, **said(heard["p"], heard["n"], heard["t"], heard["x"]))
    except topics.BusUnavailable:
        status = 503
    await answer(send, status, {"pid": os.getpid()})


async def answer(send: Any, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    with suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
