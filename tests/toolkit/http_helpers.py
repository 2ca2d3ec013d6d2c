"""A server in a thread on either event loop, and a client that speaks raw bytes.

Both are blocking and have deadlines: a test that waits for what never comes fails.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import uvloop

import asgiws

DEADLINE = 5.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


class Running:
    """A server that runs in a thread; ``port`` is the one it listens on.

    ``package`` is the build of asgiws to run.
    """

    def __init__(
        self, app: Any, loop: str = "uvloop", package: ModuleType = asgiws, **options: Any
    ) -> None:
        options = {"port": 0, "lifespan": "off", "timeout_graceful_shutdown": 2.0, **options}
        self.server = package.Server(package.Config(app, **options))
        self._new_loop = LOOPS[loop]
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(DEADLINE) or self._error is not None:
            raise RuntimeError("the server did not start") from self._error
        address = self.server.addresses[0]
        self.port = address[1] if isinstance(address, tuple) else 0

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as exc:
                self._error = exc
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self.server.serve())
        started = asyncio.ensure_future(self.server.wait_started())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        self._ready.set()
        await serving

    def call(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns when it is called in the server's loop."""

        async def calling() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(calling(), self.loop).result(DEADLINE)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at in the server's loop, holds."""

        deadline = time.monotonic() + DEADLINE
        while not self.call(condition):
            assert time.monotonic() < deadline, "it does not happen"
            threading.Event().wait(0.005)

    def shutdown(self) -> None:
        """Begin the shutdown, and do not wait for its end."""
        self.server.shutdown()

    def stop(self) -> None:
        """End it; raises what the server raised."""
        self.shutdown()
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "the server does not stop"
        if self._error is not None:
            raise self._error


@contextmanager
def running(
    app: Any, loop: str = "uvloop", package: ModuleType = asgiws, **options: Any
) -> Iterator[Running]:
    """Serve ``app`` while the block runs."""
    server = Running(app, loop, package, **options)
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Reply:
    """A response as it came over the wire; ``names`` are its header names in order."""

    version: str
    status: int
    phrase: str
    headers: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    body: bytes = b""


class Client:
    """One connection to a server, raw; a context manager that closes it."""

    def __init__(
        self, where: Running | str, *, tls: ssl.SSLContext | None = None, receive_buffer: int = 0
    ) -> None:
        if isinstance(where, str):
            self.sock = socket.socket(socket.AF_UNIX)
        else:
            self.sock = socket.socket()
        self.sock.settimeout(DEADLINE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(where if isinstance(where, str) else ("127.0.0.1", where.port))
        except BaseException:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/", *headers: str, method: str = "GET") -> Reply:
        """Send a request without a body; its response."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))
        return self.read(head_only=method == "HEAD")

    def read_head(self) -> Reply:
        """The head of the next response."""
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"no response but {line!r}"
        version, status, phrase = line.decode().rstrip("\r\n").split(" ", 2)
        reply = Reply(version, int(status), phrase)
        while (line := self.file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), f"the head ends with {line!r}"
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            reply.names.append(name)
            reply.headers[name] = value
        return reply

    def read_chunk(self) -> bytes:
        """The next chunk of a chunked body; empty is the last one."""
        size = int(self.file.readline(), 16)
        data = self.file.read(size)
        assert self.file.read(2) == b"\r\n"
        return data

    def read(self, head_only: bool = False) -> Reply:
        """The next response, whole."""
        reply = self.read_head()
        if head_only or reply.status in (101, 204, 304) or reply.status < 200:
            return reply
        if reply.headers.get("transfer-encoding") == "chunked":
            while chunk := self.read_chunk():
                reply.body += chunk
        elif "content-length" in reply.headers:
            size = int(reply.headers["content-length"])
            reply.body = self.file.read(size)
            assert len(reply.body) == size, "the body is cut off"
        else:
            reply.body = self.file.read()
        return reply

    def finish(self) -> None:
        """Send FIN: there is nothing more to say."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with an RST."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def rest(self) -> bytes:
        """All that still comes until the server's FIN; an RST is an error."""
        return self.file.read()

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing at all comes for so long: no byte, no FIN, no RST."""
        return not select.select([self.sock], [], [], seconds)[0]

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
