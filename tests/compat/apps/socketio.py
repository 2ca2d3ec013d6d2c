"""python-socketio: long polling that becomes a WebSocket, acknowledgements, rooms, binary."""

from __future__ import annotations

from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(server)


@server.event
async def join(sid: str, room: str) -> str:
    await server.enter_room(sid, room)
    return f"joined {room} by {server.transport(sid)}"


@server.event
async def say(sid: str, room: str, said: Any) -> None:
    await server.emit("said", said, room=room, skip_sid=sid)


@server.event
async def reverse(sid: str, data: bytes) -> bytes:
    return data[::-1]


@server.event
async def go_away(sid: str) -> None:
    await server.disconnect(sid)
