"""What tests/test_uvicorn.py has served by uvicorn: it tells who it is and what it was told."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """HTTP answers with what the scope says; a WebSocket echoes, or does as its path says."""
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await _websocket(scope, receive, send)
    else:
        if scope["path"] == "/hang":
            print("hangs", flush=True)
            await asyncio.Event().wait()
        state = {name: scope["state"][name] for name in ("begun",)} if "state" in scope else {}
        told = {
            **{name: scope[name] for name in ("scheme", "client", "root_path")},
            "pid": os.getpid(),
            "state": state,
        }
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def _lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    scope["state"]["begun"] = True
    print("application begins", flush=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("application ends", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def _websocket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/raise":
        raise RuntimeError("boom")
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def broken(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An application that cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
