"""Starlette's ways of letting a disconnect escape, which all of its users meet."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


async def plain(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


async def ticking(websocket: WebSocket) -> None:
    """It learns of the disconnect from its sending, and does not know that it is closed."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)
    finally:
        await websocket.close()


async def grouped(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())

    async def read() -> None:
        await websocket.receive_text()

    async def tick() -> None:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        group.create_task(tick())


async def again(websocket: WebSocket) -> None:
    """It does not stop when it is told."""
    await websocket.accept()
    while True:
        message = await websocket.receive()
        if "text" in message:
            await websocket.send_text(message["text"])


async def cancelled(websocket: WebSocket) -> None:
    """Its reader ends it."""
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    whole = asyncio.current_task()
    assert whole is not None

    async def read() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
        whole.cancel()

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await asyncio.Event().wait()


async def renamed(websocket: WebSocket) -> None:
    """It says in words of its own that the connection is gone."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        raise LookupError("no such guest") from None


async def unawaited(websocket: WebSocket) -> None:
    """Nobody asks how its writer has ended."""
    await websocket.accept()

    async def tick() -> None:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)

    writer = asyncio.create_task(tick())
    async for _ in websocket.iter_text():
        pass
    await asyncio.wait([writer])


async def buggy(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    finally:
        raise ValueError("a bug in the cleaning up")


async def buggy_writer(websocket: WebSocket) -> None:
    """Nobody asks how its writer has ended, which has a bug."""
    await websocket.accept()

    async def write() -> None:
        try:
            await websocket.receive_text()
        finally:
            raise ValueError("a bug in the cleaning up")

    await asyncio.wait([asyncio.create_task(write())])


async def upload(request: Request) -> Response:
    print("receiving\n", end="", flush=True)
    return PlainTextResponse(str(len(await request.body())))


async def buggy_upload(request: Request) -> Response:
    print("receiving\n", end="", flush=True)
    try:
        return PlainTextResponse(str(len(await request.body())))
    finally:
        raise ValueError("a bug in the cleaning up")


async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


handlers = [plain, ticking, grouped, again, cancelled, renamed, unawaited, buggy, buggy_writer]
uploads = [upload, buggy_upload]
app = Starlette(
    routes=[
        *[WebSocketRoute(f"/{each.__name__}", each) for each in handlers],
        *[Route(f"/{each.__name__}", each, methods=["POST"]) for each in uploads],
    ]
)
wrapped = Starlette(
    routes=app.routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)]
)
