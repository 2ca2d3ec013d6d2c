"""Accepting: a bound socket goes in, connections come out.

Accepting is ours, and not the event loop's, so that running out of file
descriptors has one place: uvloop's own servers accept and close without a word
then, and asyncio's call the exception handler for every attempt.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import BindError
from ..log import error_log
from ..transport.ending import TLS_SHUTDOWN_SECONDS

PAUSE_SECONDS = 0.25
ACCEPTS_AT_ONCE = 64


class Listener:
    """Accepts on one listening socket until ``close``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: Callable[[Any, Any], Any],
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        """``factory`` makes the protocol, given the peer's address and our own."""
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._tls: dict[str, object] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        self._opening: dict[asyncio.Task[None], socket.socket] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._exhausted = False

    def start(self, backlog: int) -> None:
        """Accept from now on; raises BindError if another server was faster."""
        self._sock.setblocking(False)
        try:
            self._sock.listen(backlog)
        except OSError as exc:
            raise BindError(
                f"cannot listen on {self._sock.getsockname()}: {exc.strerror}"
            ) from None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Accept nothing more; connections that are not set up yet are dropped."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        for task in self._opening:
            task.cancel()

    def _on_readable(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                self._recovered()
                return
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                self._exhaust(exc)
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._open(sock, address))
            self._opening[task] = sock
            task.add_done_callback(self._on_open)

    def _on_open(self, task: asyncio.Task[None]) -> None:
        sock = self._opening.pop(task)
        # Here and not in the task: one that is cancelled at once never runs.
        if task.cancelled():
            sock.close()

    def _exhaust(self, exc: OSError) -> None:
        """Out of descriptors or of memory: leave the others in the backlog, and say so once."""
        if not self._exhausted:
            self._exhausted = True
            error_log.error("Cannot accept connections for now: %s", exc.strerror)
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _recovered(self) -> None:
        if self._exhausted:
            self._exhausted = False
            error_log.info("All connections that waited are accepted")

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)

    async def _open(self, sock: socket.socket, address: Any) -> None:
        try:
            factory = partial(self._factory, address, sock.getsockname())
            await self._loop.connect_accepted_socket(factory, sock, **self._tls)  # type: ignore[arg-type]
        except (OSError, TimeoutError) as exc:
            # The peer has gone, or the TLS handshake failed: nobody's error here.
            error_log.debug("A connection was not set up: %r", exc)
            sock.close()
