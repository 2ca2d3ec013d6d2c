"""One HTTP/1.1 connection: requests in, one after the other, until it closes or is upgraded.

The event loop -> ``data_received`` -> a request's head (``request``) -> a call of
the application with an ``Exchange``, or with a WebSocket and its ``Opening``. The
next request is begun when the response is complete and the transport has taken it,
not when the application returns.

Closing: a socket that is closed with unread input is reset, and the reset eats the
response. So after a response that ends the connection comes a FIN, and what still
arrives is dropped until the client's own FIN or a deadline ("lingering").

A client that sends FIN may have left, or only have finished speaking: TCP does not
tell. It still gets its response. If nothing was written for EOF_GRACE since (what is
written to a client that has left brings a reset), the application is told that it left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from contextvars import copy_context
from typing import Any, Final

from ..errors import RequestRefused
from ..log import access_log
from ..text import quoted
from ..transport.progress import waiting
from ..websocket.session import Session
from ..wire import deflate, handshake
from ..wire.errors import HandshakeRefused
from .bodies import SizedBody
from .exchange import Exchange
from .forwarded import Address
from .heads import head_size
from .opening import Opening
from .request import Request, parse
from .response import Response, error_response
from .scope import http_scope, peer_of, shown, websocket_scope
from .serving import Worker

# What the next bytes are.
HEAD: Final = 0  # the head of a request; nothing is in progress
BODY: Final = 1  # its body
RESPONSE: Final = 2  # the next request; they wait for the response to be complete
OPENING: Final = 3  # frames; they wait for the handshake to be decided
CLOSING: Final = 4  # nobody's: they are dropped

BACKLOG: Final = 65_536  # bytes that may wait before reading is paused
DRAIN: Final = 65_536  # bytes of a body nobody wants that are read for the connection's sake
LINGER_SECONDS: Final = 2.0
EOF_GRACE: Final = 0.5
NEVER: Final = float("inf")
CLIENT_CLOSED_REQUEST: Final = 499  # in the log only, as nginx has it

_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # SO_LINGER: close with RST


class HTTPProtocol:
    """The asyncio protocol of one connection."""

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_context",
        "_deadline",
        "_drain_waiters",
        "_drained",
        "_eof",
        "_exchange",
        "_peer",
        "_reading",
        "_searched",
        "_state",
        "_taken_at",
        "_timer",
        "_timer_at",
        "_transport",
        "_unwritten",
        "_websocket",
        "_wrote",
        "loop",
        "worker",
        "write_paused",
    )

    def __init__(self, worker: Worker, peername: Any, sockname: Any) -> None:
        """The addresses of the peer and of our own end, as the socket module has them."""
        self.worker = worker
        self.loop = worker.loop
        self._transport: Any = None
        self._peer = peer_of(peername, sockname, False, worker.proxies)
        self._state = HEAD
        self._exchange: Exchange | None = None
        self._websocket: Session | None = None
        # In.
        self._buffer = bytearray()
        self._searched = 0  # no head ends in so many first bytes of the buffer
        self._drained = 0
        self._reading = True
        self._eof = False
        # Out.
        self.write_paused = False
        self._wrote = False  # since the last look
        self._unwritten = 0  # at the last look
        self._taken_at = 0.0  # when that was last seen to change
        self._drain_waiters: list[asyncio.Future[None]] = []
        # One timer for all deadlines; one that was moved back finds out when it fires.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._deadline = NEVER

    # What the transport calls (asyncio.Protocol).

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if transport.get_extra_info("sslcontext") is not None:
            self._peer = self._peer._replace(secure=True)
        self._context = copy_context()
        self.worker.connections.add(self)
        self._arm(self.worker.config.timeout_request_head)

    def data_received(self, data: bytes) -> None:
        if self._state == CLOSING:
            return
        self._buffer += data
        if self._state == HEAD:
            self._read_head()
        elif self._state == BODY:
            self._read_body()
        elif len(self._buffer) > BACKLOG:
            self.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        if self._state == RESPONSE and not self._peer.secure:
            self._await_response()
            return True
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self._exchange
        if self._state != CLOSING and exchange is not None and not exchange.response.begun:
            self.log_exchange(exchange, CLIENT_CLOSED_REQUEST)
        self._leave()
        self._state = CLOSING
        self._end()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._state == CLOSING:
            return
        self._deadline = NEVER
        exchange = self._exchange
        if self._state == RESPONSE:
            if exchange is None:
                self._next()
            else:
                self._await_response()
        elif exchange is not None and exchange.response.complete:
            self._arm(self.worker.config.timeout_keep_alive)

    # What the server calls.

    def shutdown(self) -> None:
        """The server stops: end when nothing is in progress."""
        if self._websocket is not None:
            self._websocket.shutdown()
        elif self._exchange is None or self._exchange.response.complete:
            self.close()
        else:
            self._exchange.response.keep_alive = False

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    # Requests.

    def _read_head(self) -> None:
        buffer = self._buffer
        limit = self.worker.config.h11_max_incomplete_event_size
        try:
            size = head_size(buffer, self._searched, limit)
            request = parse(bytes(memoryview(buffer)[:size])) if size else None
        except RequestRefused as exc:
            self._refuse_head(exc.status, exc.reason)
            return
        if request is not None:
            del buffer[:size]
            self._searched = 0
            self._deadline = NEVER
            self._begin(request)
        elif self._eof:
            self.close()
        elif buffer:
            if not self._searched:
                self._arm(self.worker.config.timeout_request_head)
            self._searched = max(1, len(buffer) - 3)

    def _begin(self, request: Request) -> None:
        worker = self.worker
        if worker.draining or worker.full():
            self._log_request(self._peer.client, request, 503)
            self._respond(request.method, 503)
        elif request.upgrade and handshake.requested(
            request.method, request.http_version.encode(), request.headers
        ):
            self._open(request)
        else:
            scope = http_scope(request, self._peer, worker.config.root_path, worker.state)
            response = Response(
                request.method, request.http_version, request.keep_alive, worker.default_headers
            )
            exchange = Exchange(self, request, response, scope["client"])
            self._exchange = exchange
            worker.start(
                scope, exchange.receive, exchange.send, self._context.copy(), exchange.app_done
            )
            if request.body is None:
                self._await_response()
            else:
                self._state = BODY
                if self._buffer or self._eof:
                    self._read_body()

    def _open(self, request: Request) -> None:
        """Give a request to open a WebSocket to the application (RFC 6455 section 4.2)."""
        worker = self.worker
        pulse = worker.websockets
        try:
            checked = handshake.check(request.headers)
            answer = checked.offers and deflate.negotiate(checked.offers, pulse.limits.deflate)
        except HandshakeRefused as exc:
            self._log_request(self._peer.client, request, exc.status)
            self._respond(request.method, exc.status, exc.reason, list(exc.headers))
            return
        agreed, extensions = answer or (None, None)
        scope = websocket_scope(
            request, self._peer, worker.config.root_path, worker.state, checked.subprotocols
        )
        if not worker.origins.allow(request.headers, scope["scheme"] == "wss"):
            self._log_request(scope["client"], request, 403)
            self._respond(request.method, 403, "pages of this Origin may not open WebSockets here")
            return
        opening = Opening(self, request, checked, extensions, scope["client"])
        self._websocket = websocket = Session(pulse, opening, agreed)
        self._state = OPENING
        worker.start(
            scope, websocket.receive, websocket.send, self._context.copy(), websocket.app_done
        )

    def _read_body(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        body = exchange.request.body
        assert body is not None
        try:
            data = body.read(self._buffer)
        except RequestRefused as exc:
            if exchange.response.begun:
                self.close()
            else:
                self.log_exchange(exchange, exc.status)
                self._respond(exchange.request.method, exc.status, exc.reason)
            return
        if exchange.response.complete:
            self._drained += len(data)
            if body.complete:
                self._next()
            elif self._drained > DRAIN:
                self.close()
        elif body.complete:
            exchange.feed(data)
            self._await_response()
        elif self._eof:
            self.close()
        elif data and not exchange.feed(data):
            self.pause_reading()

    def _await_response(self) -> None:
        """A request has arrived whole; what comes now has to wait."""
        self._state = RESPONSE
        if self._eof:
            self._wrote = False
            self._arm(EOF_GRACE)

    def _next(self) -> None:
        """The last response is complete and the connection persists: on to the next request."""
        self._exchange = None
        if self.write_paused:
            # Whoever sends requests must also take the responses.
            self._state = RESPONSE
            return
        self._state = HEAD
        self._arm(self.worker.config.timeout_keep_alive)
        self.resume_reading()
        if self._buffer or self._eof:
            self._read_head()

    # What an exchange or an opening calls.

    @property
    def lost(self) -> bool:
        """Whether nothing can be written any more."""
        return self._state == CLOSING

    def pause_reading(self) -> None:
        if self._reading and not self._eof:
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self._eof:
            self._reading = True
            self._transport.resume_reading()

    def write(self, parts: list[bytes]) -> None:
        """Write pieces together; large ones are not copied once more for it."""
        self._wrote = True
        if len(parts) == 1:
            self._transport.write(parts[0])
        elif sum(map(len, parts)) <= BACKLOG:
            self._transport.write(b"".join(parts))
        else:
            for part in parts:
                self._transport.write(part)

    async def drained(self) -> None:
        """Wait until the transport takes more, or the client is gone."""
        while self.write_paused:
            waiter = self.loop.create_future()
            self._drain_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._drain_waiters.remove(waiter)

    def write_continue(self) -> None:
        """Ask for the body that the client holds back (RFC 9110 section 10.1.1)."""
        if self._state == BODY:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def announce(self, exchange: Exchange, final: bool) -> None:
        """The head of a response is about to leave: settle whether the connection persists."""
        body = exchange.request.body
        response = exchange.response
        if self.worker.draining or exchange.waits_for_body:
            # A client that saw no 100 Continue may send its body or not.
            response.keep_alive = False
        elif final and isinstance(body, SizedBody) and body.left > DRAIN:
            response.keep_alive = False

    def response_done(self, exchange: Exchange) -> None:
        """A response is complete: on to the next request, or close."""
        body = exchange.request.body
        if exchange.response.left or not exchange.response.keep_alive:
            self.close()
        elif body is None or body.complete:
            self._next()
        elif isinstance(body, SizedBody) and body.left > DRAIN:
            self.close()
        else:
            self._drained = 0
            self._arm(self.worker.config.timeout_keep_alive)
            self.resume_reading()

    def app_failed(self, exchange: Exchange) -> None:
        """The application has ended without a complete response: 500, or a visible cut."""
        if not exchange.response.begun:
            self.log_exchange(exchange, 500)
            self._respond(exchange.request.method, 500)
        elif exchange.response.cut_is_visible:
            self.close()
        else:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer an opening handshake with an error, and close."""
        self._respond(b"GET", status, reason)

    def detach(self) -> tuple[Any, bytes]:
        """Hand over the transport, and what came behind the request; this is the end here."""
        trailing = bytes(self._buffer)
        self._state = CLOSING
        self._end()
        return self._transport, trailing

    # Closing.

    def close(self) -> None:
        """Close without losing what was written last; nothing more is parsed."""
        if self._state == CLOSING:
            return
        # A client that has nothing more to say needs no lingering.
        exchange = self._exchange
        silent = (
            exchange is not None and self._state == RESPONSE and not exchange.request.keep_alive
        )
        abrupt = (silent or self._state == HEAD) and not self._buffer
        speaking = self._state == BODY
        self._leave()
        self._state = CLOSING
        self._buffer.clear()
        self._watch_writing()
        if abrupt or self._eof:
            self._transport.close()
        elif self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:
                self._transport.abort()  # reset, and not noticed yet
            else:
                self.resume_reading()
        elif speaking:
            # TLS cannot be closed one way: what the client sees is the response's length.
            self.resume_reading()
        else:
            self._transport.close()

    def _refuse_head(self, status: int, reason: str) -> None:
        """Answer to what stands at the front of the buffer in place of a good head."""
        line = bytes(self._buffer[:200]).split(b"\r\n", 1)[0]
        if access_log.isEnabledFor(logging.INFO):
            access_log.info('%s - "%s" %d', shown(self._peer.client), quoted(line), status)
        self._respond(line.split(b" ", 1)[0], status, reason)

    def _respond(
        self,
        method: bytes,
        status: int,
        reason: str = "",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Answer for the application, and close; what was received behind is dropped."""
        defaults = self.worker.default_headers
        self._transport.write(error_response(method, status, reason, headers or [], defaults))
        self._leave()
        self._exchange = None
        self._state = RESPONSE
        self.close()

    def _leave(self) -> None:
        """The client has left, or must be treated so: tell whoever is concerned."""
        if self._exchange is not None:
            self._exchange.leave()
        if self._websocket is not None:
            self._websocket.client_left()

    def _end(self) -> None:
        self.worker.connections.discard(self)
        self._buffer.clear()
        self._deadline = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Deadlines.

    def _arm(self, seconds: float) -> None:
        """Set the one deadline; what it means depends on the state when it comes."""
        when = self._deadline = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline == NEVER:
            return
        if self.loop.time() < self._deadline:
            self._timer_at = self._deadline
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
            return
        self._deadline = NEVER
        if self.write_paused or self._state == CLOSING:
            self._judge_writing()
        elif self._state == HEAD:
            if self._buffer:
                self._refuse_head(408, "the request's head took too long")
            else:
                self.close()
        elif self._state == BODY:
            self.close()  # the body that nobody wants took too long
        elif self._wrote:
            self._await_response()
        else:
            self._leave()

    def _watch_writing(self) -> None:
        """Look now and then whether the client takes what waits for it."""
        self._unwritten = waiting(self._transport)
        self._taken_at = self.loop.time()
        self._arm(self._look_after())

    def _judge_writing(self) -> None:
        """Cut off a client that takes nothing, or has nothing more to take and lingers."""
        unwritten = waiting(self._transport)
        timeout = self.worker.config.timeout_write
        if unwritten != self._unwritten:
            self._watch_writing()
        elif not unwritten or (
            timeout is not None and self.loop.time() - self._taken_at >= timeout
        ):
            self._transport.abort()
        else:
            self._arm(self._look_after())

    def _look_after(self) -> float:
        timeout = self.worker.config.timeout_write
        return min(LINGER_SECONDS, timeout) if timeout and self._unwritten else LINGER_SECONDS

    # The access log.

    def log_exchange(self, exchange: Exchange, status: int) -> None:
        """The line of a request that reached the application."""
        self._log_request(exchange.client, exchange.request, status)

    def _log_request(self, client: Address | None, request: Request, status: int) -> None:
        if access_log.isEnabledFor(logging.INFO):
            access_log.info(
                '%s - "%s %s HTTP/%s" %d',
                shown(client),
                request.method.decode("ascii"),
                quoted(request.target),
                request.http_version,
                status,
            )
