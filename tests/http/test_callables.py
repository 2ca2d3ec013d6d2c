"""``receive`` and ``send`` as what they are to the tools of others: coroutine functions.

Compiled, they are no Python functions; libraries that look before they call must not notice.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import queue
from types import ModuleType
from typing import Any

import anyio
import pytest

from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.running import DEADLINE, running


@pytest.fixture(params=["http", "websocket"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def played(app: Any, kind: str, loop: str, package: ModuleType) -> None:
    """Call ``app`` once, as ``kind``; what it raises is raised here."""
    ended: queue.Queue[BaseException | None] = queue.Queue()

    async def called(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(receive, send)
            if kind == "http":
                await send({"type": "http.response.start", "status": 204})
                await send({"type": "http.response.body"})
            else:
                await send({"type": "websocket.accept"})
            ended.put(None)
        except BaseException as exc:
            ended.put(exc)
            raise

    with running(called, loop, package) as server:
        if kind == "http":
            with Client(server) as client:
                client.get()
        else:
            with RawWebSocket(server):
                pass
        error = ended.get(timeout=DEADLINE)
        if error is not None:
            raise error


def test_they_are_coroutine_functions(kind: str, loop: str, package: ModuleType) -> None:
    async def app(receive: Any, send: Any) -> None:
        for function in (receive, send):
            assert inspect.iscoroutinefunction(function)
            assert asyncio.iscoroutinefunction(function)
            assert callable(function)
        coroutine = receive()
        assert asyncio.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        await coroutine

    played(app, kind, loop, package)


def test_anyio_starts_them(kind: str, loop: str, package: ModuleType) -> None:
    async def app(receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
        async with anyio.create_task_group() as group:
            group.start_soon(receive)  # nothing comes: it waits until it is cancelled
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    played(app, kind, loop, package)


def test_asyncio_makes_tasks_of_them(kind: str, loop: str, package: ModuleType) -> None:
    async def app(receive: Any, send: Any) -> None:
        task = asyncio.create_task(receive())
        assert (await task)["type"] == ("http.request" if kind == "http" else "websocket.connect")
        async with asyncio.TaskGroup() as group:
            second = group.create_task(receive())
            await asyncio.sleep(0)
            second.cancel()

    played(app, kind, loop, package)


def test_the_task_of_an_application_shows_its_stack(
    kind: str, loop: str, package: ModuleType
) -> None:
    async def app(receive: Any, send: Any) -> None:
        for task in asyncio.all_tasks():
            shown = io.StringIO()
            task.print_stack(file=shown)
            assert task is not asyncio.current_task() or "in called" in shown.getvalue()
        await receive()

    played(app, kind, loop, package)
