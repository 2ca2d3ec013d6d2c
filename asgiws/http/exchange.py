"""One HTTP request and its response as the application sees them (ASGI "HTTP", 2.3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..errors import ASGIError
from ..log import error_log
from .forwarded import Address
from .request import Request
from .response import Response
from .serving import Event

if TYPE_CHECKING:
    from .connection import HTTPProtocol

BODY_MARK: Final = 65_536  # bytes of a body that wait for the application

# After so much without a wait, send lets the event loop come round.
BUDGET_EVENTS: Final = 64
BUDGET_BYTES: Final = 262_144


class Exchange:
    """The ASGI ``receive`` and ``send`` of one request.

    The connection feeds it (``feed``, ``leave``) and is told when the response is
    complete; from then on the exchange is the application's alone, which may go on
    working.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_budget",
        "_budget_bytes",
        "_connection",
        "_continues",
        "_gone",
        "_more_body",
        "_waiters",
        "client",
        "request",
        "response",
    )

    def __init__(
        self,
        connection: HTTPProtocol,
        request: Request,
        response: Response,
        client: Address | None,
    ) -> None:
        self._connection = connection
        self.client = client
        self.request = request
        self.response = response
        self._body: list[bytes] = []
        self._body_size = 0
        self._more_body = True  # the application has not been given all
        self._continues = request.continues
        self._gone = False
        self._waiters: list[asyncio.Future[None]] = []
        self._budget = BUDGET_EVENTS
        self._budget_bytes = BUDGET_BYTES

    # What the application calls.

    async def receive(self) -> Event:
        """The next event: http.request until the body is complete, then http.disconnect."""
        if self._continues:
            self._continues = False
            self._connection.write_continue()
        while not self._ready():
            waiter = self._connection.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        if self.response.complete or not (self._more_body and (self._body or self._received())):
            await asyncio.sleep(0)  # an application that does not take the hint starves nobody
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._body_size = 0
        self._more_body = not self._received()
        if self._more_body:
            self._connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    def _ready(self) -> bool:
        if self._gone or self.response.complete or self._body:
            return True
        return self._more_body and self._received()

    def _received(self) -> bool:
        return self.request.body is None or self.request.body.complete

    async def send(self, event: Event) -> None:
        """Send one event; waits while the client does not read.

        Once the client is gone nothing is sent, and nobody told (ASGI 2.3). Raises
        ASGIError for an event that is malformed or out of order.
        """
        response = self.response
        connection = self._connection
        try:
            kind = event["type"]
        except (TypeError, KeyError):
            raise ASGIError(f"expected an event, a dict with a type, got {event!r:.200}") from None
        if connection.lost:
            await asyncio.sleep(0)
            return
        if response.complete:
            raise ASGIError(f"expected nothing more, got {kind!r:.200}: the response is complete")
        if not response.status:
            if kind != "http.response.start":
                raise ASGIError(f"expected http.response.start, got {kind!r:.200}")
            response.start(event.get("status"), event.get("headers", ()))
            return
        if kind != "http.response.body":
            raise ASGIError(f"expected http.response.body, got {kind!r:.200}")
        data = event.get("body", b"")
        more = event.get("more_body", False)
        if response.begun:
            connection.write(response.body(data, more))
        else:
            connection.announce(self, not more)
            connection.write(response.body(data, more))
            self._continues = False
            connection.log_exchange(self, response.status)
        if not more:
            left = response.left
            self._wake()
            connection.response_done(self)
            if left:
                raise ASGIError(f"expected {left} more bytes of body, as content-length says")
        elif connection.write_paused:
            await connection.drained()
            self._budget = BUDGET_EVENTS
            self._budget_bytes = BUDGET_BYTES
        else:
            self._budget -= 1
            self._budget_bytes -= len(data)
            if self._budget <= 0 or self._budget_bytes <= 0:
                self._budget = BUDGET_EVENTS
                self._budget_bytes = BUDGET_BYTES
                await asyncio.sleep(0)

    def app_done(self, task: asyncio.Task[None]) -> None:
        """The application has returned, raised or been cancelled: answer for it."""
        failed = task.cancelled()
        exc = None if failed else task.exception()
        if exc is not None:
            failed = True
            error_log.error("Exception in ASGI application", exc_info=exc)
        if self.response.complete or self._connection.lost:
            return
        if not failed:
            error_log.error(
                "the application returned without %s",
                "the end of its response" if self.response.status else "a response",
            )
        self._connection.app_failed(self)

    # What the connection calls.

    def feed(self, data: bytes) -> bool:
        """A piece of the body has come, or its end; whether more is wanted for now."""
        if data:
            self._body.append(data)
            self._body_size += len(data)
        self._continues = False
        self._wake()
        return self._body_size <= BODY_MARK

    @property
    def waits_for_body(self) -> bool:
        """Whether the client holds its body back until it sees 100 Continue."""
        return self._continues

    def leave(self) -> None:
        """The client has left."""
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
