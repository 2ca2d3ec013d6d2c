"""The coroutine of one call of the application: whatever it raises, it fails alone."""

from __future__ import annotations

import asyncio
import io
from types import ModuleType
from typing import Any

import pytest


async def nothing() -> Any:
    raise AssertionError("nobody receives or sends here")


def task_of(package: ModuleType, app: Any, cancelled: Any = ()) -> asyncio.Task[None]:
    call = package.http.calling.call(app, {"type": "http"}, nothing, nothing, cancelled)
    return asyncio.get_running_loop().create_task(call)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_would_end_the_event_loop_is_an_error_like_others(
    package: ModuleType, kind: type[BaseException]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise kind(3)

    task = task_of(package, app)
    await asyncio.wait([task])
    error = task.exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, kind)
    assert kind.__name__ in str(error)


async def test_a_plain_function_that_raises_fails_in_its_task(package: ModuleType) -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        raise LookupError(scope["type"])

    task = task_of(package, app)
    await asyncio.wait([task])
    assert isinstance(task.exception(), LookupError)


@pytest.mark.parametrize("by_the_server", [True, False])
async def test_a_cancellation_counts_as_one_only_if_the_server_asked_for_it(
    package: ModuleType, by_the_server: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    cancelled: set[asyncio.Task[None]] = set()
    task = task_of(package, app, cancelled)
    await asyncio.sleep(0)
    if by_the_server:
        cancelled.add(task)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == by_the_server
    if not by_the_server:
        assert isinstance(task.exception(), RuntimeError)


async def test_the_stack_of_a_call_can_be_shown(package: ModuleType) -> None:
    async def the_application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    task = task_of(package, the_application)
    await asyncio.sleep(0)
    shown = io.StringIO()
    task.print_stack(file=shown)
    task.cancel()
    await asyncio.wait([task])
    assert "calling.py" in shown.getvalue()
