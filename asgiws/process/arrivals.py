"""Connections that have arrived and are being set up: most do their TLS handshake."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from ..log import error_log
from ..transport.ending import TLS_SHUTDOWN_SECONDS


class Arrivals:
    """Gives every accepted socket its transport and its protocol.

    ``len()`` of it is how many are being set up.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[Any, Any], Any],
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        """``factory`` makes the protocol, given the peer's address and our own.

        ``handshake_timeout`` is the time of a TLS handshake in seconds.
        """
        self._loop = loop
        self._factory = factory
        #: called when a connection could not be set up
        self.failed: Callable[[], object] | None = None
        self._tls: dict[str, object] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        self._opening: dict[asyncio.Task[bool], socket.socket] = {}

    def __len__(self) -> int:
        return len(self._opening)

    def take(self, sock: socket.socket, address: Any) -> None:
        """Set up the connection ``sock``, whose peer has that address."""
        sock.setblocking(False)
        task = self._loop.create_task(self._open(sock, address))
        self._opening[task] = sock
        task.add_done_callback(self._on_open)

    def abort(self) -> None:
        """End the connections that are still being set up, as their peers could: uvloop never tells
        of the end of a connection whose setting up was cancelled.
        """
        for sock in self._opening.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _on_open(self, task: asyncio.Task[bool]) -> None:
        sock = self._opening.pop(task)
        # Here and not in the task, because a task that is cancelled at once never runs.
        if task.cancelled():
            sock.close()
        if (task.cancelled() or task.result()) and self.failed is not None:
            self.failed()

    async def _open(self, sock: socket.socket, address: Any) -> bool:
        """Set it up; return whether that failed."""
        try:
            factory = partial(self._factory, address, sock.getsockname())
            await self._loop.connect_accepted_socket(factory, sock, **self._tls)  # type: ignore[arg-type]
        except (OSError, TimeoutError) as exc:
            # The peer has gone, or the TLS handshake failed: this is not an error of the server.
            error_log.debug("A connection was not set up: %r", exc)
            sock.close()
            return True
        return False
