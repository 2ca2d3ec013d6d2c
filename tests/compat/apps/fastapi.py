"""FastAPI: dependencies, validated parameters, and a cookie or a token that is checked."""

from __future__ import annotations

from typing import Annotated

from fastapi import (
    Cookie,
    Depends,
    FastAPI,
    Query,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/")
async def home() -> PlainTextResponse:
    return PlainTextResponse("fastapi")


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept("echo.v1" if "echo.v1" in socket["subprotocols"] else None)
    while (event := await socket.receive())["type"] == "websocket.receive":
        if event.get("text") == "boom":
            raise RuntimeError("boom")
        if event.get("text") is not None:
            await socket.send_text(event["text"])
        else:
            await socket.send_bytes(event["bytes"])


@app.websocket("/close")
async def close(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4001, "done")


async def nobody() -> None:
    raise WebSocketException(1008, "nobody is let in")


@app.websocket("/deny")
async def deny(socket: WebSocket, _: Annotated[None, Depends(nobody)]) -> None:
    await socket.accept()


def who(
    session: Annotated[str | None, Cookie()] = None, token: Annotated[str | None, Query()] = None
) -> str:
    if (known := session or token) is None:
        raise WebSocketException(1008)
    return known


@app.websocket("/items/{item}")
async def items(socket: WebSocket, item: int, known: Annotated[str, Depends(who)]) -> None:
    await socket.accept()
    try:
        while True:
            message = await socket.receive_json()
            await socket.send_json({"item": item, "known": known, "message": message})
    except WebSocketDisconnect:
        pass
