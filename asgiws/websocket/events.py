"""Checks of the events that an application sends. Their errors say what was expected."""

from __future__ import annotations

from ..asgi import Event
from ..errors import ASGIError
from ..log import error_log
from ..wire.errors import NORMAL_CLOSURE, may_be_sent
from ..wire.frames import MAX_REASON_BYTES


def expected(what: str, event: Event) -> ASGIError:
    """The error for an ``event`` that is not what ``what`` says."""
    return ASGIError(f"{event['type']}: expected {what}, got {event!r:.200}")


def unencodable(event: Event) -> ASGIError:
    """The error for text with lone surrogates."""
    return expected("text that can be encoded in UTF-8 (no lone surrogates)", event)


def close_arguments(event: Event) -> tuple[int, str]:
    """The code and the reason of a websocket.close event; a reason too long is cut."""
    code = event.get("code", NORMAL_CLOSURE)
    reason = event.get("reason") or ""
    if code is None:
        code = NORMAL_CLOSURE
    if isinstance(code, bool) or not isinstance(code, int) or not may_be_sent(code):
        raise expected("a code that may be sent (1000 to 1003, 1007 to 1014, 3000 to 4999)", event)
    if not isinstance(reason, str):
        raise expected("reason to be a str", event)
    try:
        encoded = reason.encode()
    except UnicodeEncodeError:
        raise unencodable(event) from None
    if len(encoded) > MAX_REASON_BYTES:
        error_log.warning("websocket.close: the reason was cut at %d bytes", MAX_REASON_BYTES)
        reason = encoded[:MAX_REASON_BYTES].decode(errors="ignore")
    return int(code), str.__str__(reason)  # of a subclass, such as an enumeration's member
