"""Clients that others wrote: messages, fragments, pings, compression, closing, a refusal."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ..toolkit.served import Served

pytestmark = pytest.mark.slow

APPLICATION = "starlette"
TIMEOUT = 20.0
TEXT = "héllo ❤"
LONG_TEXT = "x" * 300_000
BINARY = os.urandom(300_000)
NODE_WS = "ws@8.18.0"


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets(server: Served, compression: str | None) -> None:
    async def use() -> None:
        async with connect(
            f"{server.ws_url}/echo", subprotocols=["echo.v1"], compression=compression
        ) as socket:
            extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
            assert ("permessage-deflate" in extensions) == (compression is not None)
            assert socket.subprotocol == "echo.v1"
            for message in (TEXT, "", LONG_TEXT, BINARY, b""):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(["frag", "men", "ted"])
            assert await socket.recv() == "fragmented"
            await (await socket.ping("are you there?"))
            await socket.close(4321, "enough")
            assert socket.close_code == 4321
        async with connect(f"{server.ws_url}/close") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "done")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{server.ws_url}/deny"):
                pass
        assert refused.value.response.status_code == 403

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


@pytest.mark.parametrize("window_bits", [15, 9, 0])
def test_aiohttp(server: Served, window_bits: int) -> None:
    """`window_bits` are those that the client offers for its own side; 0 is no compression."""
    import aiohttp

    async def use() -> None:
        async with aiohttp.ClientSession(server.url) as session:
            async with session.ws_connect(
                "/echo", protocols=["echo.v2", "echo.v1"], compress=window_bits
            ) as socket:
                assert socket.protocol == "echo.v1"
                assert bool(socket.compress) == bool(window_bits)
                for text in (TEXT, "", LONG_TEXT):
                    await socket.send_str(text)
                    assert await socket.receive_str() == text
                for data in (BINARY, b""):
                    await socket.send_bytes(data)
                    assert await socket.receive_bytes() == data
                await socket.send_frame(b"are you there?", aiohttp.WSMsgType.PING)
                await socket.close(code=4321, message=b"enough")
                assert socket.close_code == 4321
            async with session.ws_connect("/close") as socket:
                message = await socket.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert (message.data, message.extra) == (4001, "done")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/deny")
            assert refused.value.status == 403

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


def test_aiohttp_has_its_pings_answered(server: Served) -> None:
    import aiohttp

    async def use() -> None:
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.ws_connect("/echo", autoping=False) as socket,
        ):
            await socket.ping(b"are you there?")
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.PONG
            assert message.data == b"are you there?"

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


def test_picows(server: Served) -> None:
    import picows

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.frames: asyncio.Queue[tuple[Any, bytes]] = asyncio.Queue()
            self.gone = asyncio.get_running_loop().create_future()

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            self.frames.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))
            if frame.msg_type == picows.WSMsgType.CLOSE:
                self.close = (frame.get_close_code(), frame.get_close_message())
                transport.send_close(frame.get_close_code())
                transport.disconnect()

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            self.gone.set_result(None)

    async def use() -> None:
        transport, listener = await picows.ws_connect(Listener, f"{server.ws_url}/echo")
        kinds = picows.WSMsgType
        for kind, payload in (
            (kinds.TEXT, TEXT.encode()),
            (kinds.TEXT, b""),
            (kinds.TEXT, LONG_TEXT.encode()),
            (kinds.BINARY, BINARY),
        ):
            transport.send(kind, payload)
            assert await listener.frames.get() == (kind, payload)
        transport.send(kinds.TEXT, b"frag", fin=False)
        transport.send(kinds.CONTINUATION, b"mented")
        assert await listener.frames.get() == (kinds.TEXT, b"fragmented")
        transport.send_ping(b"are you there?")
        assert await listener.frames.get() == (kinds.PONG, b"are you there?")
        transport.send_close(picows.WSCloseCode.OK)
        await listener.gone
        assert listener.close[0] == picows.WSCloseCode.OK

        _, listener = await picows.ws_connect(Listener, f"{server.ws_url}/close")
        await listener.gone
        assert listener.close == (4001, b"done")
        with pytest.raises(picows.WSError, match="403"):
            await picows.ws_connect(Listener, f"{server.ws_url}/deny")

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


def test_ws_of_node(server: Served, node: Callable[..., list[str]]) -> None:
    done = subprocess.run(
        [*node("node_client.js", NODE_WS), server.ws_url],
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
    )
    seen = json.loads(done.stdout)
    back = [True, True, True, True, "fragmented", "are you there?"]
    for name, extension in (("deflated", "permessage-deflate"), ("plain", "")):
        assert seen[name]["back"] == back, name
        assert seen[name]["code"] == 4321
        assert seen[name]["subprotocol"] == "echo.v1"
        assert seen[name]["extensions"].partition(";")[0] == extension
    assert seen["closed"] == [4001, "done"]
    assert seen["denied"] == 403
