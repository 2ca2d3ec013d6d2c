"""A WebSocket on a transport, an opening and a clock that are plain objects.

``Session`` holds one WebSocket of one build: bytes go in by ``feed``, what it wrote is
in ``transport.writes``. Time stands still until ``clock.advance`` moves it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from .client_frames import server_frames


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)


class Clock:
    """The running event loop with a clock of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> object:
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, callback))
        return callback

    def advance(self, seconds: float) -> None:
        """Let time pass on a loop that is never late."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end + 1e-9:
            when, _, callback = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            callback()
        self._now = end

    def block(self, seconds: float) -> None:
        """Let time pass while a callback blocks the loop; what is due runs late."""
        self._now += seconds
        due = []
        while self._timers and self._timers[0][0] <= self._now:
            due.append(heapq.heappop(self._timers)[2])
        for callback in due:
            callback()


class Transport:
    """What a WebSocket may ask of a transport, noted down."""

    def __init__(self, tls: bool = False) -> None:
        self.tls = tls
        self.writes: list[bytes] = []
        self.calls: list[str] = []
        self.reading = True
        self.stuck = False  # the peer takes nothing
        self.unwritten = 0
        self.on_write: Callable[[], object] = lambda: None

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        assert type(data) is bytes
        self.writes.append(data)
        if self.stuck:
            self.unwritten += len(data)
        self.on_write()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self.calls.append("resume_reading")

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        assert not self.tls
        self.calls.append("write_eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return self.ended

    @property
    def ended(self) -> bool:
        return bool({"write_eof", "close", "abort"} & set(self.calls))


class Opening:
    """An opening handshake that does what it is told and notes it down."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.calls: list[tuple[Any, ...]] = []
        self.trailing = b""
        self.write_paused = False
        self.raises: Exception | None = None

    def accept(self, websocket: Any, subprotocol: str | None, headers: Any) -> None:
        if self.raises is not None:
            raise self.raises
        self.calls.append(("accept", subprotocol, list(headers)))
        websocket.opened(self.transport, self.write_paused, self.trailing)

    def refuse(self, status: int, reason: str = "") -> None:
        self.calls.append(("refuse", status))

    def respond_start(self, status: Any, headers: Any) -> None:
        if self.raises is not None:
            raise self.raises
        self.calls.append(("start", status, headers))

    async def respond_body(self, data: Any, more: Any) -> None:
        self.calls.append(("body", data, more))

    def ended(self, websocket: Any) -> None:
        self.calls.append(("ended",))


class Session:
    """One WebSocket; made inside a running loop."""

    def __init__(
        self,
        package: ModuleType,
        *,
        buffered: bool = False,
        tls: bool = False,
        deflate: Any = None,
        clock: Clock | None = None,
        **limits: Any,
    ) -> None:
        self.package = package
        self.buffered = buffered
        self.clock = clock or Clock()
        options: dict[str, Any] = {
            "max_size": 1 << 20,
            "max_queue": 32,
            "ping_interval": 20.0,
            "ping_timeout": 20.0,
            "close_timeout": 10.0,
            "accept_timeout": None,
            "write_timeout": None,
            "idle_timeout": None,
            "deflate": deflate,
        }
        numbers = package.websocket.limits.Limits(**(options | limits))
        self.pulse = package.websocket.pulse.Pulse(self.clock, numbers)
        agreed = package.wire.deflate.Agreed(True, True, 15, 15) if deflate is not None else None
        self.transport = Transport(tls)
        self.opening = Opening(self.transport)
        self.websocket = package.websocket.session.Session(self.pulse, self.opening, agreed)
        self._read = 0

    async def receive(self) -> dict[str, Any]:
        event: dict[str, Any] = await self.websocket.receive()
        return event

    async def send(self, event: Any) -> None:
        await self.websocket.send(event)

    async def text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    async def accept(self) -> None:
        assert await self.receive() == {"type": "websocket.connect"}
        await self.send({"type": "websocket.accept"})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    def feed(self, data: bytes) -> None:
        """Bytes come from the peer, the way uvloop or asyncio hands them on."""
        if not self.buffered:
            self.websocket.data_received(data)
            return
        while data:
            view = self.websocket.get_buffer(-1)
            size = min(len(view), len(data))
            view[:size] = data[:size]
            del view
            self.websocket.buffer_updated(size)
            data = data[size:]

    def lost(self) -> None:
        """The connection is gone."""
        self.websocket.connection_lost(None)

    def sent(self) -> list[tuple[int, bytes]]:
        """First byte and payload of each frame written since the last call."""
        data = b"".join(self.transport.writes)
        new, self._read = data[self._read :], len(data)
        return [(first, payload) for first, _, payload in server_frames(new)]

    async def app(self, result: Callable[[], Awaitable[None]]) -> None:
        """The application is ``result``, and has ended."""

        async def call() -> None:
            await result()

        task = asyncio.ensure_future(call())
        await asyncio.wait([task])
        self.websocket.app_done(task)


# What sessions are told and tell.

CLOSE_1000 = (0x88, b"\x03\xe8")
ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "x"}
CLOSE = {"type": "websocket.close"}
START = {"type": "websocket.http.response.start", "status": 401, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"x", "more_body": True}
STATES = ["connecting", "denying", "accepted", "closed", "denied", "refused"]


def text_event(text: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": text}


def disconnect_event(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


async def reach(session: Session, state: str) -> None:
    """Bring a session into one of STATES."""
    steps: dict[str, list[dict[str, Any]]] = {
        "connecting": [],
        "denying": [START],
        "accepted": [ACCEPT],
        "closed": [ACCEPT, CLOSE],
        "denied": [START, BODY | {"more_body": False}],
        "refused": [CLOSE],
    }
    for event in steps[state]:
        await session.send(event)
