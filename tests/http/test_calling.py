"""What an application has returned, as a coroutine."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest


async def test_what_an_await_method_raises_is_the_error(package: ModuleType) -> None:
    class Fails:
        def __await__(self) -> Any:
            raise LookupError

    with pytest.raises(LookupError):
        await package.http.calling.call(Fails())


def test_its_state_can_be_read(package: ModuleType) -> None:
    class Waits:
        def __await__(self) -> Any:
            yield

    coroutine = package.http.calling.call(Waits())
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    coroutine.send(None)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    coroutine.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
