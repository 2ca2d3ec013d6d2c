"""An application that tells which process it runs in, and misbehaves where it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

BROKEN = "BROKEN"  # a variable that names a file: while it exists, the application cannot start
SLOW = "SLOW"  # seconds that its import takes
DIE = "DIE"  # a variable that names a file: while it exists, the application dies once it serves

time.sleep(float(os.environ.get(SLOW, "0")))
if os.environ.get(BROKEN) and Path(os.environ[BROKEN]).exists():
    raise RuntimeError("this application is broken")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        await _http(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    if os.environ.get(DIE) and os.access(os.environ[DIE], os.F_OK):
        asyncio.get_running_loop().call_later(0.05, os._exit, 9)
    await receive()
    os.write(1, f"lifespan ended in {os.getpid()}\n".encode())  # at once, beside the others
    await send({"type": "lifespan.shutdown.complete"})


async def _websocket(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text") or ""})


async def _http(scope: Any, receive: Any, send: Any) -> None:
    body = str(os.getpid())
    match scope["path"]:
        case "/block":
            time.sleep(60)  # noqa: ASYNC251
        case "/exit":
            os._exit(7)
        case "/segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "/slow":
            await asyncio.sleep(0.5)
        case "/hang":
            os.write(1, b"app: hangs\n")
            await asyncio.sleep(3600)
        case "/modules":
            body = " ".join(sys.modules)
        case "/argv":
            body = repr((sys.argv, sys.path[0]))
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
