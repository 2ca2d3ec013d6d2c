"""Clients of a fleet: WebSockets that stay open, and requests and handshakes without end.

What the deploy test counts is counted here too. A client notes each loss in words,
and how long the slowest answer took.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

ANSWER_SECONDS = 30.0
END_SECONDS = 2.0  # for the server to end the connection of a WebSocket that is closed
UPGRADE = (
    b"GET /whose HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
REQUEST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
CLOSE = 8


class Refused(Exception):
    """The server answered, and not as it should have."""


class WebSocket:
    """An open WebSocket; ``pid`` is the process at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pid = 0

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> WebSocket:
        """Open one. Raises OSError, EOFError and Refused."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        websocket = cls(reader, writer)
        try:
            writer.write(UPGRADE)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                raise Refused(head.split(b"\r\n", 1)[0].decode("latin-1"))
            websocket.pid = int((await websocket.read())[1])
        except BaseException:
            websocket.cut()
            raise
        return websocket

    async def read(self) -> tuple[int, bytes]:
        """The next frame but for pings: opcode and payload."""
        while True:
            first, size = await self._reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            payload = await self._reader.readexactly(size)
            if first & 15 != 9:
                return first & 15, payload
            self._write(10, payload)

    def _write(self, opcode: int, payload: bytes) -> None:
        # Masked with zeros.
        self._writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    async def until_closed(self) -> int:
        """Wait for the server's close frame and answer it; the code. Raises EOFError, OSError."""
        while (frame := await self.read())[0] != CLOSE:
            pass
        self._write(CLOSE, frame[1][:2])
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._reader.read()
        self.cut()
        return int.from_bytes(frame[1][:2], "big")

    async def close(self) -> None:
        """Close it as a client does."""
        try:
            self._write(CLOSE, b"\x03\xe8")
            while (await self.read())[0] != CLOSE:
                pass
        finally:
            self.cut()

    def cut(self) -> None:
        """End the connection without a word."""
        self._writer.transport.abort()


async def join(port: int, count: int, at_once: int) -> list[WebSocket]:
    """Open so many WebSockets, ``at_once`` at a time."""
    left = iter(range(count))
    found = []

    async def some() -> None:
        for _ in left:
            found.append(await WebSocket.connect(port))

    await asyncio.gather(*(some() for _ in range(min(at_once, count))))
    return found


@dataclass
class Tally:
    """The counts of one kind of client."""

    done: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    async def note(self, answer: Awaitable[object]) -> None:
        """Wait for one answer, and count it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except (OSError, EOFError, Refused) as error:
            self.lost[f"{type(error).__name__}: {error}"[:80]] += 1
            await asyncio.sleep(0.05)
        else:
            self.done += 1
            self.slowest = max(self.slowest, time.monotonic() - began)


class Load:
    """Clients of one server that never rest until they are told to ``stop``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests = Tally()
        self.handshakes = Tally()
        self.reconnects = Tally()
        self.closings: list[float] = []  # when, of those that stay
        self.codes: Counter[int] = Counter()  # 1006: without a close frame
        self._open: set[WebSocket] = set()
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, pause: float = 0.02) -> None:
        """Send requests on two kept connections and two new ones, and handshakes on two."""
        clients: tuple[Callable[[float], Awaitable[None]], ...]
        clients = (self._kept, self._new, self._handshakes) * 2
        for client in clients:
            self._tasks.append(asyncio.ensure_future(client(pause)))

    async def stay(self, count: int) -> set[int]:
        """Open WebSockets that come back when they are closed; return the processes they are in."""
        sockets = await join(self.port, count, 64)
        for websocket in sockets:
            self._tasks.append(asyncio.create_task(self._stay(websocket)))
        return {websocket.pid for websocket in sockets}

    async def stop(self) -> None:
        """End all clients."""
        self._stopped = True
        for websocket in tuple(self._open):
            websocket.cut()
        await asyncio.gather(*self._tasks)

    @property
    def fullest_second(self) -> int:
        """The most closings in any second."""
        times = sorted(self.closings)
        first = most = 0
        for last, moment in enumerate(times):
            while moment - times[first] > 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    @property
    def mean_second(self) -> float:
        """The mean of the closings in a second, from the first to the last."""
        if len(self.closings) < 2:
            return 0.0
        return len(self.closings) / max(1.0, max(self.closings) - min(self.closings))

    async def _stay(self, websocket: WebSocket | None) -> None:
        while not self._stopped:
            if websocket is None:
                found: list[WebSocket] = []

                async def again(found: list[WebSocket] = found) -> None:
                    found.append(await WebSocket.connect(self.port))

                await self.reconnects.note(again())
                websocket = found[0] if found else None
                continue
            self._open.add(websocket)
            try:
                code = await websocket.until_closed()
            except (OSError, EOFError):
                code = 1006
            websocket.cut()
            self._open.discard(websocket)
            websocket = None
            if not self._stopped:
                self.codes[code] += 1
                self.closings.append(time.monotonic())

    async def _handshakes(self, pause: float) -> None:
        async def once() -> None:
            await (await WebSocket.connect(self.port)).close()

        while not self._stopped:
            await self.handshakes.note(once())
            await asyncio.sleep(pause)

    async def _new(self, pause: float) -> None:
        """Every request on a connection of its own."""

        async def once() -> None:
            streams = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                await request(*streams, b"Connection: close\r\n")
            finally:
                streams[1].transport.abort()

        while not self._stopped:
            await self.requests.note(once())
            await asyncio.sleep(pause)

    async def _kept(self, pause: float) -> None:
        """Requests on one connection, for as long as the server keeps it."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

        async def once() -> None:
            nonlocal streams
            used, streams = streams or await asyncio.open_connection("127.0.0.1", self.port), None
            keeps = False
            try:
                keeps = await request(*used)
            finally:
                if keeps:
                    streams = used
                else:
                    used[1].transport.abort()

        while not self._stopped:
            await self.requests.note(once())
            await asyncio.sleep(pause)
        if streams is not None:
            streams[1].transport.abort()


async def request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: bytes = b""
) -> bool:
    """One request and its answer; whether the server keeps the connection."""
    writer.write(REQUEST % headers)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise Refused(head.split(b"\r\n", 1)[0].decode("latin-1"))
    fields = dict(line.partition(b":")[::2] for line in head.split(b"\r\n")[1:-2])
    await reader.readexactly(int(fields[b"content-length"]))
    return fields.get(b"connection", b"").strip() != b"close"


async def opened_anew(port: int, tls: ssl.SSLContext, seconds: float, clients: int) -> int:
    """Handshakes with TLS, one message and a close each; how many in that time."""
    until = time.monotonic() + seconds
    count = 0

    async def some() -> None:
        nonlocal count
        while time.monotonic() < until:
            await (await WebSocket.connect(port, tls)).close()
            count += 1

    with suppress(asyncio.CancelledError):
        await asyncio.gather(*(some() for _ in range(clients)))
    return count
