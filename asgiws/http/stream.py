"""The interface between one request and its connection.

An ``Exchange`` and an ``Opening`` speak to a ``Stream``, and know nothing else of the connection.
The only one is ``HTTPProtocol``, which carries one request at a time. A stream of HTTP/2 could
stand in its place.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Stream(Protocol):
    """The interface that an exchange or an opening uses of its connection."""

    loop: asyncio.AbstractEventLoop
    #: so much is written that has not left that ``send`` is to wait, in ``drained``
    write_paused: bool

    @property
    def lost(self) -> bool:
        """True if nothing can be written any more."""

    def write(self, parts: list[bytes]) -> None:
        """Write pieces together; never raises, even if the client is gone."""

    async def drained(self) -> None:
        """Wait until more is taken, or the client is gone."""

    def close(self) -> None:
        """End it without losing the last bytes that were written; nothing more is read."""

    # A request.

    def body_wanted(self) -> None:
        """Ask the client for the body that it holds back (RFC 9110 section 10.1.1)."""

    def resume_reading(self) -> None:
        """Read more of the body."""

    def announce(self, final: bool) -> None:
        """The head of the response is about to leave; ``final``: the whole body with it."""

    def response_done(self) -> None:
        """The response is complete: on to the next request, or close."""

    def app_failed(self) -> None:
        """The application has ended without a complete response: 500, or a visible cut."""

    # An opening handshake.

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer it with an error, and close."""

    def hand_over(self, head: bytes, successor: Any) -> None:
        """Write the 101, and give the transport to ``successor``, for good.

        It gets ``opened(transport, write_paused, trailing)``, where ``trailing`` came
        behind the request; from then on it is the protocol of the transport.
        """
