"""An HTTP client that sends whatever bytes a test wants, and reads responses.

It blocks, with a deadline: a test that waits for what never comes fails.
"""

from __future__ import annotations

import select
import socket
import ssl
from dataclasses import dataclass, field

from .running import DEADLINE, Running
from .served import Served


def request(*lines: str, target: str = "/", method: str = "GET", version: str = "1.1") -> bytes:
    """The head of a request with these header lines, and no others."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1")


GET = request("Host: localhost")
CHUNKED = request("Host: localhost", "Transfer-Encoding: chunked", method="POST")


def sized(size: int, *headers: str, method: str = "POST", target: str = "/") -> bytes:
    """The head of a request whose body has ``size`` bytes."""
    length = f"Content-Length: {size}"
    return request("Host: localhost", length, *headers, method=method, target=target)


@dataclass
class Reply:
    """A response as it came over the wire.

    ``headers`` are keyed by lower-cased names; ``names`` are the names in order, as they came.
    """

    version: str
    status: int
    phrase: str
    headers: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    body: bytes = b""


class Client:
    """One connection to a server, raw; a context manager that closes it."""

    def __init__(
        self,
        where: Running | Served | str,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
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

    def is_answered(self) -> bool:
        """Whether bytes, or the end of the connection, wait to be read."""
        return bool(select.select([self.sock], [], [], 0)[0])

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
            reply.headers[name.lower()] = value
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
        """Return whether nothing at all comes for so long: no byte, no FIN, no RST."""
        return not select.select([self.sock], [], [], seconds)[0]

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
