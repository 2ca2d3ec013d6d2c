"""Floors: echo servers that do no ASGI, to tell what the machine and the event loop cost.

Usage: floors.py picows PORT, or floors.py tcp PORT|PATH
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class TCPEcho(asyncio.Protocol):
    """Sends back whatever comes; it does not even speak WebSocket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve_tcp(address: str) -> None:
    loop = asyncio.get_running_loop()
    if address.isdigit():
        server = await loop.create_server(TCPEcho, "127.0.0.1", int(address), backlog=2048)
    else:
        server = await loop.create_unix_server(TCPEcho, address, backlog=2048)
    await server.serve_forever()


async def serve_picows(port: str) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    server = await ws_create_server(
        lambda request: Echo(),
        "127.0.0.1",
        int(port),
        backlog=2048,
        max_frame_size=16 * 1024 * 1024,
    )
    await server.serve_forever()


if __name__ == "__main__":
    kind, address = sys.argv[1:]
    uvloop.run({"picows": serve_picows, "tcp": serve_tcp}[kind](address))
