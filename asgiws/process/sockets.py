"""The sockets to listen on: bound to addresses and files, or taken over by descriptor.

``Bound`` owns them: it binds them together or not at all, exchanges some for others
while the rest goes on, hands them over to the program that the process executes next,
and lets go of them with all that belongs to them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypedDict, cast

from ..errors import BindError
from ..options.addresses import Address, Descriptor, Inet, Unix, parse_address

PERMISSIONS = 0o666  # as other servers do: a proxy of another user must connect
_Identity = tuple[int, int]  # a file, by device and number
# The addresses of localhost (RFC 6761, 6.3), though many hosts files know the first only.
LOCALHOST = ("127.0.0.1", "::1")
# The system knows the family, or a name has an address in it, but no interface does.
NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


INTERNET = (socket.AF_INET, socket.AF_INET6)


class StreamSocket(socket.socket):
    """A socket whose family and type are plain numbers, also in the sockets that it accepts.

    The standard library makes enums of them whenever they are asked for, several times
    for a connection. This is a twentieth of the cost of an opening handshake.
    """

    __slots__ = ()

    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]

    def accept(self) -> tuple[StreamSocket, Any]:
        """The next connection, and the peer's address."""
        sock, address = super().accept()
        sock.__class__ = StreamSocket
        return cast(StreamSocket, sock), address


class Accepted:
    """An accepted TCP connection of which only the descriptor is kept.

    uvloop needs no more to read and write by itself. A socket object would take two more system
    calls and more memory for each connection.
    """

    __slots__ = ("_fd", "family")

    type = socket.SOCK_STREAM

    def __init__(self, family: int, fd: int) -> None:
        self.family = family
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor, -1 if it is closed."""
        return self._fd

    def close(self) -> None:
        """Forget the descriptor: uvloop says so that it has closed it."""
        self._fd = -1

    def give_up(self) -> None:
        """Close the descriptor, unless a transport has done so."""
        if self._fd != -1:
            socket.close(self._fd)
            self._fd = -1

    def shutdown(self, how: int) -> None:
        """Shut the connection down, as the socket module does; raises OSError."""
        if self._fd == -1:  # of which the socket module makes a ValueError
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sock = socket.socket(self.family, self.type, 0, fileno=self._fd)
        try:
            sock.shutdown(how)
        finally:
            sock.detach()


def accepting(
    sock: socket.socket, bare: bool
) -> Callable[[], tuple[socket.socket | Accepted, Any]]:
    """Return a function that accepts one connection, and returns it with the peer's address.

    ``bare``: a TCP connection is an Accepted.
    """
    family = int(sock.family)
    if not bare or family not in INTERNET:
        return sock.accept

    def accept() -> tuple[Accepted, Any]:
        fd, address = sock._accept()  # type: ignore[attr-defined]  # socket.accept begins so
        return Accepted(family, fd), address

    return accept


class HandedOver(TypedDict):
    """The facts about one address that the next program must know. All of them can be JSON."""

    address: str
    sockets: list[int]
    lock: int | None
    file: list[int] | None


class Bound:
    """The sockets of some addresses, not listening yet, in the order of the addresses.

    A context manager: at its end the sockets are closed, and the files of Unix sockets
    are removed.
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        uds_permissions: int = PERMISSIONS,
        handed_over: Iterable[HandedOver] = (),
    ) -> None:
        """Bind all ``addresses``, or none and raise BindError.

        ``handed_over`` is what ``hand_over`` gave the program before this one. The sockets
        in it whose address is wanted are taken, the others are let go.
        """
        self._held = {held.address: held for held in map(_Held.taken_over, handed_over)}
        try:
            self.change(addresses, uds_permissions)
        except BaseException:
            self.close()
            raise

    @property
    def sockets(self) -> list[StreamSocket]:
        """All of them."""
        return [sock for held in self._held.values() for sock in held.sockets]

    @property
    def names(self) -> list[Any]:
        """The address of each: ``(host, port, ...)``, or the path of a Unix socket.

        A path that begins with NUL stands for no file (unix(7), "abstract").
        """
        names = [sock.getsockname() for sock in self.sockets]
        return [os.fsdecode(name) if isinstance(name, bytes) else name for name in names]

    def change(self, addresses: Iterable[Address], uds_permissions: int = PERMISSIONS) -> None:
        """Hold ``addresses`` instead; a socket that was held before stays, with its clients.

        Raises BindError, and then has not changed anything.
        """
        wanted: dict[Address, _Held] = {}
        try:
            for address in addresses:
                wanted[address] = self._held.get(address) or _Held.bound(address)
            for held in wanted.values():
                held.permit(uds_permissions)
        except BaseException:
            for address, held in wanted.items():
                if address not in self._held:
                    held.release()
            raise
        left = [held for address, held in self._held.items() if address not in wanted]
        self._held = wanted
        for held in left:
            held.release()

    @contextmanager
    def handed_over(self) -> Iterator[list[HandedOver]]:
        """Let a program that is executed in the block have all of it, under this process id.

        Yields what that program passes to ``Bound``. The descriptors keep their numbers.
        If the program cannot be executed, the end of the block takes them back.
        """
        descriptors = [fd for held in self._held.values() for fd in held.descriptors]
        try:
            for fd in descriptors:
                os.set_inheritable(fd, True)
            yield [held.handed_over() for held in self._held.values()]
        finally:
            for fd in descriptors:
                os.set_inheritable(fd, False)

    def close(self) -> None:
        """Let go of all of it."""
        held, self._held = self._held, {}
        for each in held.values():
            each.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Held:
    """The sockets of one address. ``lock`` and ``file`` guard and identify a Unix socket's file."""

    def __init__(
        self,
        address: Address,
        sockets: list[StreamSocket],
        lock: int | None = None,
        file: _Identity | None = None,
    ) -> None:
        self.address = address
        self.sockets = sockets
        self.lock = lock
        self.file = file

    @classmethod
    def bound(cls, address: Address) -> Self:
        if isinstance(address, Descriptor):
            return cls(address, [_adopt(address)])
        try:
            if isinstance(address, Inet):
                return cls(address, _bind_inet(address))
            return cls(address, *_bind_unix(address.path))
        except OSError as exc:
            raise BindError(f"cannot listen on {address}: {exc.strerror or exc}") from None

    @classmethod
    def taken_over(cls, state: HandedOver) -> Self:
        file = state["file"]
        held = cls(
            parse_address(state["address"]),
            [StreamSocket(fileno=fd) for fd in state["sockets"]],
            state["lock"],
            None if file is None else (file[0], file[1]),
        )
        for fd in held.descriptors:
            os.set_inheritable(fd, False)
        return held

    def handed_over(self) -> HandedOver:
        return {
            "address": str(self.address),
            "sockets": [sock.fileno() for sock in self.sockets],
            "lock": self.lock,
            "file": None if self.file is None else list(self.file),
        }

    @property
    def descriptors(self) -> list[int]:
        fds = [sock.fileno() for sock in self.sockets]
        return fds if self.lock is None else [*fds, self.lock]

    def permit(self, permissions: int) -> None:
        """Set the permissions of the file of a Unix socket, if it still is ours."""
        if isinstance(self.address, Unix) and self.file == _identity(self.address.path):
            try:
                os.chmod(self.address.path, permissions)
            except OSError as exc:
                message = f"cannot give {self.address} its permissions: {exc.strerror}"
                raise BindError(message) from None

    def release(self) -> None:
        for sock in self.sockets:
            sock.close()
        if isinstance(self.address, Unix) and self.lock is not None:
            _remove(self.address.path, self.file)
            _unlock(self.address.path, self.lock)


