"""What is deployed, as main.py: it tells who its client is, echoes, and can hang."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any


def hang() -> None:
    while True:
        time.sleep(1)


def say_that_it_has_started() -> None:
    with open("started", "a") as file:
        file.write(f"{os.getpid()}\n")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
    elif scope["type"] == "http":
        if scope["path"] == "/hang":
            hang()
        if scope["path"] == "/slow":
            await asyncio.sleep(10)
        seen = [os.getpid(), scope["scheme"], (scope["client"] or [None])[0]]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
    else:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                say_that_it_has_started()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return
