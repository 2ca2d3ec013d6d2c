"""A small chat with rooms: WebSocket and HTTP side by side in one Starlette application.

A room is one URL, `/rooms/{room}`, with three ways in:

- A WebSocket (subprotocol `chat.v1`) is a seat in the room. The client sends what
  it says as text messages and pictures as binary messages. It receives events as
  JSON in text messages; a picture comes as a binary message, one line of JSON and
  then the bytes.
- `GET` answers as the handshake would have answered. Browsers hide a refused
  handshake from scripts, which see close code 1006 and nothing else, so the page
  asks here why.
- `POST /rooms/{room}/messages` says something without a connection. Its body is
  `{"name": ..., "text": ...}`.

Everything is bounded: the rooms are fixed, each has so many seats, remembers so many
messages, and keeps so many for a member who reads slowly.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

SUBPROTOCOL = "chat.v1"

MAX_NAME = 24  # characters
MAX_TEXT = 2_000  # characters
MAX_PICTURE = 256 * 1024  # bytes
MAX_BODY = 16 * 1024  # bytes of a POST
REMEMBERED = 30  # messages a newcomer is shown
OUTBOX = 100  # messages that may wait for a slow reader; more than REMEMBERED
PAUSE = 0.05  # seconds between two messages of one member

PICTURES = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


@dataclass(eq=False)
class Member:
    """Somebody in a room, and what is on its way to them."""

    name: str
    outbox: asyncio.Queue[str | bytes] = field(default_factory=lambda: asyncio.Queue(OUTBOX))

    def put(self, data: str | bytes) -> None:
        """Never waits, so that nobody's slow line holds up the room."""
        if not self.outbox.full():
            self.outbox.put_nowait(data)

    async def deliver(self, socket: WebSocket) -> None:
        """Send what is in the outbox. An outbox that was ever full has lost something."""
        try:
            while not self.outbox.full():
                data = await self.outbox.get()
                if isinstance(data, str):
                    await socket.send_text(data)
                else:
                    await socket.send_bytes(data)
        except WebSocketDisconnect:
            return  # listen() hears of it too
        raise WebSocketException(1013, "You read too slowly")


@dataclass(eq=False)
class Room:
    title: str
    topic: str
    seats: int = 20
    locked: bool = False
    members: list[Member] = field(default_factory=list)
    recent: deque[tuple[int, str | bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def join(self, member: Member, after: int) -> None:
        """Take a seat. `after` is the last message that the member has already seen."""
        for at, data in self.recent:
            if at > after:
                member.put(data)
        self.members.append(member)
        self.announce(joined=member.name)

    def leave(self, member: Member) -> None:
        self.members.remove(member)
        self.announce(left=member.name)

    def announce(self, **change: str) -> None:
        names = [member.name for member in self.members]
        self.send_all(json.dumps({"type": "members", "names": names, **change}))

    def say(self, name: str, text: str, via: str) -> None:
        at = self.next_moment()
        event = {"type": "message", "at": at, "name": name, "text": text, "via": via}
        self.publish(at, json.dumps(event))

    def show(self, name: str, media_type: str, picture: bytes) -> None:
        at = self.next_moment()
        event = {"type": "picture", "at": at, "name": name, "media_type": media_type}
        self.publish(at, json.dumps(event).encode() + b"\n" + picture)

    def next_moment(self) -> int:
        """The time in milliseconds, and later than the message before: it is also the order."""
        last = self.recent[-1][0] if self.recent else 0
        return max(time.time_ns() // 1_000_000, last + 1)

    def publish(self, at: int, data: str | bytes) -> None:
        self.recent.append((at, data))
        self.send_all(data)

    def send_all(self, data: str | bytes) -> None:
        for member in self.members:
            member.put(data)

    def describe(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "topic": self.topic,
            "seats": self.seats,
            "taken": len(self.members),
            "locked": self.locked,
        }


ROOMS = {
    "lobby": Room("Lobby", "Come in and say hello"),
    "workshop": Room("Workshop", "What are you building?"),
    "booth": Room("Phone booth", "Two seats, no more", seats=2),
    "vault": Room("Vault", "Nobody gets in here", locked=True),
}


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


def enter(connection: HTTPConnection) -> tuple[Room, Member]:
    """Who comes into which room, if there is a seat."""
    room = find_room(connection)
    member = Member(check_name(connection.query_params.get("name")))
    if len(room.members) >= room.seats:
        raise HTTPException(503, f"The {room.title} is full: {room.seats} seats, all taken.")
    return room, member


async def chat(socket: WebSocket) -> None:
    """One member's session, from the handshake to the end."""
    room, member = enter(socket)
    if SUBPROTOCOL not in socket.scope["subprotocols"]:
        raise HTTPException(400, f"This room speaks {SUBPROTOCOL}.")
    try:
        after = int(socket.query_params.get("after", 0))
    except ValueError:
        raise HTTPException(400, "What comes after `after` is a number.") from None
    # The seat is taken before the first await: two cannot take the last one.
    room.join(member, after)
    try:
        await socket.accept(SUBPROTOCOL)
        listening = asyncio.create_task(listen(socket, room, member))
        delivering = asyncio.create_task(member.deliver(socket))
        try:
            tasks = (listening, delivering)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            listening.cancel()
            delivering.cancel()
    finally:
        room.leave(member)


async def listen(socket: WebSocket, room: Room, member: Member) -> None:
    """Take what the client sends until it is gone. WebSocketException closes with its code."""
    while (event := await socket.receive())["type"] == "websocket.receive":
        if (text := event.get("text")) is not None:
            if not good_text(text):
                raise WebSocketException(1008, f"A text has 1 to {MAX_TEXT} characters")
            room.say(member.name, text, via="websocket")
        else:
            picture = event["bytes"]
            if len(picture) > MAX_PICTURE:
                raise WebSocketException(1009, f"A picture has up to {MAX_PICTURE} bytes")
            for magic, media_type in PICTURES.items():
                if picture.startswith(magic):
                    room.show(member.name, media_type, picture)
                    break
            else:
                raise WebSocketException(1003, "Pictures are PNG, JPEG or GIF")
        # Who sends faster than this is held back by TCP: the server stops reading.
        await asyncio.sleep(PAUSE)


async def list_rooms(request: Request) -> JSONResponse:
    return JSONResponse({name: room.describe() for name, room in ROOMS.items()})


async def look_in(request: Request) -> JSONResponse:
    room, _ = enter(request)
    return JSONResponse(room.describe())


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
    room.say(name, text, via="http")
    return JSONResponse({"heard_by": len(room.members)}, status_code=201)


app = Starlette(
    routes=[
        Route("/rooms", list_rooms),
        Route("/rooms/{room}", look_in),
        Route("/rooms/{room}/messages", post_message, methods=["POST"]),
        WebSocketRoute("/rooms/{room}", chat),
        Mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True)),
    ]
)
