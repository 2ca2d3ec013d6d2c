"""WebSockets of another server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgiws.fanout.foreign import pump, tell
from asgiws.fanout.listener import Listener
from asgiws.fanout.message import BYTES, JSON, TEXT, Publication


async def _told_and_pumped(listener: Listener, send: Any) -> None:
    await tell("a", send, subscribed=True)
    await pump(listener, "a", send, True)


async def test_messages_gaps_and_the_end_are_sent() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    listener = Listener("close", 1_000)
    listener.miss(2)
    for kind, payload in ((TEXT, b"x"), (BYTES, b"y"), (JSON, b"[1]"), (TEXT, b"too much")):
        message = Publication("a", kind, payload)
        listener.take(message, message.plain())
    await asyncio.wait_for(_told_and_pumped(listener, send), 5)
    assert json.loads(sent[0]["text"]) == {"topic": "a", "subscribed": True}
    assert json.loads(sent[1]["text"]) == {"topic": "a", "gap": 2}
    assert [json.loads(event["text"]) for event in sent[2:5]] == [
        {"topic": "a", "position": None, "data": "x"},
        {"topic": "a", "position": None, "base64": "eQ=="},
        {"topic": "a", "position": None, "data": [1]},
    ]
    assert sent[5] == {"type": "websocket.close", "code": 1013, "reason": "too slow"}


async def test_a_socket_that_cannot_be_written_to_ends_quietly() -> None:
    async def send(event: Any) -> None:
        raise RuntimeError("it is closed")

    listener = Listener("close", 1_000)
    message = Publication("a", TEXT, b"x")
    listener.take(message, message.plain())
    await tell("a", send, subscribed=True)
    await asyncio.wait_for(pump(listener, "a", send, False), 5)
