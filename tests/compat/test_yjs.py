"""Documents shared by Yjs (y-websocket on Node.js) and pycrdt, through pycrdt-websocket."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .conftest import InUse

pytestmark = pytest.mark.slow

PACKAGES = ("ws@8.18.0", "y-websocket@3.0.0", "yjs@13.6.27")
TIMEOUT = 30.0


class Channel:
    """A connection of websockets with the methods that pycrdt's provider calls."""

    def __init__(self, socket: ClientConnection, path: str) -> None:
        self.path = path
        self._socket = socket

    async def send(self, message: bytes) -> None:
        await self._socket.send(message)

    async def recv(self) -> bytes:
        message = await self._socket.recv()
        assert isinstance(message, bytes)
        return message

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None


def test_yjs_and_pycrdt_edit_one_document_and_the_server_ends_meanwhile(
    node: Callable[..., list[str]],
) -> None:
    from pycrdt import Doc, Provider, Text

    command = node("yjs_client.mjs", *PACKAGES)

    async def use(server: InUse) -> None:
        editors = await asyncio.create_subprocess_exec(
            *command, server.ws_url, "room", stdout=subprocess.PIPE
        )

        async def next_step() -> dict[str, Any]:
            assert editors.stdout is not None
            return json.loads(await editors.stdout.readline())

        try:
            assert await next_step() == {
                "step": "edited",
                "text": "Dear Ada & ❤",
                "large": 300_000,
            }
            alone = await next_step()
            assert alone["step"] == "alone"
            assert sorted(alone["text"]) == sorted("a" * 50 + "g" * 50 + "Dear Ada & ❤")

            doc: Doc[Any] = Doc()
            async with (
                connect(f"{server.ws_url}/room") as socket,
                Provider(doc, Channel(socket, "room")) as provider,
            ):
                await provider.synced.wait()
                text = doc.get("text", type=Text)
                assert str(text) == alone["text"]
                text += " from pycrdt"
                assert await next_step() == {
                    "step": "joined",
                    "text": alone["text"] + " from pycrdt",
                }
                await asyncio.to_thread(server.end)
                await socket.wait_closed()
                assert socket.close_code == 1012
            assert await next_step() == {"step": "closed", "code": 1012}
            assert await editors.wait() == 0
        finally:
            if editors.returncode is None:
                editors.kill()
                await editors.wait()

    with InUse("yjs") as server:
        asyncio.run(asyncio.wait_for(use(server), TIMEOUT))
