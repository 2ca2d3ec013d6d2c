"""The application under load; it tells over HTTP what is left in its process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from pathlib import Path
from typing import Any

KINDS = {"HTTPProtocol", "WebSocket", "Opening", "Exchange", "Outbox"}

ended: list[str] = []  # how the calls of /flood and /deaf have ended
disorder: list[str] = []  # what /numbers got out of turn


def state() -> dict[str, Any]:
    """What is alive: tasks, descriptors, the server's objects, memory now and at its most."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": sum(type(thing).__name__ in KINDS for thing in gc.get_objects()),
        "resident": 1024 * int(status["VmRSS"].split()[0]),
        "peak": 1024 * int(status["VmHWM"].split()[0]),
        "cpu": time.process_time(),
        "ended": ended,
        "disorder": disorder,
    }


def forget_peak() -> None:
    """Measure VmHWM anew from here (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        if scope["path"] == "/forget-peak":
            forget_peak()
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": json.dumps(state()).encode()})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await PATHS[scope["path"]](receive, send)


async def echo(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def numbers(receive: Any, send: Any) -> None:
    """Echo messages that begin with their number, and note those that are out of turn."""
    expected = 0
    while (event := await receive())["type"] == "websocket.receive":
        content = event.get("text") or event["bytes"].decode("latin-1")
        if int(content.split(" ", 1)[0]) != expected:
            disorder.append(f"{content[:20]} instead of {expected}")
        expected += 1
        await send({**event, "type": "websocket.send"})


async def flood(receive: Any, send: Any) -> None:
    """Send a gigabyte, or as much as is taken."""
    sent = 0
    try:
        while sent < 1 << 30:
            await send({"type": "websocket.send", "bytes": bytes(65536)})
            sent += 65536
    except OSError as exc:
        ended.append(f"OSError after {sent} bytes: {exc}")
        raise
    ended.append("nothing")


async def deaf(receive: Any, send: Any) -> None:
    """Never receive anything."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.append("deaf")


async def block(receive: Any, send: Any) -> None:
    """Block the event loop for as many seconds as a message says."""
    while (event := await receive())["type"] == "websocket.receive":
        end = time.monotonic() + float(event["text"])
        while time.monotonic() < end:
            pass
        await send({"type": "websocket.send", "text": "done"})


async def size(receive: Any, send: Any) -> None:
    """Answer a message with its size."""
    while (event := await receive())["type"] == "websocket.receive":
        length = len(event.get("text") or event.get("bytes") or b"")
        await send({"type": "websocket.send", "text": str(length)})


PATHS = {
    "/echo": echo,
    "/numbers": numbers,
    "/flood": flood,
    "/deaf": deaf,
    "/block": block,
    "/size": size,
}
