"""A small chat with rooms: WebSocket and HTTP side by side in one Starlette application.

A room is one URL, `/rooms/{room}`, with three ways in:

- A WebSocket (subprotocol `chat.v2`) is a seat in the room. What the client says, the
  room hears: as text (JSON), or as a picture (binary: one line of JSON, then the bytes).
- `GET` answers as the handshake would have answered. Browsers hide a refused
  handshake from scripts, which see close code 1006 and nothing else, so the page
  asks here why.
- `POST /rooms/{room}/messages` says something without a connection. Its body is
  `{"name": ..., "text": ...}`.

A room is also a topic (`asgiws.topics`) that keeps its last messages. So it is the same
room in all workers, and a client that comes back gets what it has missed. Nothing here
keeps a list of who is connected.

Everything is bounded: the rooms are fixed, each has so many seats, remembers so many
messages, and keeps so many for a member who reads slowly.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from asgiws import topics

SUBPROTOCOL = "chat.v2"

MAX_NAME = 24  # characters
MAX_TEXT = 2_000  # characters
MAX_ID = 40  # characters
MAX_PICTURE = 256 * 1024  # bytes
MAX_BODY = 16 * 1024  # bytes of a POST
REMEMBERED = 30  # messages that a room keeps, and shows to a newcomer
FORGOTTEN = 3_600  # seconds after which it keeps them no longer
UNREAD = (REMEMBERED + 5) * (MAX_PICTURE + 1_024)  # bytes that may wait for a slow reader
PAUSE = 0.05  # seconds between two messages of one member

PICTURES = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}

DOORS = "doors"  # the topic that tells who comes into which room, and who leaves
topics.keep("room:", REMEMBERED, FORGOTTEN)


@dataclass
class Room:
    id: str
    title: str
    purpose: str
    seats: int = 20
    locked: bool = False

    @property
    def topic(self) -> str:
        return f"room:{self.id}"

    async def taken(self) -> int:
        """Return how many people have a seat, in all workers."""
        return (await topics.count(self.topic)).everywhere

    async def say(self, id: str, name: str, text: str, via: str) -> int:
        """Returns how many hear it."""
        event = {"type": "message", "id": id, "at": now(), "name": name, "text": text, "via": via}
        return await topics.publish(self.topic, json=event)

    async def show(self, id: str, name: str, media_type: str, picture: bytes) -> None:
        event = {"type": "picture", "id": id, "at": now(), "name": name, "media_type": media_type}
        await topics.publish(self.topic, bytes=json.dumps(event).encode() + b"\n" + picture)

    async def describe(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "purpose": self.purpose,
            "seats": self.seats,
            "taken": await self.taken(),
            "locked": self.locked,
        }


ROOMS = {
    room.id: room
    for room in (
        Room("lobby", "Lobby", "Come in and say hello"),
        Room("workshop", "Workshop", "What are you building?"),
        Room("booth", "Phone booth", "Two seats, no more", seats=2),
        Room("vault", "Vault", "Nobody gets in here", locked=True),
    )
}


def now() -> int:
    """Milliseconds, as JavaScript counts them."""
    return time.time_ns() // 1_000_000


def find_room(connection: HTTPConnection) -> Room:
    """The room in the URL. HTTPException refuses a request and a handshake alike."""
    # Every site may open a WebSocket to us or post a form. Browsers say which one did.
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise HTTPException(403, "Only this site's own pages may come in.")
    room = ROOMS.get(connection.path_params["room"])
    if room is None:
        raise HTTPException(404, "There is no such room.")
    if room.locked:
        raise HTTPException(403, f"The {room.title} is locked.")
    return room


def check_name(name: object) -> str:
    if isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) <= MAX_NAME:
        return name.strip()
    raise HTTPException(400, f"A name has 1 to {MAX_NAME} printable characters.")


def good_text(text: object) -> bool:
    return isinstance(text, str) and len(text) <= MAX_TEXT and text.strip() != ""


async def enter(connection: HTTPConnection) -> tuple[Room, str]:
    """Return the room and the name of the visitor, if there is a seat."""
    room = find_room(connection)
    name = check_name(connection.query_params.get("name"))
    if await room.taken() >= room.seats:
        raise HTTPException(503, f"The {room.title} is full: {room.seats} seats, all taken.")
    return room, name


@asynccontextmanager
async def seat(socket: WebSocket, room: Room, since: str | None) -> AsyncIterator[None]:
    """From here on the socket gets what the room hears, and first what it has missed."""
    if since is not None:
        async with topics.subscribe(
            socket, room.topic, since=since, envelope=True, max_bytes=UNREAD
        ) as subscription:
            if subscription.recovered:
                yield
                return
    async with topics.subscribe(
        socket, room.topic, replay=REMEMBERED, envelope=True, max_bytes=UNREAD
    ):
        yield


async def chat(socket: WebSocket) -> None:
    """One member's session, from the handshake to the end."""
    room, name = await enter(socket)
    if SUBPROTOCOL not in socket.scope["subprotocols"]:
        raise HTTPException(400, f"This room speaks {SUBPROTOCOL}.")
    await socket.accept(SUBPROTOCOL)
    doors = topics.subscribe(socket, DOORS, policy="drop_oldest", envelope=True)
    async with doors, seat(socket, room, socket.query_params.get("after")):
        if await room.taken() > room.seats:
            raise WebSocketException(1013, "The last seat was taken meanwhile")
        try:
            await topics.publish(DOORS, json={"room": room.id, "came": name})
            await socket.send_json({"type": "ready"})  # what was missed has been sent
            await listen(socket, room, name)
        finally:
            with suppress(topics.BusUnavailable):
                await topics.publish(DOORS, json={"room": room.id, "left": name})


