"""Another ASGI server: messages go through its ``send``, one after the other.

They stay in this process; if the server has several processes, a warning says so.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from ..asgi import Send
from ..log import error_log
from ..wire.errors import SERVICE_RESTART, TRY_AGAIN_LATER
from .listener import Listener
from .members import LOST
from .message import BYTES, Message, Publication, notice


async def tell(topic: str, send: Send, **values: Any) -> None:
    """Send a notice (``message.notice``) and return when the server has taken it."""
    try:
        await send(_told(topic, **values))
    except Exception as exc:
        _log_gone(exc)


async def pump(listener: Listener, topic: str, send: Send, envelope: bool) -> None:
    """Send what ``listener`` gets, until it ends; then the socket is closed (1013, or 1012 if
    messages were lost).
    """
    try:
        while (message := await listener.take_next()) is not None:
            if message.gap and envelope:
                await send(_told(topic, gap=message.gap))
            await send(_event(message, envelope))
        code, reason = (TRY_AGAIN_LATER, "too slow")
        if listener.has_lost:
            code, reason = (SERVICE_RESTART, LOST)
        await send({"type": "websocket.close", "code": code, "reason": reason})
    except Exception as exc:
        _log_gone(exc)


def _log_gone(exc: Exception) -> None:
    # Each server raises an error of its own if the client is gone; the application gets it, too.
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


def warn_of_workers() -> None:
    """Warn if the server that runs here has several processes: topics do not reach the others."""
    server = _server_with_workers(sys._current_frames().get(threading.main_thread().ident or 0))
    if server is not None:
        error_log.warning(
            "asgiws.topics: %s runs several workers, and a topic reaches only one of them; "
            "`asgiws --workers` connects them",
            server,
        )


def _server_with_workers(frame: FrameType | None) -> str | None:
    """The server that has called what runs in ``frame``, if it has several processes.

    Environment and command line also tell of processes that serve nothing (a test, a shell).
    """
    while frame is not None:
        module = frame.f_globals.get("__name__")
        # This one is uvicorn's for several workers only: --reload has another one.
        if module == "uvicorn.supervisors.multiprocess":
            return "uvicorn"
        if module == "gunicorn.arbiter":
            arbiter = frame.f_locals.get("self")
            return "gunicorn" if getattr(arbiter, "num_workers", 1) > 1 else None
        if module in ("hypercorn.asyncio.run", "hypercorn.run"):
            config = frame.f_locals.get("config")
            if getattr(config, "workers", 1) > 1:
                return "hypercorn"
        # Each of granian's knows its own number only.
        if module == "granian.server.mp" and frame.f_locals.get("worker_id", 1) > 1:
            return "granian"
        frame = frame.f_back
    return None
