"""One HTTP request and its response as the application sees them (ASGI "HTTP", 2.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ..asgi import Event
from ..errors import ASGIError, tells_of_disconnect
from ..log import error_log
from ..text import counted
from ..wire.grammar import lists
from .access import log_request
from .files import PIECE, File
from .forwarded import Address
from .request import Request
from .response import TRAILERS_DROPPED, TRAILERS_NONE, TRAILERS_SENT, Response
from .stream import Stream

BODY_MARK: Final = 65_536  # bytes of a body that wait for the application

# After so much without a wait, send lets the event loop come round.
BUDGET_EVENTS: Final = 64
BUDGET_BYTES: Final = 262_144


class Exchange:
    """The ASGI ``receive`` and ``send`` of one request.

    The stream feeds it (``feed``, ``leave``) and is told when the response is complete. From
    then on only the application uses the exchange, and it may go on working. ``task`` is the
    call of the application while it runs; ``told``: it has been given http.disconnect.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_budget",
        "_budget_bytes",
        "_continues",
        "_flush_soon",
        "_gone",
        "_more_body",
        "_stream",
        "_waiters",
        "client",
        "request",
        "response",
        "task",
        "told",
    )

    def __init__(
        self,
        stream: Stream,
        request: Request,
        response: Response,
        client: Address | None,
        flush_soon: Callable[[Exchange], object],
    ) -> None:
        """``flush_soon`` calls ``flush`` when the event loop has come round."""
        self._stream = stream
        self.client = client
        self.request = request
        self.response = response
        self._flush_soon = flush_soon
        self.task: asyncio.Task[None] | None = None
        self.told = False
        self._body: list[bytes] = []
        self._body_size = 0
        self._more_body = True  # the application has not been given all
        self._continues = request.continues
        self._gone = False
        self._waiters: list[asyncio.Future[None]] = []
        self._budget = BUDGET_EVENTS
        self._budget_bytes = BUDGET_BYTES

    # Called by the application.

    async def receive(self) -> Event:
        """Return the next event: http.request until the body is complete, then http.disconnect."""
        if self._continues:
            self._continues = False
            self._stream.body_wanted()
        while not self._ready():
            waiter = self._stream.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        if self.response.complete or not (self._more_body and (self._body or self._received())):
            if self.told:
                await asyncio.sleep(0)  # one that goes on receiving must not block the others
            # The first one comes without a wait, because frameworks ask within a cancelled scope.
            self.told = True
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._body_size = 0
        self._more_body = not self._received()
        if self._more_body:
            self._stream.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    def _ready(self) -> bool:
        if self._gone or self.response.complete or self._body:
            return True
        return self._more_body and self._received()

    def _received(self) -> bool:
        return self.request.body is None or self.request.body.complete

    async def send(self, event: Event) -> None:
        """Send one event; waits while the client does not read.

        Once the client is gone nothing is sent, and no error is raised (ASGI 2.3). Raises
        ASGIError for an event that is malformed or out of order.
        """
        response = self.response
        stream = self._stream
        try:
            kind = event["type"]
        except (TypeError, KeyError):
            raise ASGIError(f"expected an event, a dict with a type, got {event!r:.200}") from None
        if stream.lost():
            await asyncio.sleep(0)
            return
        if response.complete:
            raise ASGIError(f"expected nothing more, got {kind!r:.200}: the response is complete")
        if not response.status:
            if kind == "http.response.early_hint":
                hint = response.early_hint(event.get("links", ()))
                if hint:
                    stream.write([hint])
                return
            if kind != "http.response.start":
                raise ASGIError(f"expected http.response.start, got {kind!r:.200}")
            trailers = self._trailers() if event.get("trailers", False) else TRAILERS_NONE
            response.start(event.get("status"), event.get("headers", ()), trailers)
            if response.is_event_stream:
                self._write_head()
            else:
                self._flush_soon(self)
            return
        if response.body_complete:
            if kind != "http.response.trailers":
                raise ASGIError(f"expected http.response.trailers, got {kind!r:.200}")
            self._trail(event.get("headers", ()), event.get("more_trailers", False))
            return
        if kind != "http.response.body":
            if kind != "http.response.pathsend" or response.body_begun:
                raise ASGIError(f"expected http.response.body, got {kind!r:.200}")
            await self._send_file(event.get("path"))
            return
        fields: dict[str, Any] = event if type(event) is dict else dict(event)  # C knows a dict
        data = fields.get("body", b"")
        more = bool(fields.get("more_body", False))
        begun = response.begun
        if not begun:
            stream.announce(not more)
        stream.write(response.body(data, more), more)
        left = response.left
        if response.complete:
            self._wake()
            stream.response_done()
        # All is settled when the log is called, so the connection goes on whatever the log does.
        if not begun:
            log_request(self.client, self.request, response.status)
        if not more:
            if left:
                missing = counted(left, "more byte")
                raise ASGIError(f"expected {missing} of body, as content-length says")
        elif stream.write_paused:
            await stream.drained()
            self._budget = BUDGET_EVENTS
            self._budget_bytes = BUDGET_BYTES
        else:
            self._budget -= 1
            self._budget_bytes -= len(data)
            if self._budget <= 0 or self._budget_bytes <= 0:
                self._budget = BUDGET_EVENTS
                self._budget_bytes = BUDGET_BYTES
                await asyncio.sleep(0)

    async def _send_file(self, path: Any) -> None:
        """Send a file as the body (http.response.pathsend); raises OSError where it cannot be read.

        Nothing is sent before its first byte is read, so the answer may still be another one.
        """
        if not isinstance(path, str):
            raise ASGIError(f"expected path to be a str, got {path!r:.200}")
        file = File(path)
        try:
            left = self.response.declare(file.size)
            while True:
                data = await file.read(min(left, PIECE)) if left else b""
                left = left - len(data) if data else 0
                more = left > 0
                await self.send({"type": "http.response.body", "body": data, "more_body": more})
                if not more or self._stream.lost():
                    return
        finally:
            file.close()

    def _trailers(self) -> int:
        """True if trailers are sent: only to a client that asks for them (RFC 9110, 6.5.1)."""
        for name, value in self.request.headers:
            if name == b"te" and lists(value, b"trailers"):
                return TRAILERS_SENT
        return TRAILERS_DROPPED

    def _trail(self, headers: Any, more: Any) -> None:
        """Send trailers, which end the response."""
        parts = self.response.trail(headers, more)
        if parts:
            self._stream.write(parts)
        if self.response.complete:
            self._wake()
            self._stream.response_done()

    def _write_head(self) -> None:
        """Let the head leave without a piece of the body."""
        self._stream.announce(False)
        self._stream.write(self.response.head())
        log_request(self.client, self.request, self.response.status)

    def app_done(self, task: asyncio.Task[None]) -> None:
        """The application has returned, raised or been cancelled: answer for it."""
        self.task = None
        response = self.response
        cancelled = task.cancelled()  # by the server: others are an exception
        exc = None if cancelled else task.exception()
        answered = response.complete or self._stream.lost()
        begun = response.begun
        told = self.told
        if exc is not None and (told or answered or self._gone) and tells_of_disconnect(exc):
            exc = None
            told = True
        ends_as_told = told and exc is None  # the client has left, or is to, and it has done so
        # First the log, then the answer: a client that has it finds the reason there.
        if exc is not None:
            error_log.error("Exception in ASGI application", exc_info=exc)
        elif not (answered or ends_as_told or cancelled):
            error_log.error(
                "the application returned without %s",
                "the end of its response" if response.status else "a response",
            )
        if not answered:
            if begun or not ends_as_told:
                self._stream.app_failed()
            else:
                self._stream.close()
        if not (answered or ends_as_told or begun):
            log_request(self.client, self.request, 500)

    # Called by the stream.

    def feed(self, data: bytes) -> bool:
        """A piece of the body has come, or its end; return whether more is wanted for now."""
        if data:
            self._body.append(data)
            self._body_size += len(data)
        self._continues = False
        self._wake()
        return self._body_size <= BODY_MARK

    @property
    def waits_for_body(self) -> bool:
        """True if the client holds its body back until it sees 100 Continue."""
        return self._continues

    def flush(self) -> None:
        """The body did not follow the head: let the head leave alone, if it can be sent yet.

        It does not leave if the application has ended meanwhile: then the answer is another one.
        """
        if not self.response.begun and not self._stream.lost():
            task: Any = self.task
            if task is not None and not task.done():
                self._write_head()

    def end(self) -> list[bytes]:
        """The server stops: end a response without a length, and return its last bytes."""
        last = self.response.finish()
        self.leave()
        return last

    def leave(self) -> None:
        """The client has left, or must be treated so."""
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
