"""What the connections of one event loop share: the application, the registry, the counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import Context
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any

from ..websocket.limits import Limits
from ..websocket.pulse import Pulse
from ..wire.deflate import Settings
from ..wire.origin import Origins
from .forwarded import Proxies

if TYPE_CHECKING:
    from ..options.config import Config

Scope = dict[str, Any]
Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


class Worker:
    """One application on one event loop, and everything that is alive in it.

    ``connections`` holds every open connection, HTTP and WebSocket alike (anything
    with a ``shutdown()`` and an ``abort()``), ``tasks`` every running call of the
    application. An object leaves its set when it ends, never earlier: an empty
    worker is a drained one.
    """

    def __init__(
        self, config: Config, app: ASGIApp, loop: asyncio.AbstractEventLoop, state: dict[str, Any]
    ) -> None:
        self.config = config
        self.app = app
        self.loop = loop
        self.state = state
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        limits = Limits(
            max_size=config.ws_max_size,
            max_queue=config.ws_max_queue,
            ping_interval=config.ws_ping_interval,
            ping_timeout=config.ws_ping_timeout,
            close_timeout=config.ws_close_timeout,
            accept_timeout=config.ws_accept_timeout,
            write_timeout=config.timeout_write,
            idle_timeout=config.ws_idle_timeout,
            deflate=Settings(
                window_bits=config.ws_deflate_window_bits,
                mem_level=config.ws_deflate_mem_level,
                level=config.ws_deflate_level,
                context_takeover=config.ws_deflate_context_takeover,
                min_size=config.ws_deflate_min_size,
                library=config.ws_deflate_library,
            )
            if config.ws_per_message_deflate
            else None,
        )
        self.websockets = Pulse(loop, limits)
        self.origins = Origins(config.ws_origins.split(","))
        self.proxies = Proxies(config.forwarded_allow_ips) if config.proxy_headers else None
        self._headers: dict[bytes, bytes] = {}
        self._headers_joined = b""
        self._headers_second = -1

    def full(self) -> bool:
        """Whether ``--limit-concurrency`` is exceeded: the next request is answered 503."""
        limit = self.config.limit_concurrency
        return limit is not None and (len(self.connections) > limit or len(self.tasks) >= limit)

    def start(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        context: Context,
        done: Callable[[Any], object],
    ) -> None:
        """Call the application in ``context``; ``done(task)`` is called when it ends."""
        task = self.loop.create_task(self._call(scope, receive, send), context=context)
        self.tasks.add(task)
        task.add_done_callback(partial(self._ended, done), context=context)

    def _ended(self, done: Callable[[Any], object], task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        done(task)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An application need not be a coroutine function: what it raises when it is
        # called must end up in the task as well.
        await self.app(scope, receive, send)

    def default_headers(self, given: Collection[bytes] = ()) -> bytes:
        """The ``date``, ``server`` and ``--header`` lines, without those that are ``given``."""
        now = int(time.time())
        if now != self._headers_second:
            self._headers_second = now
            self._headers = self._make_headers(now)
            self._headers_joined = b"".join(self._headers.values())
        if self._headers.keys().isdisjoint(given):
            return self._headers_joined
        return b"".join([line for name, line in self._headers.items() if name not in given])

    def _make_headers(self, now: int) -> dict[bytes, bytes]:
        """The default header lines of one second, by name."""
        lines: dict[bytes, bytes] = {}
        for name, value in self.config.headers:
            lines[name] = lines.get(name, b"") + name + b": " + value + b"\r\n"
        if self.config.date_header:
            lines.setdefault(b"date", b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")
        if self.config.server_header:
            lines.setdefault(b"server", b"server: asgiws\r\n")
        return lines
