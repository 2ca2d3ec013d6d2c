"""The types that ASGI is made of, once for all rooms and for applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
"""The first argument of an application: one connection or request, or the lifespan."""
Event: TypeAlias = MutableMapping[str, Any]
"""A dict with ``type``, as ``receive`` returns it and ``send`` takes it."""
Receive: TypeAlias = Callable[[], Awaitable[Event]]
"""The second argument of an application: waits for the next event."""
Send: TypeAlias = Callable[[Event], Awaitable[None]]
"""The third argument of an application; raises ClientDisconnected and ASGIError."""
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""An application: it may be written with the types of Starlette, of asgiref or with ``dict``."""
Application: TypeAlias = ASGIApp | Callable[[], ASGIApp] | str
"""The argument ``app`` of a server: an application, a factory that makes one, or an import string.
"""
