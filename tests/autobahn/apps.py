"""The applications under test: an echo on bare ASGI, and the same on Starlette."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def raw(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Echo every message as the type it came in."""
    if scope["type"] == "lifespan":
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})
        return
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    while (event := await socket.receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await socket.send_text(event["text"])
        else:
            await socket.send_bytes(event["bytes"])


starlette = Starlette(routes=[WebSocketRoute("/", echo)])
