"""One application for Starlette and one for FastAPI, to be run under any server.

What an application sees is told in its responses; what it sees at an end that has
no response is kept, and told by ``/seen/{key}``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, UploadFile
from fastapi import WebSocket as FastAPIWebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

seen: dict[str, list[Any]] = {}


def see(key: str, what: Any) -> None:
    seen.setdefault(key, []).append(what)


async def what_was_seen(request: Request) -> JSONResponse:
    """What was seen under a key, as soon as there is something."""
    key = request.path_params["key"]
    for _ in range(500):
        if key in seen:
            break
        await asyncio.sleep(0.01)
    return JSONResponse(seen.pop(key, None))


def of_scope(scope: Any) -> dict[str, Any]:
    """What every server must tell alike. Ports and spec versions are the servers' own."""
    told = {
        key: scope.get(key)
        for key in ("type", "method", "path", "root_path", "scheme", "http_version", "subprotocols")
    }
    told["raw_path"] = scope["raw_path"].decode("latin-1")
    told["query_string"] = scope["query_string"].decode("latin-1")
    told["headers"] = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in scope["headers"]
        if name not in (b"host", b"sec-websocket-key")
    ]
    told["client"] = scope["client"][0]
    told["server"] = scope["server"][0]
    told["state"] = sorted(scope.get("state", {}))
    return told


async def show_scope(request: Request) -> JSONResponse:
    return JSONResponse(of_scope(request.scope))


async def echo(request: Request) -> Response:
    body = await request.body()
    return Response(body, 201, {"x-type": request.headers.get("content-type", "")})


async def pieces(request: Request) -> PlainTextResponse:
    sizes = [len(chunk) async for chunk in request.stream()]
    return PlainTextResponse(f"{sum(sizes)} {sizes[-1]}")


async def cookies(request: Request) -> Response:
    response = JSONResponse(request.cookies)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", path="/b")
    return response


