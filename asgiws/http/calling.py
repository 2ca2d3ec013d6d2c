"""The coroutine around a call whose application has not given one of its own.

This module is never compiled: the coroutines of compiled functions have no ``cr_suspended``,
which ``inspect.getcoroutinestate`` reads, and they hide what an ``__await__`` raises.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any


async def call(awaitable: Awaitable[Any]) -> Any:
    """Await it."""
    return await awaitable
