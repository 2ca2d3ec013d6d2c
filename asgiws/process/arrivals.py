"""Connections that have arrived and are being set up: most do their TLS handshake."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ..log import error_log
from ..transport import NO_SOCKET, NOT_LOOKED_AT
from ..transport.ending import TLS_SHUTDOWN_SECONDS
from .sockets import INTERNET, Accepted


class Steps:
    """A coroutine that waits for futures only, and runs without a task.

    A task would cost a twentieth of an opening handshake. ``done`` is called with the Steps and
    with what the coroutine raised, if anything.
    """

    __slots__ = ("_coroutine", "_done")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        done: Callable[[Steps, BaseException | None], object],
    ) -> None:
        self._coroutine = coroutine
        self._done = done

    def go_on(self, _future: asyncio.Future[Any] | None = None) -> None:
        """Run it until it waits for the next future, as a task would."""
        try:
            future = self._coroutine.send(None)
        except StopIteration:
            self._done(self, None)
        except (Exception, asyncio.CancelledError) as exc:
            self._done(self, exc)
        else:
            future._asyncio_future_blocking = False
            future.add_done_callback(self.go_on)


class Arrivals:
    """Gives every accepted connection its transport and its protocol.

    ``len()`` of it is how many are being set up. ``bare``: an Accepted will do for a TCP
    connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[Any, Any, int], Any],
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        """``factory`` makes the protocol of a connection.

        It gets the peer's address, our own (None if the transport tells it, as ``sockname``), and
        the descriptor as ``Outbox.open`` takes it. ``handshake_timeout`` is the time of a TLS
        handshake in seconds.
        """
        self._loop = loop
        self._factory = factory
        # A class derived from uvloop's may do anything.
        self.bare = type(loop).__module__ == "uvloop"
        #: called when a connection could not be set up
        self.failed: Callable[[], object] | None = None
        self._tls: dict[str, object] = {}
        if tls is not None:
            self._tls = {
                "ssl": tls,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_SECONDS,
            }
        self._opening: dict[Steps | asyncio.Task[Any], socket.socket | Accepted] = {}

    def __len__(self) -> int:
        return len(self._opening)

    def take(self, sock: socket.socket | Accepted, address: Any) -> None:
        """Set up the connection ``sock``, whose peer has that address."""
        if self.bare and sock.family in INTERNET:
            if not isinstance(sock, Accepted):
                sock = Accepted(sock.family, sock.detach())
            fd = NO_SOCKET if self._tls else sock.fileno()
            steps = Steps(self._connect(sock, address, None, fd), self._on_open)
            self._opening[steps] = sock
            steps.go_on()
            return
        assert isinstance(sock, socket.socket)
        sock.setblocking(False)
        try:
            own = sock.getsockname()
        except OSError as exc:
            self._refuse(sock, exc)
            return
        task = self._loop.create_task(self._connect(sock, address, own, NOT_LOOKED_AT))
        self._opening[task] = sock
        task.add_done_callback(self._on_task)

    def _connect(
        self, sock: socket.socket | Accepted, address: Any, own: Any, fd: int
    ) -> Coroutine[Any, Any, Any]:
        """Return what makes the transport, and the protocol."""
        factory = partial(self._factory, address, own, fd)
        return self._loop.connect_accepted_socket(factory, sock, **self._tls)  # type: ignore[arg-type]

    def abort(self) -> None:
        """End the connections that are still being set up, as their peers could: uvloop never tells
        of the end of a connection whose setting up was cancelled.
        """
        for sock in self._opening.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _on_task(self, task: asyncio.Task[Any]) -> None:
        self._on_open(task, asyncio.CancelledError() if task.cancelled() else task.exception())

    def _on_open(self, key: Steps | asyncio.Task[Any], exc: BaseException | None) -> None:
        sock = self._opening.pop(key)
        if exc is None:
            return
        # If the peer has gone or the TLS handshake failed, this is not an error of the server.
        if not isinstance(exc, (OSError, TimeoutError, asyncio.CancelledError)):
            self._loop.call_exception_handler(
                {"message": "A connection could not be set up", "exception": exc}
            )
        self._refuse(sock, exc)

    def _refuse(self, sock: socket.socket | Accepted, reason: BaseException) -> None:
        """Give up a connection that could not be set up."""
        error_log.debug("A connection was not set up: %r", reason)
        if isinstance(sock, Accepted):
            sock.give_up()
        else:
            sock.close()
        if self.failed is not None:
            self.failed()
