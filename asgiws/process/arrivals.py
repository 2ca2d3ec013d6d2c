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
        self._opening: dict[asyncio.Task[Any], socket.socket] = {}

    def __len__(self) -> int:
        return len(self._opening)

    def take(self, sock: socket.socket, address: Any) -> None:
        """Set up the connection ``sock``, whose peer has that address."""
        sock.setblocking(False)
        try:
            factory = partial(self._factory, address, sock.getsockname())
        except OSError as exc:
            self._refuse(sock, exc)
            return
        opening: Any = self._loop.connect_accepted_socket(factory, sock, **self._tls)  # type: ignore[arg-type]
        task = self._loop.create_task(opening)
        self._opening[task] = sock
        task.add_done_callback(self._on_open)

    def abort(self) -> None:
        """End the connections that are still being set up, as their peers could: uvloop never tells
        of the end of a connection whose setting up was cancelled.
        """
        for sock in self._opening.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _on_open(self, task: asyncio.Task[Any]) -> None:
        sock = self._opening.pop(task)
        if task.cancelled():
            self._refuse(sock, None)
        elif (exc := task.exception()) is not None:
            # If the peer has gone or the TLS handshake failed, this is not an error of the server.
            if not isinstance(exc, (OSError, TimeoutError)):
                self._loop.call_exception_handler(
                    {"message": "A connection could not be set up", "exception": exc}
                )
            self._refuse(sock, exc)

    def _refuse(self, sock: socket.socket, reason: BaseException | None) -> None:
        """Give up a connection that could not be set up."""
        if reason is not None:
            error_log.debug("A connection was not set up: %r", reason)
        sock.close()
        if self.failed is not None:
            self.failed()
