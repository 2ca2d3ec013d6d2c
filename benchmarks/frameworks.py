"""The application under test as most people write it: with Starlette, and with FastAPI.

A module of its own, so that measuring the raw application imports no framework.
"""

from __future__ import annotations

import tempfile
from typing import IO

from apps import DOWNLOAD, HELLO
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

members: dict[WebSocket, None] = {}


def kept(content: bytes) -> IO[bytes]:
    """A file that lives as long as the server."""
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115
    file.write(content)
    file.flush()
    return file


file = kept(b"".join(DOWNLOAD))
file_64k = kept(b"".join(DOWNLOAD)[: 64 << 10])


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


async def starlette_file_64k(request: Request) -> FileResponse:
    return FileResponse(file_64k.name)


async def fastapi_json() -> dict[str, str]:
    return {"message": HELLO.decode()}


async def fastapi_hello() -> PlainTextResponse:
    return PlainTextResponse(HELLO)


starlette = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/broadcast", broadcast),
        Route("/hello", starlette_hello),
        Route("/file", starlette_file),
        Route("/file-64k", starlette_file_64k),
    ]
)

fastapi = FastAPI()
fastapi.websocket("/echo")(echo)
fastapi.websocket("/broadcast")(broadcast)
fastapi.get("/hello", response_class=PlainTextResponse)(fastapi_hello)
fastapi.get("/json")(fastapi_json)
