"""The same chat in several ways, as Starlette applications: what one says, all hear.

``loop`` and ``topics`` need nothing; the others take the address of a Redis from BENCHMARK_REDIS.
Each says "ready" to a client once it hears everything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

REDIS = os.environ.get("BENCHMARK_REDIS", "")
STUCK_BYTES = 8 << 20  # more than kernel and server keep for a client that does not read

members: dict[WebSocket, None] = {}


async def by_loop(websocket: WebSocket) -> None:
    """The application has all sockets in a dict, and sends to one after the other."""
    await websocket.accept()
    members[websocket] = None
    await websocket.send_text("ready")
    try:
        while True:
            text = await websocket.receive_text()
            for member in list(members):
                await member.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        members.pop(websocket, None)


loop = Starlette(routes=[WebSocketRoute("/chat", by_loop)])


async def by_topics(websocket: WebSocket) -> None:
    """``asgiws.topics``; clients of a room hear each other only."""
    from asgiws import topics

    room = websocket.path_params.get("room", "all")
    await websocket.accept()
    async with topics.subscribe(websocket, room):
        await websocket.send_text("ready")
        async for text in websocket.iter_text():
            await topics.publish(room, text=text)


async def stuck(websocket: WebSocket) -> None:
    """One that never reads: what it is sent waits, and the oldest is dropped."""
    from asgiws import topics

    await websocket.accept()
    async with topics.subscribe(websocket, "all", policy="drop_oldest"):
        await websocket.send_text("ready")
        await websocket.send_bytes(bytes(STUCK_BYTES))


async def held(websocket: WebSocket) -> None:
    """An echo that has subscribed to so many topics, all of them shared with the others."""
    from asgiws import topics

    await websocket.accept()
    count = int(websocket.path_params["count"])
    subscriptions = [topics.subscribe(websocket, f"topic {i}") for i in range(count)]
    for subscription in subscriptions:
        await subscription.__aenter__()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


topics = Starlette(
    routes=[
        WebSocketRoute("/chat", by_topics),
        WebSocketRoute("/chat/{room}", by_topics),
        WebSocketRoute("/stuck", stuck),
        WebSocketRoute("/held/{count:int}", held),
    ]
)


def by_broadcaster() -> Starlette:
    """broadcaster, as its README has it: two tasks for each client."""
    from broadcaster import Broadcast

    broadcast = Broadcast(REDIS)

    async def receiver(websocket: WebSocket) -> None:
        async for message in websocket.iter_text():
            await broadcast.publish(channel="all", message=message)

    async def first(subscribed: asyncio.Event) -> None:
        """Subscribe before all clients: of several that are the first at once it keeps one only.

        And to a second channel: with redis-py 8 it does not listen before that.
        """
        async with (
            broadcast.subscribe(channel="none"),
            broadcast.subscribe(channel="all") as subscriber,
        ):
            subscribed.set()
            async for _ in subscriber:
                pass

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        async with broadcast.subscribe(channel="all") as subscriber:
            await websocket.send_text("ready")
            task = asyncio.create_task(receiver(websocket))
            async for event in subscriber:
                await websocket.send_text(event.message)
            await task

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with broadcast:
            subscribed = asyncio.Event()
            task = asyncio.create_task(first(subscribed))
            await subscribed.wait()
            yield
            task.cancel()

    return Starlette(routes=[WebSocketRoute("/chat", chat)], lifespan=lifespan)


def by_hand() -> Starlette:
    """One listener in each process, which sends to all sockets: what people write themselves."""
    from redis import asyncio as redis

    client = redis.Redis.from_url(REDIS)
    here: dict[WebSocket, None] = {}

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        here[websocket] = None
        await websocket.send_text("ready")
        try:
            async for message in websocket.iter_text():
                await client.publish("all", message)
        finally:
            here.pop(websocket, None)

    async def listen(pubsub: redis.client.PubSub) -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                text = message["data"].decode()
                for websocket in list(here):
                    await websocket.send_text(text)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pubsub = client.pubsub()
        await pubsub.subscribe("all")
        task = asyncio.create_task(listen(pubsub))
        yield
        task.cancel()

    return Starlette(routes=[WebSocketRoute("/chat", chat)], lifespan=lifespan)


if REDIS:
    broadcaster = by_broadcaster()
    hand = by_hand()
