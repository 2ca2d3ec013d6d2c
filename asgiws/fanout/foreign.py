"""WebSockets of another ASGI server: messages go through its ``send``, one after the other."""

from __future__ import annotations

from typing import Any

from ..asgi import Send
from ..log import error_log
from ..wire.errors import TRY_AGAIN_LATER
from .listener import Listener
from .message import BYTES, Message, Publication, notice


async def pump(listener: Listener, topic: str, send: Send, envelope: bool) -> None:
    """Send what ``listener`` gets, until it ends; then the socket is closed (1013)."""
    try:
        while (message := await listener.take_next()) is not None:
            if message.gap and envelope:
                await send(told(topic, gap=message.gap))
            await send(_event(message, envelope))
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "too slow"})
    except Exception as exc:
        # The client is gone, which every server tells in its own way, and the application hears.
        error_log.debug("A subscribed WebSocket cannot be written to: %r", exc)


def told(topic: str, **values: Any) -> dict[str, Any]:
    """The event of a notice (``message.notice``)."""
    return {"type": "websocket.send", "text": notice(topic, **values).payload.decode()}


def _event(message: Message, envelope: bool) -> dict[str, Any]:
    publication: Publication = message.publication
    if envelope:
        return {"type": "websocket.send", "text": publication.enveloped().payload.decode()}
    if publication.kind == BYTES:
        return {"type": "websocket.send", "bytes": publication.payload}
    return {"type": "websocket.send", "text": publication.payload.decode()}
