"""Applications that many tests serve, and what applications are made of."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

from .running import DEADLINE


async def respond(send: Any, body: bytes = b"", status: int = 200, *headers: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        event = await receive()
        assert event["type"] == "http.request"
        body += event["body"]
        if not event["more_body"]:
            return body


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, scope["path"].encode() + b" " + await read_body(receive))


class Recorder:
    """An application that notes what happens to it, for the test's thread to wait for."""

    def __init__(self) -> None:
        self.notes: queue.Queue[Any] = queue.Queue()
        self.go = threading.Event()

    def note(self, what: Any) -> None:
        self.notes.put(what)

    def next(self) -> Any:
        return self.notes.get(timeout=DEADLINE)

    async def until_told(self) -> None:
        assert await asyncio.to_thread(self.go.wait, DEADLINE)


async def tell_address(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the address it is served on."""
    await respond(send, repr(scope["server"]).encode())


async def hello_and_wait(scope: Any, receive: Any, send: Any) -> None:
    """Say hello over HTTP; accept a WebSocket, and wait for its end."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
