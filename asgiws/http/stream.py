"""The interface between one request and its connection.

An ``Exchange`` and an ``Opening`` speak to a ``Stream``, and know nothing else of the connection.
The only one is ``HTTPProtocol``, which carries one request at a time. A stream of HTTP/2 could
stand in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

Parts = list[bytes]


class Stream:
    """The interface that an exchange or an opening uses of its connection.

    It is a class, which compiled code calls without a look-up by name. ``write_paused`` is true
    while so much waits to be sent that ``send`` must wait, in ``drained``.
    """

    __slots__ = ("loop", "write_paused")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.write_paused = False

    def lost(self) -> bool:
        """True if nothing can be written any more."""
        raise NotImplementedError

    def write(self, parts: Parts, more: cython.bint = False) -> None:
        """Write pieces together; never raises, even if the client is gone.

        ``more``: others will follow. The first of an iteration of the event loop leaves at once,
        and the others leave together.
        """
        raise NotImplementedError

    def drained(self) -> Coroutine[Any, Any, None]:
        """Wait until more is taken, or the client is gone."""
        raise NotImplementedError

    def close(self) -> None:
        """End it without losing the last bytes that were written; nothing more is read."""
        raise NotImplementedError

    # A request.

    def body_wanted(self) -> None:
        """Ask the client for the body that it holds back (RFC 9110 section 10.1.1)."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read more of the body."""
        raise NotImplementedError

    def announce(self, final: cython.bint) -> None:
        """The head of the response is about to leave; ``final``: the whole body with it."""
        raise NotImplementedError

    def response_done(self) -> None:
        """The response is complete: on to the next request, or close."""
        raise NotImplementedError

    def app_failed(self) -> None:
        """The application has ended without a complete response: 500, or a visible cut."""
        raise NotImplementedError

    # An opening handshake.

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer it with an error, and close."""
        raise NotImplementedError

    def hand_over(self, head: bytes, successor: Any) -> None:
        """Write the 101, and give the transport to ``successor``, for good.

        It gets ``opened(transport, write_paused, trailing, fd)``, where ``trailing`` came
        behind the request, and ``fd`` is the transport's descriptor; from then on it is the
        protocol of the transport.
        """
        raise NotImplementedError