async def listen(socket: WebSocket, room: Room, name: str) -> None:
    """Take what the client sends until it is gone. WebSocketException closes with its code."""
    while (event := await socket.receive())["type"] == "websocket.receive":
        if (text := event.get("text")) is not None:
            message = parse(text)
            if not good_text(message.get("text")):
                raise WebSocketException(1008, f"A text has 1 to {MAX_TEXT} characters")
            await room.say(message["id"], name, message["text"], via="websocket")
        else:
            head, _, picture = event["bytes"].partition(b"\n")
            if len(picture) > MAX_PICTURE:
                raise WebSocketException(1009, f"A picture has up to {MAX_PICTURE} bytes")
            await room.show(parse(head)["id"], name, media_type(picture), picture)
        # Who sends faster than this is held back by TCP: the server stops reading.
        await asyncio.sleep(PAUSE)


def parse(text: str | bytes) -> dict[str, Any]:
    """A JSON object with an `id`."""
    try:
        message = json.loads(text)
        if isinstance(message["id"], str) and 0 < len(message["id"]) <= MAX_ID:
            return dict(message)
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    raise WebSocketException(1008, 'A message begins with JSON: {"id": ..., ...}')


def media_type(picture: bytes) -> str:
    for magic, kind in PICTURES.items():
        if picture.startswith(magic):
            return kind
    raise WebSocketException(1003, "Pictures are PNG, JPEG or GIF")


async def list_rooms(request: Request) -> JSONResponse:
    return JSONResponse({name: await room.describe() for name, room in ROOMS.items()})


async def look_in(request: Request) -> JSONResponse:
    room, _ = await enter(request)
    return JSONResponse(await room.describe())


async def post_message(request: Request) -> JSONResponse:
    room = find_room(request)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"A body has up to {MAX_BODY} bytes.")
    try:
        message = json.loads(body)
        name, text = check_name(message["name"]), message["text"]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise HTTPException(400, 'The body is JSON: {"name": ..., "text": ...}.') from None
    if not good_text(text):
        raise HTTPException(400, f"A text has 1 to {MAX_TEXT} characters.")
    reached = await room.say(uuid.uuid4().hex, name, text, via="http")
    return JSONResponse({"reached": reached}, status_code=201)


app = Starlette(
    routes=[
        Route("/rooms", list_rooms),
        Route("/rooms/{room}", look_in),
        Route("/rooms/{room}/messages", post_message, methods=["POST"]),
        WebSocketRoute("/rooms/{room}", chat),
        Mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True)),
    ]
)
