"""The application under test that speaks ASGI itself; frameworks.py holds its cousins.

Every path does one thing the load generator (load/) knows the right answer to.
What is streamed is built by ``pattern``, whose twin stands in load/payload.c.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
VARIANTS = 64
HELLO = b"Hello, world!"
FLOOD_CONFIRM = 1000
CHUNK = 16 * 1024
CHUNKS = 64


def pattern(index: int, size: int) -> str:
    """The ``index``-th message of a stream: its number, then letters that depend on it."""
    turn = (index * 7 + 8) % 26
    letters = (ALPHABET * (size // 26 + 2))[turn:]
    return f"{index:08x}{letters}"[:size]


PUSH = [pattern(index, 125) for index in range(VARIANTS)]
DOWNLOAD = [pattern(index, CHUNK).encode() for index in range(CHUNKS)]


async def echo(receive: Receive, send: Send) -> None:
    """Send every message back as what it was."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def corrupt(receive: Receive, send: Send) -> None:
    """An echo with one wrong letter in every hundredth message: the load generator must object."""
    await receive()
    await send({"type": "websocket.accept"})
    count = 0
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event["text"]
        count += 1
        if count % 100 == 0:
            text = text[:-1] + "!"
        await send({"type": "websocket.send", "text": text})


async def swap(receive: Receive, send: Send) -> None:
    """An echo that gives every two messages back in the wrong order."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        first = await receive()
        second = await receive()
        for event in (second, first):
            if event["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": event["text"]})


async def swallow(receive: Receive, send: Send) -> None:
    """Never answer."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def push(receive: Receive, send: Send) -> None:
    """Stream as many messages of 125 B as the client asked for, as often as it asks."""
    await receive()
    await send({"type": "websocket.accept"})
    count = 0
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        for _ in range(int(event["text"])):
            await send({"type": "websocket.send", "text": PUSH[count % VARIANTS]})
            count += 1


async def flood(receive: Receive, send: Send) -> None:
    """Take messages; after every thousandth say how many and how many characters came."""
    await receive()
    await send({"type": "websocket.accept"})
    count = size = 0
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        count += 1
        size += len(event["text"])
        if count % FLOOD_CONFIRM == 0:
            await send({"type": "websocket.send", "text": f"{count} {size}"})


members: dict[Send, None] = {}


async def broadcast(receive: Receive, send: Send) -> None:
    """A message of any member goes to all members, the sender included."""
    await receive()
    await send({"type": "websocket.accept"})
    members[send] = None
    try:
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            message = {"type": "websocket.send", "text": event["text"]}
            for member in list(members):
                try:
                    await member(message)
                except OSError:
                    members.pop(member, None)
    finally:
        members.pop(send, None)


async def by_topics(scope: Event, receive: Receive, send: Send) -> None:
    """The same by ``asgiws.topics``."""
    from asgiws import topics  # the other servers are measured without it

    await receive()
    await send({"type": "websocket.accept"})
    async with topics.subscribe(scope, "all"):
        while (event := await receive())["type"] != "websocket.disconnect":
            await topics.publish("all", text=event["text"])


async def whose(receive: Receive, send: Send) -> None:
    """Tell the process id, then be silent."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (await receive())["type"] != "websocket.disconnect":
        pass


WEBSOCKETS = {
    "/echo": echo,
    "/corrupt": corrupt,
    "/swap": swap,
    "/swallow": swallow,
    "/push": push,
    "/flood": flood,
    "/broadcast": broadcast,
    "/whose": whose,
}


async def respond(scope: Event, receive: Receive, send: Send) -> None:
    """The HTTP side: a greeting, an echo of the body, a streamed download."""
    path = scope["path"]
    plain = (b"content-type", b"text/plain")
    if path == "/hello":
        headers = [plain, (b"content-length", b"%d" % len(HELLO))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": HELLO})
    elif path == "/post":
        body = b""
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            if not event.get("more_body", False):
                break
        headers = [plain, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif path == "/download":
        await send({"type": "http.response.start", "status": 200, "headers": [plain]})
        for chunk in DOWNLOAD:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    else:
        headers = [plain, (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop without doing anything."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def raw(scope: Event, receive: Receive, send: Send) -> None:
    """All paths as one plain ASGI application."""
    if scope["type"] == "websocket":
        if scope["path"] == "/broadcast" and os.environ.get("BENCHMARK_TOPICS"):
            await by_topics(scope, receive, send)
        else:
            await WEBSOCKETS[scope["path"]](receive, send)
    elif scope["type"] == "http":
        await respond(scope, receive, send)
    else:
        await lifespan(receive, send)
