"""One codec's time per frame: ``codecs.py NAME``, run by the benchmarks' own Python.

Reading is feeding, parsing, unmasking and taking the whole message out as ``bytes``;
building is one unmasked frame around a payload. Reading is fed one frame at a time,
in the pieces of at most 256 KiB that an event loop reads, or 64 frames of 16 B at once.
Every codec's messages are compared before it is timed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

SIZES = (16, 125, 1024, 16384, 65536, 1048576)
MANY = 64
PIECE = 256 * 1024
LIMIT = 1 << 24
KEY = b"\x5a\xc3\x17\xe8"

Read = Callable[[bytes], list[bytes]]  # bytes from the peer -> the messages they complete
Build = Callable[[bytes], Any]  # a payload -> its frame, or nothing if it was written away


def masked(payload: bytes) -> bytes:
    """A binary frame as a client sends it (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x82, 0x80 | size))
    elif size < 65536:
        head = bytes((0x82, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x82, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + KEY + bytes(byte ^ KEY[i & 3] for i, byte in enumerate(payload))


class Transport(asyncio.Transport):
    """Takes what a codec writes, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = socket.socket()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket if name == "socket" else default

    def write(self, data: Any) -> None:
        pass

    def writelines(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def asgiws() -> tuple[Read, Build]:
    from asgiws._build import build
    from asgiws.wire.frames import frame
    from asgiws.wire.protocol import Protocol

    wanted = "pure Python" if os.environ.get("ASGIWS_PURE") else "compiled"
    if build() != wanted:
        raise SystemExit(f"asgiws is {build()}, not {wanted}")
    protocol = Protocol(LIMIT, None)

    def read(data: bytes) -> list[bytes]:
        protocol.receive_data(data)
        messages = []
        while (message := protocol.next_message()) is not None:
            messages.append(message)
        return messages

    return read, lambda payload: frame(0x82, payload)


def websockets() -> tuple[Read, Build]:
    from websockets.frames import Frame, Opcode
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    protocol = ServerProtocol(state=State.OPEN, max_size=LIMIT)

    def read(data: bytes) -> list[bytes]:
        protocol.receive_data(data)
        return [bytes(frame.data) for frame in protocol.events_received()]

    return read, lambda payload: Frame(Opcode.BINARY, payload).serialize(mask=False)


def wsproto() -> tuple[Read, Build]:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage

    connection = Connection(ConnectionType.SERVER)
    parts: list[bytes] = []

    def read(data: bytes) -> list[bytes]:
        connection.receive_data(data)
        messages = []
        for event in connection.events():
            parts.append(event.data)
            if event.message_finished:
                messages.append(bytes(parts[0]) if len(parts) == 1 else b"".join(parts))
                parts.clear()
        return messages

    return read, lambda payload: connection.send(BytesMessage(payload))


def aiohttp() -> tuple[Read, Build]:
    from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.http_websocket import WebSocketWriter

    loop = asyncio.get_event_loop()
    protocol = BaseProtocol(loop)
    transport = Transport()
    protocol.connection_made(transport)
    queue = WebSocketDataQueue(protocol, 1 << 30, loop=loop)
    reader = WebSocketReader(queue, LIMIT, False, True)
    writer = WebSocketWriter(protocol, transport, limit=1 << 40)

    def finish(coroutine: Any) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise RuntimeError("aiohttp's queue has fewer messages than it was fed")

    def read(data: bytes) -> list[bytes]:
        reader.feed_data(data)
        return [finish(queue.read()).data for _ in range(expected[0])]

    return read, lambda payload: finish(writer.send_frame(payload, 2))


def picows() -> tuple[Read, Build]:
    from picows import WSListener
    from picows.picows import WSAutoPingStrategy, WSProtocol

    messages: list[bytes] = []

    class Listener(WSListener):
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            messages.append(frame.get_payload_as_bytes())

    logger = logging.getLogger("picows")
    logger.setLevel(logging.CRITICAL)
    when = WSAutoPingStrategy.PING_WHEN_IDLE
    settings = (False, None, False, 20, 20, when, True, LIMIT, None, 16384)
    protocol = WSProtocol(None, None, False, lambda request: Listener(), logger, *settings)
    protocol.connection_made(Transport())

    def put(data: bytes) -> None:
        """Copy into the protocol's own buffer, as the kernel does."""
        pos = 0
        while pos < len(data):
            with memoryview(protocol.get_buffer(-1)) as buffer:
                size = min(len(buffer), len(data) - pos)
                buffer[:size] = data[pos : pos + size]
            protocol.buffer_updated(size)
            pos += size

    put(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def read(data: bytes) -> list[bytes]:
        put(data)
        taken = messages[:]
        messages.clear()
        return taken

    return read, lambda payload: None


CODECS: dict[str, Callable[[], tuple[Read, Build]]] = {
    "asgiws": asgiws,
    "websockets": websockets,
    "wsproto": wsproto,
    "aiohttp": aiohttp,
    "picows": picows,
}
expected = [1]  # messages in what is fed next; only aiohttp must be told


def pieces(data: bytes) -> list[bytes]:
    return [data[pos : pos + PIECE] for pos in range(0, len(data), PIECE)]


def nanoseconds(call: Callable[[], object]) -> float:
    """The best of several loops: what noise adds, it only adds."""
    start = time.perf_counter_ns()
    call()
    count = max(1, 20_000_000 // (time.perf_counter_ns() - start + 1))
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter_ns() - start) / count)
    return best


def time_read(read: Read, payload: bytes, many: int) -> float:
    feeds = pieces(masked(payload) * many)
    expected[0] = many if len(feeds) == 1 else 0
    if len(feeds) == 1:

        def call() -> list[bytes]:
            return read(feeds[0])
    else:

        def call() -> list[bytes]:
            messages = []
            for number, feed in enumerate(feeds, 1):
                expected[0] = number == len(feeds)
                messages += read(feed)
            return messages

    if [bytes(message) for message in call()] != [payload] * many:
        raise SystemExit(f"wrong messages of {len(payload)} bytes")
    return nanoseconds(call) / many


def main() -> None:
    name = sys.argv[1]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def run() -> dict[str, dict[str, float]]:
        read, build = CODECS[name]()
        payloads = [bytes(i * 7 & 255 for i in range(size)) for size in SIZES]
        result: dict[str, dict[str, float]] = {"read": {}, "build": {}}
        result["read"][f"{MANY} x 16"] = time_read(read, payloads[0], MANY)
        for payload in payloads:
            result["read"][str(len(payload))] = time_read(read, payload, 1)
            if build(payload) is not None or name == "aiohttp":
                result["build"][str(len(payload))] = nanoseconds(partial(build, payload))
        return result

    print(json.dumps(loop.run_until_complete(run())))


if __name__ == "__main__":
    main()
