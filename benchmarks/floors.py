"""Floors: servers that do no ASGI, to tell what the machine and the event loop cost.

Usage: floors.py picows PORT, or floors.py tcp PORT|PATH MODE. They echo, or send what any
member says to all members: picows at the path /broadcast, tcp with the mode "broadcast".
Or floors.py h11|httptools PORT: they greet.
"""

from __future__ import annotations

import asyncio
import sys
from typing import ClassVar, cast

import h11
import httptools
import uvloop

HELLO = (
    b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 00:00:00 GMT\r\nserver: h11\r\n"
    b"content-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!"
)


class TCPEcho(asyncio.Protocol):
    """Sends back whatever comes; it does not even speak WebSocket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class TCPBroadcast(asyncio.Protocol):
    """Sends whatever comes to all, and to each in the beginning that it is one of them."""

    members: ClassVar[dict[asyncio.Transport, None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.members[self.transport] = None
        self.transport.write(b"+")

    def connection_lost(self, exc: Exception | None) -> None:
        del self.members[self.transport]

    def data_received(self, data: bytes) -> None:
        for member in self.members:
            member.write(data)


async def serve_tcp(address: str, mode: str) -> None:
    loop = asyncio.get_running_loop()
    protocol = TCPBroadcast if mode == "broadcast" else TCPEcho
    if address.isdigit():
        server = await loop.create_server(protocol, "127.0.0.1", int(address), backlog=2048)
    else:
        server = await loop.create_unix_server(protocol, address, backlog=2048)
    await server.serve_forever()


class H11Hello(asyncio.Protocol):
    """Has h11 parse the head of each request, and answers all of them alike."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.head = b""

    def data_received(self, data: bytes) -> None:
        self.head += data
        while b"\r\n\r\n" in self.head:
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(self.head)
            if type(connection.next_event()) is not h11.Request:
                raise AssertionError("no request")
            connection.next_event()  # the end of its body, which is empty
            self.head = connection.trailing_data[0]
            self.transport.write(HELLO)


class HttptoolsHello(asyncio.Protocol):
    """The same with httptools: it is called for each part of a head, as a server would be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.transport.write(HELLO)


async def serve_hello(port: str, protocol: type[asyncio.Protocol]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", int(port), backlog=2048)
    await server.serve_forever()


async def serve_picows(port: str) -> None:
    from picows import (
        WSFrame,
        WSListener,
        WSMsgType,
        WSTransport,
        WSUpgradeRequest,
        ws_create_server,
    )

    members: dict[WSTransport, None] = {}

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Broadcast(Echo):
        def on_ws_connected(self, transport: WSTransport) -> None:
            members[transport] = None

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            del members[transport]

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                super().on_ws_frame(transport, frame)
                return
            payload = frame.get_payload_as_memoryview()
            for member in members:
                member.send(frame.msg_type, payload)

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Broadcast() if request.path.startswith(b"/broadcast") else Echo()

    server = await ws_create_server(
        listener,
        "127.0.0.1",
        int(port),
        backlog=2048,
        max_frame_size=16 * 1024 * 1024,
    )
    await server.serve_forever()


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    hello = {"h11": H11Hello, "httptools": HttptoolsHello}
    if kind in hello:
        uvloop.run(serve_hello(*arguments, hello[kind]))
    else:
        uvloop.run({"picows": serve_picows, "tcp": serve_tcp}[kind](*arguments))
