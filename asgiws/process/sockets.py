"""The sockets to listen on: bound to an address or a file, or handed over by a descriptor."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

from ..errors import BindError

# The system knows the family, or a name has an address in it, but no interface has.
NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


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
def bound(
    host: str = "127.0.0.1", port: int = 0, uds: str | None = None, fd: int | None = None
) -> Iterator[list[socket.socket]]:
    """The sockets that ``fd``, ``uds`` or ``host`` and ``port`` ask for, not listening yet.

    Closes them at the end, and removes the file of a Unix socket. Raises BindError.
    """
    if uds is not None:
        with _bound_unix(uds) as sock:
            yield [sock]
        return
    sockets = _bind_tcp(host, port) if fd is None else [_adopt(fd)]
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


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


@contextmanager
def _bound_unix(path: str) -> Iterator[socket.socket]:
    """A socket bound to ``path``, which is ours as long as the block runs."""
    sock = StreamSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    with ExitStack() as held:
        held.callback(sock.close)
        try:
            held.enter_context(_locked(f"{path}.lock"))
            _remove_stale(path)
            sock.bind(path)
            os.chmod(path, 0o666)  # as other servers do: a proxy of another user must connect
        except OSError as exc:
            raise BindError(f"cannot listen on --uds {path}: {exc.strerror or exc}") from None
        file = _identity(path)
        try:
            yield sock
        finally:
            sock.close()
            _remove(path, file)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock in the file ``path``, which is removed afterwards; raises OSError.

    A socket that is bound and does not listen yet refuses connections as a stale one
    does. So a server that starts is known by this lock; it goes with its process.
    """
    import fcntl

    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            file = _identity(fd)
            if _identity(path) != file:
                continue  # removed by who held it before
            try:
                yield
            finally:
                _remove(path, file)
            return
        finally:
            os.close(fd)


def _remove(path: str, file: tuple[int, int] | None) -> None:
    """Remove ``path`` if it is ``file`` still: what has been tidied away, or belongs to
    another server by now, is not ours to remove.
    """
    if file == _identity(path):
        with suppress(OSError):
            os.unlink(path)


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


def _identity(path: str | int) -> tuple[int, int] | None:
    """Which file stands at ``path``, or is open as that descriptor."""
    try:
        found = os.fstat(path) if isinstance(path, int) else os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
