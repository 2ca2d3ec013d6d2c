"""One HTTP/1.1 connection: requests in, one after the other, until it closes or is upgraded.

The event loop -> ``data_received`` -> a request's head (``request``) -> a call of
the application with an ``Exchange``, or with a WebSocket and its ``Opening``. The
next request is begun when the response is complete and the transport has taken it,
not when the application returns.

After a response that ends the connection the transport is given to an ``Ending``, and bytes
that still arrive are dropped until it is over.

A client that sends FIN may have left, or only have finished speaking: TCP does not
tell. It still gets its response. Bytes that are written to a client that has left bring a reset.
If none were written for EOF_GRACE, the application is told that the client left.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..asgi import Scope
from ..errors import RequestRefused
from ..transport import NOT_LOOKED_AT
from ..transport.ending import Ending
from ..transport.progress import waiting
from ..websocket.session import Session
from ..websocket.states import BUSY, LETS_GO, PENDING, RESTING
from ..wire import deflate, handshake
from ..wire.errors import HandshakeRefused
from .access import CLIENT_CLOSED_REQUEST, log_malformed, log_request
from .admission import Admission, Turn
from .bodies import SizedBody
from .exchange import Exchange
from .heads import head_size, whole
from .opening import Opening
from .request import Request, parse
from .response import Response, error_response
from .scope import TOPICS, http_scope, peer_of, websocket_scope
from .serving import DRAINING, RETIRING, STOPPING, Serving
from .stream import Parts, Stream

# The meaning of the next bytes.
HEAD: Final = 0  # the head of a request; nothing is in progress
BODY: Final = 1  # its body
RESPONSE: Final = 2  # the next request; they wait for the response to be complete
WAITING: Final = 3  # frames; the handshake is in the queue of --limit-handshakes
OPENING: Final = 4  # frames; they wait for the handshake to be decided
CLOSING: Final = 5  # nobody's: they are dropped
HANDED_OVER: Final = 6  # those of the WebSocket, which has the transport now

# The purpose of the deadline.
NOTHING: Final = 0
HEAD_DUE: Final = 1  # the head of a request: 408
REQUEST_DUE: Final = 2  # the first byte of one: close
BODY_DUE: Final = 3  # more of a body: 408, or a cut
REST_DUE: Final = 4  # the rest of a body that is not wanted: close
DEPARTURE: Final = 5  # something that is written, or the client that sent FIN has left
STREAM_DUE: Final = 6  # the server stops: something that is written, or the stream ends
TOLD_DUE: Final = 7  # the end of a stream whose application has been told: a cut
READING_DUE: Final = 8  # the client's taking of what waits for it: a cut
END_DUE: Final = 9  # a look at the ending

CORK: Final = 65_536  # bytes of a response that leave together
CORK_SECONDS: Final = 0.005  # an application that blocks the loop must not hold its pieces back
BACKLOG: Final = 65_536  # bytes that may wait before reading is paused
DRAIN: Final = 65_536  # bytes of an unwanted body that are read to keep the connection
LINGER_SECONDS: Final = 2.0
EOF_GRACE: Final = 0.5
NEVER: Final = float("inf")

# When the server stops.
FIRST_REQUEST_SECONDS: Final = 0.5  # for one that a new connection was opened for
ARRIVED_SECONDS: Final = 0.05  # to read what has come by then
STREAM_SECONDS: Final = 0.5  # for a stream that is not an event stream to move
LAST_LINGER_SECONDS: Final = 0.3  # for the FIN of a client that was not speaking
NOTICE_SECONDS: Final = 0.5  # for an application to ask, and be told, that its stream has ended

_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # SO_LINGER: close with RST


class HTTPProtocol(Stream):
    """The asyncio protocol of one connection, and the ``Stream`` of one request at a time."""

    __slots__ = (
        "__weakref__",
        "_beginning",
        "_buffer",
        "_context",
        "_cork",
        "_cork_size",
        "_corked_at",
        "_deadline",
        "_drain_waiters",
        "_drained",
        "_due",
        "_ending",
        "_eof",
        "_exchange",
        "_fd",
        "_fresh",
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
        "serving",
    )

    def __init__(
        self,
        serving: Serving,
        secure: bool,
        peername: Any,
        sockname: Any,
        fd: cython.int = NOT_LOOKED_AT,
    ) -> None:
        """The addresses are the peer's and our own, as in the socket module; ``secure``: by TLS.

        Our own is None if the transport tells it. ``fd`` is the transport's descriptor, as
        ``Outbox.open`` takes it.
        """
        super().__init__(serving.loop)
        self.serving = serving
        self._transport: Any = None
        self._fd = fd
        self._peer = peer_of(peername, sockname, secure, serving.proxies)
        self._state = HEAD
        self._exchange: Exchange | None = None
        self._websocket: Session | None = None
        # In.
        self._buffer = bytearray()
        self._searched = 0  # no head ends in so many first bytes of the buffer
        self._drained = 0
        self._fresh = True  # no request has come
        self._beginning = False  # the application is being called
        self._reading = True
        self._eof = False
        # Out.
        # Pieces of a response; None if nothing has been written in this iteration of the loop.
        self._cork: Parts | None = None
        self._cork_size = 0
        self._corked_at = 0.0  # when the piece before them has left
        self._wrote = False  # since the last look
        self._unwritten = 0  # at the last look
        self._taken_at = 0.0  # when that was last seen to change
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._ending: Ending | None = None
        # One timer for all deadlines. If the deadline was moved back, the timer notices when it
        # fires.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self._deadline = NEVER
        self._due = NOTHING

    # Called by the transport (asyncio.Protocol).

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = self._peer
        if peer.server is None:
            try:  # no suppress(): each connection would pay for its context
                peer.server = self.serving.address(transport.get_extra_info("sockname"))
            except OSError:
                pass  # BSD: it is reset, and connection_lost will be called
        self._context = copy_context()
        self.serving.connections.add(self)
        if self.serving.phase >= DRAINING:
            self._settle()
        else:
            self._due = HEAD_DUE
            self._deadline = self.serving.await_first(self)

    def data_received(self, data: bytes) -> None:
        if self._state >= CLOSING:
            if self._ending is not None:
                self._ending.heard()
            return
        if self._state == HEAD and not self._buffer and whole(data, self.serving.limits.max_head):
            self._take_head(data)  # as nearly all requests come
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
        self.flush()
        if self._state == RESPONSE and not self._peer.secure:
            self._settle()
            return True
        if self._state < CLOSING:
            if self._peer.secure or self._transport.get_write_buffer_size():
                self.close()  # which watches that what waits is taken
            else:
                self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        websocket = self._websocket
        exchange = self._exchange
        if self._state == HANDED_OVER:
            # TLS tells the protocol that was there at the loss, not the one that is there now.
            self._websocket = None
            if websocket is not None:
                websocket.connection_lost(exc)
            return
        self._leave()
        self._state = CLOSING
        self._end()
        self.serving.forget(self)
        self._websocket = None
        self.resume_writing()
        if exchange is not None and not exchange.response.begun:
            log_request(exchange.client, exchange.request, CLIENT_CLOSED_REQUEST)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self._state < CLOSING:
            self._watch_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._state == RESPONSE and self._exchange is None:
            self._next()
        elif self._state < CLOSING:
            self._settle()

    # Called by the server.

    @property
    def standing(self) -> int:
        """Its state for a drain: LETS_GO, PENDING, or BUSY and RESTING if it is an event stream.

        If idle connections end late, the drain waits for every other connection: the response
        may have said that another request may come.
        """
        exchange = self._exchange
        if self._state >= CLOSING:
            return LETS_GO
        if exchange is not None and exchange.response.is_endless:
            return BUSY if self._transport.get_write_buffer_size() else RESTING
        if self._state in (WAITING, OPENING) or self.serving.phase == RETIRING:
            return PENDING
        return LETS_GO

    def shutdown(self, code: cython.Py_ssize_t, reason: str) -> None:
        """The server drains or stops, as its phase says: serve what has come, and end.

        An event stream ends in either, if its client takes what is written to it.
        """
        exchange = self._exchange
        phase: cython.int = self.serving.phase
        if phase < STOPPING and self.standing >= BUSY:
            if not self.write_paused:
                self._wrote = False
                self._expect(STREAM_DUE, 0.0)
        elif phase == RETIRING:
            pass  # its own deadline runs, and its next response says that it closes
        elif self._state == WAITING or self._state == OPENING:
            if phase == STOPPING:
                self._refuse_opening(code, reason)
        elif self._state == HEAD:
            self._settle()
        elif exchange is None:
            pass  # the responses are taken first, and then comes what waits behind them
        elif exchange.response.complete:
            self.close()
        else:
            exchange.response.keep_alive = False
            self._settle()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    # Requests.

    def _read_head(self) -> None:
        """Begin the requests that the buffer holds, until one is in progress."""
        limits = self.serving.limits
        while self._state == HEAD:
            buffer = self._buffer
            try:
                size = head_size(buffer, self._searched, limits.max_head)
            except RequestRefused as exc:
                self._refuse_head(exc.status, exc.reason)
                return
            if size:
                head = bytes(memoryview(buffer)[:size])
                del buffer[:size]
                self._searched = 0
                self._take_head(head)
            elif self._eof:
                self.close()
            else:
                if buffer:
                    if not self._searched and self.serving.phase < DRAINING:
                        self._expect(HEAD_DUE, limits.request_head)
                    self._searched = max(1, len(buffer) - 3)
                return

    def _take_head(self, head: bytes) -> None:
        """Begin the request with this head."""
        try:
            request = parse(head, self.serving.heads)
        except RequestRefused as exc:
            self._buffer[:0] = head
            self._refuse_head(exc.status, exc.reason)
            return
        self._due = NOTHING
        if self._fresh:
            self._fresh = False
            self.serving.first_came(self)
        self._begin(request)

    def _begin(self, request: Request) -> None:
        serving = self.serving
        if serving.full():
            self._refuse(request, 503)
        elif serving.hosts is not None and not serving.hosts.allow(request.headers):
            self._refuse(request, 421, "there is no such host here")
        elif request.upgrade and handshake.requested(
            request.method, request.http_version, request.headers
        ):
            self._open(request)
        else:
            scope = http_scope(
                request,
                self._peer,
                serving.limits.root_path,
                serving.state,
                serving.notice,
                serving.limits.pathsend,
            )
            response = Response(
                request.method, request.http_version, request.keep_alive, serving.default_headers
            )
            exchange = Exchange(self, request, response, scope["client"], serving.flush_soon)
            # All is settled before the call, because an eager task factory makes it at once.
            self._exchange = exchange
            if request.body is None:
                self._await_response()
            else:
                self._state = BODY
                if self._buffer or self._eof:
                    self._read_body()
                else:
                    self._settle()
            if self._exchange is exchange:
                self._beginning = True
                exchange.task = serving.start(
                    scope, exchange.receive, exchange.send, self._context.copy(), exchange
                )
                self._beginning = False

    def _open(self, request: Request) -> None:
        """Give a request to open a WebSocket to the application (RFC 6455 section 4.2)."""
        serving = self.serving
        pulse = serving.websockets
        if serving.phase == STOPPING:
            self._refuse(request, 503)
            return
        try:
            checked = handshake.check(request.headers)
            answer = checked.offers and deflate.negotiate(checked.offers, pulse.limits.deflate)
        except HandshakeRefused as exc:
            self._refuse(request, exc.status, exc.reason, list(exc.headers))
            return
        agreed, extensions = answer or (None, None)
        scope = websocket_scope(
            request,
            self._peer,
            serving.limits.root_path,
            serving.state,
            serving.notice,
            checked.subprotocols,
        )
        if not serving.origins.allow(request.headers, scope["scheme"] == "wss"):
            self._respond(request.method, 403, "pages of this Origin may not open WebSockets here")
            log_request(scope["client"], request, 403)
            return
        opening = Opening(self, serving, request, checked, extensions, scope["client"])
        admission = serving.admission
        if admission is None or admission.take():
            self._call(scope, opening, agreed)
        elif admission.wait(self, partial(self._admit, admission, request, scope, opening, agreed)):
            self._state = WAITING
        else:
            self._refuse_for_now(admission, request)

    def _admit(
        self,
        admission: Admission,
        request: Request,
        scope: Scope,
        opening: Opening,
        agreed: Any,
        admitted: bool,
    ) -> None:
        """A handshake has waited for its turn."""
        if self._state != WAITING:
            return  # the client has left
        if admitted and self.serving.phase < STOPPING:
            self._call(scope, opening, agreed)
        else:
            self._refuse_for_now(admission, request)

    def _refuse_for_now(self, admission: Admission, request: Request) -> None:
        """Refuse a handshake that is over --limit-handshakes."""
        seconds = admission.retry_after()
        self._refuse(request, 503, headers=[(b"retry-after", b"%d" % seconds)])

    def _call(self, scope: Scope, opening: Opening, agreed: Any) -> None:
        """Call the application for a WebSocket; its deadlines begin."""
        serving = self.serving
        self._websocket = websocket = Session(serving.websockets, opening, agreed)
        scope["extensions"][TOPICS] = websocket  # for asgiws.topics, which writes to it
        self._state = OPENING
        serving.start(scope, websocket.receive, websocket.send, self._context.copy(), websocket)

    def _refuse_opening(self, code: cython.Py_ssize_t, reason: str) -> None:
        """The server stops: refuse a handshake that is undecided."""
        if self._websocket is not None:
            self._websocket.shutdown(code, reason)
        elif turn := self._stop_waiting():
            turn(False)

    def _stop_waiting(self) -> Turn | None:
        """Leave the queue of handshakes."""
        admission = self.serving.admission
        return None if admission is None else admission.leave(self)

    def _read_body(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        body = exchange.request.body
        assert body is not None
        try:
            data = body.read(self._buffer)
        except RequestRefused as exc:
            self._refuse_body(exchange, exc.status, exc.reason)
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
        else:
            self._settle()

    def _refuse_body(self, exchange: Exchange, status: int, reason: str) -> None:
        """The body is malformed, or does not come."""
        if exchange.response.begun:
            self.close()
        else:
            self._respond(exchange.request.method, status, reason)
            log_request(exchange.client, exchange.request, status)

    def _await_response(self) -> None:
        """A request has arrived whole; bytes that come now have to wait."""
        self._state = RESPONSE
        self._settle()

    def _next(self) -> None:
        """The last response is complete and the connection persists: on to the next request."""
        self._exchange = None
        if self.write_paused:
            # A client that sends requests must also read the responses.
            self._state = RESPONSE
            return
        self._state = HEAD
        self._settle()
        self.resume_reading()
        # Not while the application is being called: its caller looks at the buffer next.
        if (self._buffer or self._eof) and not self._beginning:
            self._read_head()

    # Called by an exchange or an opening (Stream).

    def lost(self) -> bool:
        return self._state >= CLOSING

    def pause_reading(self) -> None:
        """Read nothing more from the client for now; its deadline stands still meanwhile."""
        if self._reading and not self._eof:
            self._reading = False
            self._transport.pause_reading()
            if self._due == BODY_DUE:
                self._due = NOTHING

    def resume_reading(self) -> None:
        if not self._reading and not self._eof:
            self._reading = True
            self._transport.resume_reading()
            if self._state == BODY:
                self._settle()

    def write(self, parts: Parts, more: cython.bint = False) -> None:
        size: cython.Py_ssize_t = 0
        for part in parts:
            size += len(part)
        self._wrote = True
        if self._cork:
            self._cork += parts
            size += self._cork_size
            parts = self._cork
        if not more:
            self._cork = None
        elif self._cork is None:
            self._cork = []  # this piece leaves at once, those that follow leave together
            self._corked_at = monotonic()  # a loop's own time may stand still within an iteration
            self.serving.flush_soon(self)
        elif size < CORK and monotonic() - self._corked_at < CORK_SECONDS:
            self._cork = parts
            self._cork_size = size
            return
        else:
            self._cork = []
            self._corked_at = monotonic()
        self._write(parts, size)

    def flush(self) -> None:
        """Write the pieces that wait for more of the response."""
        parts = self._cork
        self._cork = None
        if parts:
            self._write(parts, self._cork_size)

    def _write(self, parts: Parts, size: cython.Py_ssize_t) -> None:
        try:
            if len(parts) == 1:
                self._transport.write(parts[0])
            elif size <= 2 * CORK:
                self._transport.write(b"".join(parts))
            else:
                for part in parts:  # a large one is not copied
                    self._transport.write(part)
        except RuntimeError:
            pass  # uvloop: it is closed, and connection_lost will be called in a moment

    async def drained(self) -> None:
        while self.write_paused:
            waiter = self.loop.create_future()
            self._drain_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._drain_waiters.remove(waiter)

    def body_wanted(self) -> None:
        if self._state == BODY:
            exchange = self._exchange
            if exchange is not None and not exchange.response.begun:
                self.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
            self._settle()

    def announce(self, final: cython.bint) -> None:
        """The head of the response is about to leave: settle whether the connection persists."""
        exchange = self._exchange
        assert exchange is not None
        body = exchange.request.body
        response = exchange.response
        phase: cython.int = self.serving.phase
        if phase or exchange.waits_for_body:
            # A client that saw no 100 Continue may send its body or not.
            response.keep_alive = False
            if phase == STOPPING and not final:
                self._expect(STREAM_DUE, STREAM_SECONDS)
        elif final and isinstance(body, SizedBody) and body.left > DRAIN:
            response.keep_alive = False

    def response_done(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        body = exchange.request.body
        if exchange.response.left or not exchange.response.keep_alive:
            self.close()
        elif body is None or body.complete:
            self._next()
        elif isinstance(body, SizedBody) and body.left > DRAIN:
            self.close()
        else:
            self._drained = 0
            self.resume_reading()
            self._settle()

    def app_failed(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        if not exchange.response.begun:
            self._respond(exchange.request.method, 500)
        elif exchange.response.cut_is_visible:
            self.close()
        else:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def refuse(self, status: int, reason: str = "") -> None:
        self._respond(b"GET", status, reason)

    def hand_over(self, head: bytes, successor: Any) -> None:
        trailing = bytes(self._buffer)
        transport = self._transport
        self._state = HANDED_OVER
        self.serving.connections.discard(self)
        self.serving.connections.add(successor)
        self._end()
        self.write([head])
        transport.set_protocol(successor)
        self.resume_reading()
        successor.opened(transport, self.write_paused, trailing, self._fd)

    # Closing.

    def close(self) -> None:
        """Close without losing the last bytes that were written; nothing more is parsed."""
        if self._state >= CLOSING:
            return
        self.flush()
        # Lingering is not needed for a client that has nothing more to send.
        exchange = self._exchange
        silent = self._eof or (
            not self._buffer
            and (
                self._state == HEAD
                or (
                    exchange is not None
                    and self._state == RESPONSE
                    and not exchange.request.keep_alive
                )
            )
        )
        speaking = self._state == BODY or bool(self._buffer)
        self._leave()
        self._state = CLOSING
        self._buffer.clear()
        soon = self.serving.phase >= DRAINING and not speaking
        self._ending = Ending(
            self._transport,
            self.loop.time(),
            LAST_LINGER_SECONDS if soon else LINGER_SECONDS,
            self.serving.limits.write,
            speaking=speaking,
            silent=silent,
        )
        self._expect(END_DUE, self._ending.interval)

    def _refuse_head(self, status: int, reason: str) -> None:
        """Answer to bytes at the front of the buffer that are not a good head."""
        line = bytes(self._buffer[:200]).split(b"\r\n", 1)[0]
        self._respond(line.split(b" ", 1)[0], status, reason)
        log_malformed(self._peer.client, line, status)

    def _refuse(
        self,
        request: Request,
        status: int,
        reason: str = "",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Answer a request that the application does not get."""
        if request.body is not None:
            self._state = BODY
        self._respond(request.method, status, reason, headers)
        log_request(self._peer.client, request, status)

    def _respond(
        self,
        method: bytes,
        status: int,
        reason: str = "",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Answer for the application, and close; bytes behind the request are dropped."""
        defaults = self.serving.default_headers
        self.write([error_response(method, status, reason, headers or [], defaults)])
        self._leave()
        self._exchange = None
        if self._state != BODY:
            self._state = RESPONSE
        self.close()

    def _leave(self) -> None:
        """The client has left, or is treated so: tell the application or the opening."""
        if self._state == WAITING:
            self._stop_waiting()
        if self._exchange is not None:
            self._exchange.leave()
        if self._websocket is not None:
            self._websocket.client_left()

    def _end(self) -> None:
        if self._fresh:
            self.serving.first_came(self)
        self._cork = None
        self._exchange = None
        self._ending = None
        self._buffer.clear()
        self._due = NOTHING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_stream(self, exchange: Exchange) -> None:
        """The server stops: end a response that has begun and has no end in sight.

        Each event of an event stream is whole by itself, so the stream may end behind any. Only the
        application knows what is missing in another response: it is told, and may end it.
        """
        if not exchange.response.is_event_stream:
            exchange.leave()
            self._expect(TOLD_DUE, NOTICE_SECONDS)
            return
        last = exchange.end()
        if last:
            self.write(last)
        exchange.response.keep_alive = False
        self.response_done()
        self.loop.call_later(NOTICE_SECONDS, _cancel_unless_told, self.serving, exchange)

    # Deadlines.

    def _settle(self) -> None:
        """Set the deadline that the state asks for."""
        exchange = self._exchange
        serving = self.serving
        state = self._state
        if self.write_paused or state >= CLOSING:
            return  # it matters whether the client reads
        self._due = NOTHING
        if state == HEAD:
            if serving.phase >= DRAINING:
                fresh = self._fresh or self._searched
                self._expect(REQUEST_DUE, FIRST_REQUEST_SECONDS if fresh else ARRIVED_SECONDS)
            else:
                self._expect(REQUEST_DUE, serving.limits.keep_alive)
        elif exchange is None:
            pass  # a handshake, whose deadline is the WebSocket's
        elif exchange.response.complete:
            self._expect(REST_DUE, serving.limits.keep_alive)
        elif serving.phase == STOPPING and exchange.response.is_stream:
            self._wrote = False
            self._expect(STREAM_DUE, 0.0 if exchange.response.is_event_stream else STREAM_SECONDS)
        elif state == RESPONSE:
            if self._eof:
                self._wrote = False
                self._expect(DEPARTURE, EOF_GRACE)
        elif self._reading and not exchange.waits_for_body:
            seconds = serving.limits.request_body
            if seconds is not None:
                self._wrote = False
                self._expect(BODY_DUE, seconds)

    def _expect(self, due: cython.Py_ssize_t, seconds: float) -> None:
        """Set the one deadline, and what it is for."""
        self._due = due
        now: float = self.loop.time()
        when = self._deadline = now + seconds
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        # A close may need a timer this soon. If this one is already set, no second one is needed.
        self._timer_at = min(when, now + LINGER_SECONDS)
        self._timer = self.loop.call_at(self._timer_at, self._on_timer)

    def first_is_due(self) -> None:
        """The first request has not come in time, unless the deadline was moved."""
        if self._timer is None:
            self._on_timer()

    def _on_timer(self) -> None:
        self._timer = None
        due = self._due
        if due == NOTHING:
            return
        now = self.loop.time()
        if now < self._deadline:
            self._timer_at = self._deadline
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
            return
        self._due = NOTHING
        exchange = self._exchange
        if due == END_DUE:
            assert self._ending is not None
            seconds = self._ending.look(now)
            if seconds:
                self._expect(END_DUE, seconds)
        elif due == READING_DUE:
            self._judge_writing()
        elif due == HEAD_DUE and self._buffer:
            self._refuse_head(408, "the request's head took too long")
        elif due == BODY_DUE:
            assert exchange is not None
            if self._wrote:
                self._settle()  # a response that goes on is not cut for a body that does not
            else:
                self._refuse_body(exchange, 408, "the request's body took too long")
        elif due == STREAM_DUE:
            assert exchange is not None
            if self._wrote or not exchange.response.is_stream:
                self._settle()
            else:
                self._end_stream(exchange)
        elif due == TOLD_DUE:
            assert exchange is not None
            if self._wrote:
                self._settle()
            else:
                _cancel_unless_told(self.serving, exchange)
                self.app_failed()
        elif due == DEPARTURE:
            if self._wrote:
                self._settle()
            else:
                self._leave()
        else:
            self.close()

    def _watch_writing(self) -> None:
        """Look now and then whether the client reads the bytes that wait for it."""
        self._unwritten = waiting(self._transport)
        self._taken_at = self.loop.time()
        self._expect(READING_DUE, self._look_after())

    def _judge_writing(self) -> None:
        """Cut off a client that reads nothing of the bytes that wait for it."""
        unwritten = waiting(self._transport)
        timeout = self.serving.limits.write
        if unwritten != self._unwritten:
            self._watch_writing()
        elif timeout is not None and self.loop.time() - self._taken_at >= timeout:
            self._transport.abort()
        else:
            self._expect(READING_DUE, self._look_after())

    def _look_after(self) -> float:
        timeout = self.serving.limits.write
        return min(LINGER_SECONDS, timeout) if timeout else LINGER_SECONDS


def _cancel_unless_told(serving: Serving, exchange: Exchange) -> None:
    """Cancel an application that has not noticed that its stream has ended."""
    if exchange.task is not None and not exchange.told:
        serving.cancel(exchange.task)
