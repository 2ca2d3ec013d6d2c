"""Starlette: functions, an endpoint class, and a denial response with a body."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("starlette")


async def echo(socket: WebSocket) -> None:
    await socket.accept("echo.v1" if "echo.v1" in socket["subprotocols"] else None)
    while (event := await socket.receive())["type"] == "websocket.receive":
        if event.get("text") == "boom":
            raise RuntimeError("boom")
        if event.get("text") is not None:
            await socket.send_text(event["text"])
        else:
            await socket.send_bytes(event["bytes"])


async def close(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4001, "done")


async def deny(socket: WebSocket) -> None:
    await socket.close()


async def teapot(socket: WebSocket) -> None:
    await socket.send_denial_response(JSONResponse({"why": "short and stout"}, 418))


class Doubled(WebSocketEndpoint):
    encoding = "json"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_json([data, data])


app = Starlette(
    routes=[
        Route("/", home),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/close", close),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/teapot", teapot),
        WebSocketRoute("/doubled", Doubled),
    ]
)
