"""An application whose readiness follows the drain of its server, for test_drain_real."""

from __future__ import annotations

import asyncio
from typing import Any

from ..toolkit.apps import hello_and_wait, respond


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await hello_and_wait(scope, receive, send)
    elif scope["path"] == "/for-ever":
        print("app: hangs\n", end="", flush=True)
        await asyncio.sleep(3600)
    else:
        await respond(send, status=503 if scope["extensions"]["asgiws.drain"].final else 200)
