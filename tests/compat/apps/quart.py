"""Quart: context-local websockets, and two tasks per connection that broadcast."""

from __future__ import annotations

import asyncio

from quart import Quart, abort, websocket

app = Quart(__name__)
inboxes: set[asyncio.Queue[str]] = set()


@app.get("/")
async def home() -> str:
    return "quart"


@app.websocket("/echo")
async def echo() -> None:
    offered = websocket.requested_subprotocols
    await websocket.accept(subprotocol="echo.v1" if "echo.v1" in offered else None)
    while True:
        message = await websocket.receive()
        if message == "boom":
            raise RuntimeError("boom")
        await websocket.send(message)


@app.websocket("/close")
async def close() -> None:
    await websocket.accept()
    await websocket.close(4001, "done")


@app.websocket("/deny")
async def deny() -> None:
    abort(403)


@app.websocket("/room")
async def room() -> None:
    inbox: asyncio.Queue[str] = asyncio.Queue()
    inboxes.add(inbox)

    async def read() -> None:
        while True:
            said = await websocket.receive()
            for each in inboxes:
                each.put_nowait(said)

    async def write() -> None:
        while True:
            await websocket.send(await inbox.get())

    try:
        await websocket.accept()
        await asyncio.gather(read(), write())
    finally:
        inboxes.remove(inbox)
