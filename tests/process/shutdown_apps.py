"""An application of bad manners: each path does one thing that makes an end difficult.

It prints what happens to it, in order, for test_shutdown.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from time import sleep
from typing import Any

import anyio.to_thread

import asgiws

FOR_EVER = 3600.0


def say(*words: object) -> None:
    # In one write: the server's log goes to the same pipe.
    print(" ".join(["app:", *map(str, words), "\n"]), end="", flush=True)


def block() -> None:
    say("blocks")
    sleep(FOR_EVER)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await PATHS[scope["path"]](scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    if "SLOW_START" in os.environ:
        say("waits")
        await asyncio.sleep(FOR_EVER)
    if "BLOCKED_START" in os.environ:
        block()
    if "FAILED_START" in os.environ:
        threading.Thread(target=sleep, args=(FOR_EVER,)).start()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("lifespan.shutdown")
    if "SLOW_END" in os.environ:
        say("waits")
        await asyncio.sleep(FOR_EVER)
    if "BLOCKED_END" in os.environ:
        block()
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send: Any, body: bytes = b"done") -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
    say("disconnect", event["code"], repr(event["reason"]))


async def undecided(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    say("undecided")
    event = await receive()
    say("disconnect", event["code"], repr(event["reason"]))


async def pushes(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
    except OSError:
        say("send raised")


async def ignores_the_end(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await hangs(scope, receive, send)


async def upload(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        event = await receive()
        body += event["body"]
        more = event["more_body"]
    await answer(send, body)


async def background(scope: Any, receive: Any, send: Any) -> None:
    await answer(send)
    await asyncio.sleep(0.3)
    say("background work done")


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    say("hangs")
    try:
        await asyncio.sleep(FOR_EVER)
    except asyncio.CancelledError:
        say("cancelled")
        raise


async def will_not_be_cancelled(scope: Any, receive: Any, send: Any) -> None:
    say("hangs")
    while True:
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            say("cancelled")


async def sleeps(scope: Any, receive: Any, send: Any) -> None:
    block()


async def spins(scope: Any, receive: Any, send: Any) -> None:
    say("blocks")
    while True:
        pass


async def blocks_when_cancelled(scope: Any, receive: Any, send: Any) -> None:
    say("hangs")
    try:
        await asyncio.sleep(FOR_EVER)
    finally:
        block()


async def thread(scope: Any, receive: Any, send: Any) -> None:
    threading.Thread(target=sleep, args=(FOR_EVER,)).start()
    await answer(send)


async def executor(scope: Any, receive: Any, send: Any) -> None:
    asyncio.get_running_loop().run_in_executor(None, sleep, FOR_EVER)
    await answer(send)


async def anyio_worker(scope: Any, receive: Any, send: Any) -> None:
    say("hangs")
    await anyio.to_thread.run_sync(sleep, FOR_EVER)


tasks = []


async def own_task(scope: Any, receive: Any, send: Any) -> None:
    tasks.append(asyncio.create_task(will_not_be_cancelled(scope, receive, send)))
    await answer(send)


PATHS = {
    "/anyio": anyio_worker,
    "/background": background,
    "/blocks-when-cancelled": blocks_when_cancelled,
    "/echo": echo,
    "/executor": executor,
    "/hangs": hangs,
    "/ignores": ignores_the_end,
    "/own-task": own_task,
    "/pushes": pushes,
    "/sleeps": sleeps,
    "/spins": spins,
    "/thread": thread,
    "/undecided": undecided,
    "/upload": upload,
    "/will-not": will_not_be_cancelled,
}

if __name__ == "__main__":
    atexit.register(say, "atexit")
    asgiws.run(app, port=0)
    say("run has returned")
