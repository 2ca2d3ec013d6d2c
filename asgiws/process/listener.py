"""Accepting: a bound socket goes in, connections come out.

Accepting is ours, and not the event loop's, so that running out of file
descriptors has one place: uvloop's own servers accept and close without a word
then, and asyncio's call the exception handler for every attempt.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from ..errors import BindError
from ..log import error_log
from ..options.config import Config

# The system knows the family, or a name has an address in it, but no interface has.
NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
PAUSE_SECONDS = 0.25
ACCEPTS_AT_ONCE = 64


class StreamSocket(socket.socket):
    """A socket whose family and type are plain numbers, also for what it accepts.

    The standard library makes enums of them whenever they are asked for, several times
    for a connection: that is a twentieth of what an opening handshake costs.
    """

    __slots__ = ()

    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]

    def accept(self) -> tuple[StreamSocket, Any]:
        """The next connection, and the peer's address."""
        sock, address = super().accept()
        sock.__class__ = StreamSocket
        return cast(StreamSocket, sock), address


@contextmanager
def bound(config: Config) -> Iterator[list[socket.socket]]:
    """The sockets that ``--fd``, ``--uds`` or ``--host`` and ``--port`` ask for, not listening yet.

    Closes them at the end, and removes the file of a Unix socket. Raises BindError.
    """
    if config.fd is not None:
        sockets = [_adopt(config.fd)]
    elif config.uds is not None:
        sockets = [_bind_unix(config.uds)]
    else:
        sockets = _bind_tcp(config.host, config.port)
    file = None if config.uds is None else _identity(config.uds)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()
        # Another server may have taken the path since.
        if config.uds is not None and file == _identity(config.uds):
            os.unlink(config.uds)


def _adopt(fd: int) -> socket.socket:
    try:
        sock = StreamSocket(fileno=fd)
    except OSError as exc:
        raise BindError(f"--fd {fd} is no socket: {exc.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise BindError(f"--fd {fd} is no stream socket")
    return sock


def _bind_tcp(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of ``host``, all on one port; at least one."""
    sockets: list[socket.socket] = []
    skipped: OSError | None = None
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            # With port 0 every family gets the port that the first one was given.
            port = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind(family, kind, protocol, (address[0], port, *address[2:])))
            except OSError as exc:
                if exc.errno not in NOT_HERE:
                    raise
                skipped = exc
        if skipped is not None and not sockets:
            raise skipped
    except OSError as exc:
        for sock in sockets:
            sock.close()
        raise BindError(f"cannot listen on {host} port {port}: {exc.strerror or exc}") from None
    return sockets


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    sock = StreamSocket(family, kind, protocol)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: str) -> socket.socket:
    sock = StreamSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        os.chmod(path, 0o666)  # as other servers do: a proxy of another user must connect
    except OSError as exc:
        sock.close()
        raise BindError(f"cannot listen on --uds {path}: {exc.strerror or exc}") from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that is gone; one that answers is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            pass  # in use, and its backlog is full


def _identity(path: str) -> tuple[int, int] | None:
    """Which file stands at ``path``."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Listener:
    """Accepts on one listening socket until ``close``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        factory: Callable[[Any, Any], Any],
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
        shutdown_timeout: float,
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
                "ssl_shutdown_timeout": shutdown_timeout,
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
