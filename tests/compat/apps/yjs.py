"""pycrdt-websocket: documents that Yjs and pycrdt edit together, a room for every path."""

from __future__ import annotations

from typing import Any

from pycrdt.websocket import ASGIServer, WebsocketServer

rooms = WebsocketServer(auto_clean_rooms=False)
documents = ASGIServer(rooms)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await documents(scope, receive, send)
        return
    await receive()
    async with rooms:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