async def stream(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(5):
            yield f"part {number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


go_on = asyncio.Event()


async def events(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        try:
            yield "data: first\n\n"
            await go_on.wait()
            yield "data: second\n\n"
        finally:
            go_on.clear()
            see("events", "ended")

    return StreamingResponse(parts(), media_type="text/event-stream")


async def let_events_go_on(request: Request) -> Response:
    go_on.set()
    return Response(status_code=204)


async def endless(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        try:
            while True:
                yield "tick\n"
                await asyncio.sleep(0.01)
        finally:
            see("endless", "ended")

    return StreamingResponse(parts())


async def listens(request: Request) -> Response:
    try:
        async for chunk in request.stream():
            see("listens began", chunk.decode())
    except ClientDisconnect:
        see("listens", "disconnect")
    return Response()


async def waits(request: Request) -> Response:
    await request.body()
    see("waits began", True)
    see("waits", (await request.receive())["type"])
    return Response()


async def background(request: Request) -> PlainTextResponse:
    async def work() -> None:
        await asyncio.sleep(0.05)
        see("background", "done")

    return PlainTextResponse("accepted", 202, background=BackgroundTask(work))


async def upload(request: Request) -> JSONResponse:
    async with request.form() as form:
        file = form["file"]
        assert not isinstance(file, str)
        data = await file.read()
        return JSONResponse([form["name"], file.filename, file.content_type, len(data), sum(data)])


async def raises(request: Request) -> Response:
    raise ValueError("boom")


async def raises_in_the_middle(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        yield "half"
        raise ValueError("boom")

    return StreamingResponse(parts())


async def empty(request: Request) -> Response:
    return Response(status_code=int(request.path_params["status"]))


async def file(request: Request) -> FileResponse:
    return FileResponse(__file__, headers={"last-modified": "x", "etag": "y"})


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-stamp"] = request.method
        return response


async def talk(websocket: WebSocket) -> None:
    """Does what it is told to do, until told to end."""
    subprotocol = "chat" if "chat" in websocket.scope["subprotocols"] else None
    await websocket.accept(subprotocol=subprotocol, headers=[(b"x-a", b"1"), (b"x-a", b"2")])
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
            if message.get("text") == "scope":
                await websocket.send_json(of_scope(websocket.scope))
            elif message.get("text") == "close":
                return await websocket.close(4001, "enough")
            elif message.get("text") == "raise":
                raise ValueError("boom")
            elif message.get("text") == "return":
                return None
            elif message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect as exc:
        see("talk", [exc.code, exc.reason or ""])


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(JSONResponse({"why": "members only"}, 402))


async def refused(websocket: WebSocket) -> None:
    await websocket.close(4003, "no")


async def fails(websocket: WebSocket) -> None:
    raise ValueError("boom")


async def ticks(websocket: WebSocket) -> None:
    """Only sends, so that it learns of a departure by an error."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.01)
    except WebSocketDisconnect as exc:
        see("ticks", exc.code)


@contextlib.asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"pool": object()}


ROUTES = [
    Route("/seen/{key}", what_was_seen),
    Route("/scope/{rest:path}", show_scope, methods=["GET", "POST", "PUT"]),
    Route("/echo", echo, methods=["POST", "PUT"]),
    Route("/pieces", pieces, methods=["POST"]),
    Route("/cookies", cookies),
    Route("/stream", stream),
    Route("/events", events),
    Route("/events/go-on", let_events_go_on, methods=["POST"]),
    Route("/endless", endless),
    Route("/listens", listens, methods=["POST"]),
    Route("/waits", waits),
    Route("/background", background),
    Route("/upload", upload, methods=["POST"]),
    Route("/raises", raises),
    Route("/raises-in-the-middle", raises_in_the_middle),
    Route("/empty/{status}", empty),
    Route("/file", file),
    Route("/redirect", lambda request: RedirectResponse("/stream")),
    WebSocketRoute("/talk", talk),
    WebSocketRoute("/denied", denied),
    WebSocketRoute("/refused", refused),
    WebSocketRoute("/fails", fails),
    WebSocketRoute("/ticks", ticks),
    Mount("/mounted", routes=[Route("/scope", show_scope), WebSocketRoute("/talk", talk)]),
]
starlette_app = Starlette(routes=ROUTES, lifespan=lifespan)
middleware = [Middleware(Stamp), Middleware(GZipMiddleware, minimum_size=10)]
with_middleware = Starlette(routes=ROUTES, lifespan=lifespan, middleware=middleware)
starlette_app.mount("/stamped", with_middleware)

fastapi_app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float = 1.5


async def user(authorization: Annotated[str, Header()]) -> AsyncIterator[str]:
    yield authorization.removeprefix("Bearer ")
    see("dependency", "closed")


User = Annotated[str, Depends(user)]


@fastapi_app.get("/items/{number}")
async def read_item(number: int, q: str | None = None) -> dict[str, Any]:
    if number > 99:
        raise HTTPException(404, "no such item", {"x-why": "too large"})
    return {"number": number, "q": q}


@fastapi_app.post("/items", status_code=201)
async def create_item(item: Item, who: User, tasks: BackgroundTasks) -> Item:
    tasks.add_task(see, "background", f"{item.name} for {who}")
    return item


@fastapi_app.post("/upload")
async def upload_files(files: list[UploadFile]) -> list[Any]:
    return [[file.filename, len(await file.read())] for file in files]


@fastapi_app.get("/in-a-thread")
def in_a_thread() -> str:
    return "done"


@fastapi_app.websocket("/items/{number}")
async def item_socket(websocket: FastAPIWebSocket, number: int, who: User) -> None:
    await websocket.accept()
    await websocket.send_json({"number": number, "who": who})
    async for message in websocket.iter_json():
        await websocket.send_json(message)


fastapi_app.router.routes.extend(ROUTES)
