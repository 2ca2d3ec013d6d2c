"""``--log-level trace``: every ASGI event of every call, as the application sees it."""

from __future__ import annotations

import itertools
from typing import Any

from ..log import TRACE, error_log

_calls = itertools.count(1)


def traced(app: Any) -> Any:
    """``app`` with its scope and every event in and out logged; payloads by their length."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        name = f"{scope['type']} {next(_calls)}"

        async def logged_receive() -> Any:
            event = await receive()
            error_log.log(TRACE, "%s receive %s", name, _shown(event))
            return event

        async def logged_send(event: Any) -> None:
            error_log.log(TRACE, "%s send %s", name, _shown(event))
            await send(event)

        error_log.log(TRACE, "%s starts %s", name, _shown(scope))
        try:
            await app(scope, logged_receive, logged_send)
        except BaseException as error:
            error_log.log(TRACE, "%s raised %r", name, error)
            raise
        error_log.log(TRACE, "%s returned", name)

    return call


def _shown(event: Any) -> Any:
    if not isinstance(event, dict):
        return event
    return {key: _short(key, value) for key, value in event.items()}


def _short(key: str, value: Any) -> Any:
    if key in ("body", "bytes", "text") and isinstance(value, str | bytes):
        return f"<{len(value)} {'characters' if isinstance(value, str) else 'bytes'}>"
    return value
