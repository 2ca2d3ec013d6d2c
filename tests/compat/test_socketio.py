"""python-socketio, client and server: over a WebSocket at once, or after long polling."""

from __future__ import annotations

import asyncio
import os

import pytest

from ..toolkit.served import Served

pytestmark = pytest.mark.slow

APPLICATION = "socketio"
TIMEOUT = 20.0


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]], ids="+".join)
def test_two_clients_meet_in_a_room(server: Served, transports: list[str]) -> None:
    import socketio

    async def use() -> None:
        async with (
            socketio.AsyncSimpleClient() as ada,
            socketio.AsyncSimpleClient() as grace,
        ):
            for client in (ada, grace):
                await client.connect(server.url, transports=transports)
                # With both transports the client upgrades before connect returns.
                answer = await client.call("join", "kitchen")
                assert answer == "joined kitchen by websocket"
            for said in ("héllo ❤", {"nested": [1, 2, None]}, b"\x00\xff", "x" * 100_000):
                await ada.emit("say", ("kitchen", said))
                assert await grace.receive() == ["said", said]
            data = os.urandom(200_000)
            assert await ada.call("reverse", data) == data[::-1]

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


def test_the_server_disconnects_a_client(server: Served) -> None:
    import socketio

    async def use() -> None:
        client = socketio.AsyncClient(reconnection=False)
        await client.connect(server.url, transports=["websocket"])
        await client.emit("go_away")
        await client.wait()
        assert not client.connected

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))