def url_of(name: Any, tls: bool) -> str:
    """One of the ``names`` of Bound as a URL; ``unix:PATH`` for a Unix socket."""
    if isinstance(name, tuple):
        return f"{'https' if tls else 'http'}://{Inet(*name[:2])}"
    return f"unix:{name.replace(chr(0), '@')}"


def _adopt(address: Descriptor) -> StreamSocket:
    """Return the socket with that descriptor, which is not inherited by child processes."""
    try:
        sock = StreamSocket(fileno=address.number)
    except OSError as exc:
        raise BindError(f"{address} is not a socket: {exc.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise BindError(f"{address} is not a stream socket")
    sock.set_inheritable(False)
    return sock


def _bind_inet(address: Inet) -> list[StreamSocket]:
    """One socket for each address of the host, all on one port; at least one."""
    sockets: list[StreamSocket] = []
    skipped: OSError | None = None
    port = address.port
    try:
        for family, kind, protocol, _, found in _resolved(address):
            # With port 0 every family gets the port that the first one was given.
            port = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind(family, kind, protocol, (found[0], port, *found[2:])))
            except OSError as exc:
                if exc.errno not in NOT_HERE:
                    raise
                skipped = exc
        if skipped is not None and not sockets:
            raise skipped
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _resolved(address: Inet) -> Iterable[tuple[int, int, int, str, tuple[Any, ...]]]:
    hosts = LOCALHOST if address.host.lower() == "localhost" else (address.host or None,)
    return dict.fromkeys(
        found
        for host in hosts
        for found in socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    )


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> StreamSocket:
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


def _bind_unix(path: str) -> tuple[list[StreamSocket], int, _Identity | None]:
    """A socket bound to ``path``, the descriptor of its lock, and which file it is."""
    sock = StreamSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock = _lock(path)
        try:
            _remove_stale(path)
            sock.bind(path)
        except OSError:
            _unlock(path, lock)
            raise
    except OSError:
        sock.close()
        raise
    return [sock], lock, _identity(path)


def _lock(path: str) -> int:
    """Lock the file beside the socket ``path`` and return its descriptor; raises OSError.

    A socket that is bound and does not listen yet refuses connections as a stale one does. So a
    server that starts is known by this lock. It lasts until ``_unlock`` or the end of the last
    process that has the descriptor, even if that runs another program by then.
    """
    import fcntl

    while True:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(fd)
            if isinstance(exc, BlockingIOError):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            raise
        if _identity(f"{path}.lock") == _identity(fd):
            return fd
        os.close(fd)  # removed by its former holder


def _unlock(path: str, fd: int) -> None:
    _remove(f"{path}.lock", _identity(fd))
    os.close(fd)


def _remove(path: str, file: _Identity | None) -> None:
    """Remove ``path`` if it still is ``file``. A file that belongs to another server by now must
    not be removed.
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


def _identity(path: str | int) -> _Identity | None:
    """Identify the file at ``path``, or the one that is open as that descriptor."""
    try:
        found = os.fstat(path) if isinstance(path, int) else os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
