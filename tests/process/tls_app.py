"""The application of test_tls, which servers in processes of their own import, too."""

from __future__ import annotations

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the scheme; echoes until it is told to end."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["scheme"]})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "end":
            await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
            await send({"type": "websocket.send", "text": "last"})
            return
        await send(event | {"type": "websocket.send"})
