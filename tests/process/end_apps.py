"""An application whose paths make it hard to end the process, for test_signals.

It prints what happens to it, in order.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Any

import asgiws

FOR_EVER = 3600.0


def say(*words: object) -> None:
    # In one write: the server's log goes to the same pipe.
    print(" ".join(["app:", *map(str, words), "\n"]), end="", flush=True)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = await PATHS[scope["path"].partition("?")[0]]()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body or b"done"})


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    how = os.environ.get("START", "")
    if how == "usr1":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, say, "usr1")
    elif how == "own sigterm":
        signal.signal(signal.SIGTERM, lambda *_: say("own sigterm"))
    elif how == "slow":
        say("waits")
        await asyncio.sleep(FOR_EVER)
    elif how == "exit":
        sys.exit("no such database")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("lifespan.shutdown")
    if "UNFLUSHED" in os.environ:
        print("." * 100)
    if "EXIT_AT_THE_END" in os.environ:
        raise SystemExit(9)
    await send({"type": "lifespan.shutdown.complete"})


async def answers() -> None:
    pass


async def in_c_code() -> None:
    """Blocks where no signal interrupts: a lock of the C library's that is taken already."""
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(mutex)
    say("blocks")
    libc.pthread_mutex_lock(mutex)


async def thread() -> None:
    threading.Thread(target=time.sleep, args=(FOR_EVER,)).start()


async def executor() -> None:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, FOR_EVER)


executors = []


async def idle_processes() -> None:
    pool = concurrent.futures.ProcessPoolExecutor(1)
    executors.append(pool)
    await asyncio.get_running_loop().run_in_executor(pool, os.getpid)


async def child() -> bytes:
    """Forks, ends the child by SIGTERM, and answers with its exit code."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FOR_EVER,))
    process.start()
    process.terminate()
    await asyncio.to_thread(process.join, 5)
    return str(process.exitcode).encode()


tasks = []


async def exits() -> None:
    raise SystemExit(7)


async def exits_in_a_task() -> None:
    tasks.append(asyncio.create_task(exits()))
    await asyncio.sleep(0.05)


async def exits_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 7)
    await asyncio.sleep(0.05)


async def interrupts_in_a_task() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    tasks.append(asyncio.create_task(interrupt()))
    await asyncio.sleep(0.05)


async def exits_when_cancelled() -> None:
    async def call() -> None:
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            sys.exit(7)

    tasks.append(asyncio.create_task(call()))


async def should_exit() -> bytes:
    """What sse-starlette looks at to learn of the shutdown."""
    owner = signal.getsignal(signal.SIGTERM).__self__  # type: ignore[union-attr]
    before = owner.should_exit
    os.kill(os.getpid(), signal.SIGTERM)
    # Not before streams are to end: sse-starlette would end those that are still paced.
    at_once = owner.should_exit
    async with asyncio.timeout(10):
        while not owner.should_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return f"{before} {at_once} {owner.should_exit}".encode()


PATHS = {
    "/": answers,
    "/c-code": in_c_code,
    "/child": child,
    "/executor": executor,
    "/exits-in-a-callback": exits_in_a_callback,
    "/exits-in-a-task": exits_in_a_task,
    "/exits-when-cancelled": exits_when_cancelled,
    "/idle-processes": idle_processes,
    "/interrupts-in-a-task": interrupts_in_a_task,
    "/should-exit": should_exit,
    "/thread": thread,
}

if __name__ == "__main__":
    atexit.register(say, "atexit")
    asgiws.run(app, port=0)
    say("run has returned")
    what = os.environ.get("AFTERWARDS", "")
    if what == "raise":
        raise RuntimeError("afterwards")
    if what:
        sys.exit(int(what) if what.isdigit() else what)
