"""The types that ASGI is made of, once for all rooms and for applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
# An application. Some are written with the types of Starlette, some with those of asgiref or
# with dict, and all are served.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
# The argument ``app`` of a server: an application, a factory, or an import string.
Application = ASGIApp | Callable[[], ASGIApp] | str
