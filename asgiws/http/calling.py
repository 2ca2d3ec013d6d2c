"""The coroutine of one call of the application.

This module is never compiled: tools that show what a task does (``Task.print_stack``, dumps
of all tasks) need a coroutine with a frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from ..asgi import ASGIApp, Receive, Scope, Send
from ..errors import ApplicationCancelled


async def call(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    cancelled: Collection[asyncio.Task[None]],
) -> None:
    """Call ``app``; however it ends, nothing else fails with it.

    ``cancelled`` holds the tasks that the server has cancelled itself.
    """
    # An application need not be a coroutine function: an exception of the call itself must end
    # up in the task as well.
    try:
        await app(scope, receive, send)
    except (SystemExit, KeyboardInterrupt) as exc:
        # A task would let these out of the event loop, which would end the whole server.
        raise RuntimeError(f"the application raised {type(exc).__name__}") from exc
    except asyncio.CancelledError as exc:
        if asyncio.current_task() in cancelled:
            raise
        raise ApplicationCancelled("the application was cancelled, and not by the server") from exc
