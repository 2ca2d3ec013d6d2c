"""WebSockets of another server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgiws.fanout.foreign import pump, told
from asgiws.fanout.listener import Listener
from asgiws.fanout.message import BYTES, JSON, TEXT, Publication


async def test_messages_gaps_and_the_end_are_sent() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    listener = Listener("close", 1_000)
    listener.miss(2)
    for kind, payload in ((TEXT, b"x"), (BYTES, b"y"), (JSON, b"[1]"), (TEXT, b"too much")):
        message = Publication("a", kind, payload)
        listener.take(message, message.plain())
    await asyncio.wait_for(pump(listener, "a", send, True), 5)
    assert json.loads(sent[0]["text"]) == {"topic": "a", "gap": 2}
    assert [json.loads(event["text"]) for event in sent[1:4]] == [
        {"topic": "a", "position": None, "data": "x"},
        {"topic": "a", "position": None, "base64": "eQ=="},
        {"topic": "a", "position": None, "data": [1]},
    ]
    assert sent[4] == {"type": "websocket.close", "code": 1013, "reason": "too slow"}


async def test_a_socket_that_cannot_be_written_to_ends_quietly() -> None:
    async def send(event: Any) -> None:
        raise RuntimeError("it is closed")

    listener = Listener("close", 1_000)
    message = Publication("a", TEXT, b"x")
    listener.take(message, message.plain())
    await asyncio.wait_for(pump(listener, "a", send, False), 5)


def test_a_notice_is_a_text_message() -> None:
    assert told("a", gap=1) == {"type": "websocket.send", "text": '{"topic":"a","gap":1}'}
