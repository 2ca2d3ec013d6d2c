"""The application under test as most people write it: with Starlette, and with FastAPI.

A module of its own, so that measuring the raw application imports no framework.
"""

from __future__ import annotations

import tempfile

from apps import DOWNLOAD, HELLO
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

members: dict[WebSocket, None] = {}
file = tempfile.NamedTemporaryFile()  # noqa: SIM115  # it lives as long as the server
file.write(b"".join(DOWNLOAD))
file.flush()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def broadcast(websocket: WebSocket) -> None:
    await websocket.accept()
    members[websocket] = None
    try:
        while True:
            text = await websocket.receive_text()
            for member in list(members):
                await member.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        members.pop(websocket, None)


async def starlette_hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(HELLO)


async def starlette_file(request: Request) -> FileResponse:
    return FileResponse(file.name)


async def fastapi_hello() -> PlainTextResponse:
    return PlainTextResponse(HELLO)


starlette = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/broadcast", broadcast),
        Route("/hello", starlette_hello),
        Route("/file", starlette_file),
    ]
)

fastapi = FastAPI()
fastapi.websocket("/echo")(echo)
fastapi.websocket("/broadcast")(broadcast)
fastapi.get("/hello", response_class=PlainTextResponse)(fastapi_hello)
