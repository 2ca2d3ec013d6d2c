"""An application whose every WebSocket subscribes to the topic that its path names.

The query string has arguments of ``subscribe``; a text message of the client is published, or
comes back if it begins with "own ".
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs

from asgiws import topics

topics.keep("kept:", messages=50, seconds=60.0)
topics.keep("latest:", messages=1, seconds=60.0)


def arguments(scope: Any) -> dict[str, Any]:
    given = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    return {
        name: value if name in ("since", "policy", "key", "on_gap") else json.loads(value)
        for name, value in given.items()
    }


async def app(scope: Any, receive: Any, send: Any, topics: Any = topics) -> None:
    topic = scope["path"].lstrip("/")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        async with topics.subscribe(scope, topic, send=send, **arguments(scope)):
            await send({"type": "websocket.send", "text": f"pid {os.getpid()}"})
            while (event := await receive())["type"] == "websocket.receive":
                if event["text"].startswith("own "):
                    await send({"type": "websocket.send", "text": event["text"]})
                else:
                    await topics.publish(topic, text=event["text"], exclude=scope)
    elif scope["type"] == "http":
        if scope["method"] == "POST":
            body = b""
            more = True
            while more:
                event = await receive()
                body += event["body"]
                more = event["more_body"]
            answer: Any = await topics.publish(topic, text=body.decode())
        elif topic == "stats":
            answer = topics.stats()._asdict() | {"pid": os.getpid()}
        else:
            answer = (await topics.count(topic))._asdict() | {"pid": os.getpid()}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
    else:
        raise NotImplementedError(scope["type"])
