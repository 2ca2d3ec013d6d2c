"""Litestar: plain handlers, a listener, and a channel that it publishes by itself."""

from __future__ import annotations

from litestar import Litestar, WebSocket, get, websocket, websocket_listener
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.connection import ASGIConnection
from litestar.enums import MediaType
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler


@get("/", media_type=MediaType.TEXT)
async def home() -> str:
    return "litestar"


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept("echo.v1" if "echo.v1" in socket.scope["subprotocols"] else None)
    while (event := await socket.receive())["type"] == "websocket.receive":
        if event.get("text") == "boom":
            raise RuntimeError("boom")
        if event.get("text") is not None:
            await socket.send_text(event["text"])
        else:
            await socket.send_bytes(event["bytes"])


@websocket("/close")
async def close(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4001, "done")


@websocket("/deny")
async def deny(socket: WebSocket) -> None:
    await socket.close()


def refuse(_: ASGIConnection, __: BaseRouteHandler) -> None:
    raise NotAuthorizedException("nobody is let in")


@websocket("/guarded", guards=[refuse])
async def guarded(socket: WebSocket) -> None:
    await socket.accept()


@websocket_listener("/sum")
async def add(data: list[int]) -> dict[str, int]:
    return {"sum": sum(data)}


@get("/publish/{message:str}", media_type=MediaType.TEXT)
async def publish(message: str, channels: ChannelsPlugin) -> str:
    channels.publish({"said": message}, "news")
    return "published"


app = Litestar(
    [home, echo, close, deny, guarded, add, publish],
    plugins=[
        ChannelsPlugin(
            MemoryChannelsBackend(history=10),
            channels=["news"],
            create_ws_route_handlers=True,
            ws_handler_base_path="/channels",
            ws_handler_send_history=10,
        )
    ],
)
