"""WebSockets of another ASGI server: messages go through its ``send``, one after the other."""

from __future__ import annotations

from typing import Any

from ..asgi import Send
from ..log import error_log
from ..wire.errors import TRY_AGAIN_LATER
from .listener import Listener
from .message import BYTES, Message, Publication, notice


async def tell(topic: str, send: Send, **values: Any) -> None:
    """Send a notice (``message.notice``) and return when the server has taken it."""
    try:
        await send(_told(topic, **values))
    except Exception as exc:
        _log_gone(exc)


async def pump(listener: Listener, topic: str, send: Send, envelope: bool) -> None:
    """Send what ``listener`` gets, until it ends; then the socket is closed (1013)."""
    try:
        while (message := await listener.take_next()) is not None:
            if message.gap and envelope:
                await send(_told(topic, gap=message.gap))
            await send(_event(message, envelope))
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "too slow"})
    except Exception as exc:
        _log_gone(exc)


def _log_gone(exc: Exception) -> None:
    # Every server tells in its own way that the client is gone, and the application hears it.
    error_log.debug("A subscribed WebSocket cannot be written to: %r", exc)


def _told(topic: str, **values: Any) -> dict[str, Any]:
    """The event of a notice (``message.notice``)."""
    return {"type": "websocket.send", "text": notice(topic, **values).payload.decode()}


def _event(message: Message, envelope: bool) -> dict[str, Any]:
    publication: Publication = message.publication
    if envelope:
        return {"type": "websocket.send", "text": publication.enveloped().payload.decode()}
    if publication.kind == BYTES:
        return {"type": "websocket.send", "bytes": publication.payload}
    return {"type": "websocket.send", "text": publication.payload.decode()}
