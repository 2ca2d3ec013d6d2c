"""One WebSocket as the application sees it: events, flow control, closing, keepalive.

Input goes from the event loop to ``data_received``, becomes messages (``wire.protocol``), and waits
in a queue for ``receive``. Output goes from ``send`` as a frame to ``transport.write``. While the
opening handshake is undecided the connection belongs to HTTP, and the answer of the application is
handed to an ``Opening``; ``opened`` is called once the 101 is written.

Reading: messages are parsed ahead of the application, so that pings are answered
and departures seen even if nobody receives, until the queue reaches its mark
(``max_queue`` messages or QUEUE_BYTES). Then parsing stops, and when 64 KiB of
unparsed bytes have piled up, so does reading.

Writing is the ``Outbox``'s; ``send`` waits while the transport is over its high-water
mark.

Of the transport only those methods are used that every asyncio transport has.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..asgi import Event
from ..errors import ASGIError, ClientDisconnected, tells_of_disconnect
from ..log import error_log
from ..transport import NOT_LOOKED_AT
from ..transport.ending import Ending
from ..transport.outbox import CORK_BYTES, Outbox
from ..transport.progress import waiting
from ..wire import deflate
from ..wire.errors import (
    ABNORMAL_CLOSURE,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL_CLOSURE,
    SERVICE_RESTART,
)
from ..wire.frames import FIN, PING, frame, header, text_frame
from ..wire.prepared import Prepared
from ..wire.protocol import CLOSED as WIRE_CLOSED
from ..wire.protocol import FAILED as WIRE_FAILED
from ..wire.protocol import Protocol
from .events import close_arguments, expected, unencodable
from .inbox import Inbox
from .limits import NEVER
from .pulse import Pulse
from .states import (
    ACCEPTED,
    BROKE,
    BUSY,
    CLOSE,
    CLOSED,
    CLOSING,
    CONNECTING,
    CUT,
    DENYING,
    DEPARTED,
    ENDED,
    FAILED,
    FAILING,
    FINISHED,
    FULL,
    GONE,
    KEPT,
    LEFT,
    LETS_GO,
    LINKS,
    LOST,
    NOT_READ,
    OPEN,
    OPENED,
    OPENING,
    OVER,
    PARSED,
    REFUSED,
    RESTING,
    SENDS,
    TAKEN,
)
from .watch import IDLE, NOTHING, SILENT, Watch
from .watch import PING as TIME_TO_PING

BACKLOG_BYTES: Final = 65_536
DEFLATOR_SECONDS: Final = 30.0  # a deflator (32 or 160 KiB) that was idle for so long is freed

# The longest time for which answers to earlier messages delay the failure of the connection.
FAILING_SECONDS: Final = 2.0
# The time to answer a close frame for a peer that answers no ping.
SILENT_SECONDS: Final = 1.0

# After so much without a wait, receive and send let the event loop come round.
BUDGET_MESSAGES: Final = 64
BUDGET_BYTES: Final = 262_144


def _is_message(event: Any) -> bool:
    """Return whether it is a websocket.send event in a plain dict, not one of a subclass."""
    known: dict[str, Any]
    if type(event) is not dict:
        return False
    known = event
    return bool(known.get("type") == "websocket.send")


class Session:
    """The asyncio protocol of an open WebSocket, and its ASGI ``receive`` and ``send``.

    The counters and ``close_code``, ``closed_by`` and ``subprotocol`` are for the
    session's line in the access log. Bytes are those of payloads, inflated. ``link`` is
    where the connection is on its way from OPENING to OVER.
    """

    __slots__ = (
        "__weakref__",
        "_agreed",
        "_app",
        "_budget",
        "_budget_bytes",
        "_connect_due",
        "_deflator",
        "_deflator_used",
        "_ending",
        "_filling",
        "_inbox",
        "_loop",
        "_opening",
        "_out",
        "_protocol",
        "_pulse",
        "_reading",
        "_sent",
        "_transport",
        "_watch",
        "bytes_in",
        "bytes_out",
        "close_code",
        "close_reason",
        "closed_by",
        "link",
        "messages_in",
        "messages_out",
        "subprotocol",
        "subscribed",
    )

    def __init__(self, pulse: Pulse, opening: Any, agreed: deflate.Agreed | None) -> None:
        """``opening`` is asked while CONNECTING; ``agreed`` are the parameters of RFC 7692."""
        limits = pulse.limits
        self._pulse = pulse
        self._loop = pulse.loop
        self._opening = opening
        self._agreed = agreed
        inflator: deflate.Inflator | None = None
        if agreed is not None and limits.deflate is not None:
            inflator = deflate.Inflator(agreed, limits.deflate.library)
        self._protocol = Protocol(limits.max_size, inflator)
        self._transport: Any = None
        self._app = CONNECTING
        self.link = OPENING
        self.close_code = ABNORMAL_CLOSURE
        self.close_reason = ""
        self.closed_by = "client"
        self.subprotocol: str | None = None
        self.messages_in = self.bytes_in = self.messages_out = self.bytes_out = 0
        # In.
        self._connect_due = True  # websocket.connect has not been received
        self._inbox = Inbox(limits.max_queue)
        self._reading = PARSED
        self._filling = False  # the next bytes that the loop reads go straight into a message
        # Out.
        self._out = Outbox(pulse.flush)
        self._deflator: deflate.Deflator | None = None
        self._deflator_used = 0.0  # when it was last seen to have been used
        self._sent = 0  # messages out at that time
        #: called when more can be written (``writable``) and when no more will be (``ended``)
        self.subscribed: Any = None
        # The budget after which others run.
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        # Deadlines.
        self._watch = Watch()
        self._ending: Ending | None = None
        if limits.accept_timeout:
            self._watch.due = pulse.time() + limits.accept_timeout
            pulse.add(self)

    # Called by the application.

    async def receive(self) -> Event:
        """Return the next event: connect, receive, ..., disconnect; the last one again and again.

        Concurrent calls are served in order; a cancelled one loses nothing.
        """
        waiter: asyncio.Future[None]
        if self.link == FAILING and not self._ready():
            self._fail()
        if self._inbox.waiter is not None or not self._ready():
            self._out.flush()
            self._budget = BUDGET_MESSAGES
            self._budget_bytes = BUDGET_BYTES
            # A Future() that is not told its loop would look for it, in CPython 3.11 by two system
            # calls.
            waiter = self._loop.create_future()
            self._inbox.join(waiter)
            try:
                await waiter
            except BaseException:
                self._inbox.leave(waiter)
                self._wake()
                raise
            self._inbox.leave(waiter)
        elif self._budget <= 0 or self._budget_bytes <= 0:
            await self._come_round()
            return await self.receive()  # others have run: look again
        event = self._take()
        if self._inbox.waiter is not None:
            self._wake()
        return event

    async def send(self, event: Event) -> None:
        """Send one event; waits while the client does not read.

        Raises ClientDisconnected, an OSError, once the client is gone or the
        connection is closing (ASGI 2.4), and ASGIError for an event that is
        malformed or out of order.
        """
        if self._app == ACCEPTED and self.link <= FAILING and _is_message(event):
            if self._out.paused:
                await self._drain()
            self._send_message(event)
            if self._out.paused:
                await self._drain()
            elif self._budget <= 0 or self._budget_bytes <= 0:
                await self._come_round()
        else:
            await self._send_rarely(event)

    def _send_message(self, event: Event) -> None:
        """Build and write the frame of a websocket.send event."""
        text = event.get("text")
        data = event.get("bytes")
        first: cython.uchar = 0x81
        size: cython.Py_ssize_t
        if data is None:
            if type(text) is not str:
                if not isinstance(text, str):
                    raise expected("exactly one of text (str) and bytes (bytes)", event)
                text = str.__str__(text)  # of a subclass, such as a template's safe string
            if self._agreed is None:
                try:
                    data = text_frame(text)
                except UnicodeEncodeError:
                    raise unencodable(event) from None
                size = len(data)
                # The header is not payload: 2, 4 or 10 bytes.
                self._count_out(size - (2 if size < 128 else 4 if size < 65540 else 10))
                self._out.write(data, self._inbox.waiting > 0)
                return
            try:
                data = text.encode()
            except UnicodeEncodeError:
                raise unencodable(event) from None
        else:
            first = 0x82
            if text is not None:
                raise expected("exactly one of text (str) and bytes (bytes)", event)
            if type(data) is not bytes:
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    raise expected("exactly one of text (str) and bytes (bytes)", event)
                data = bytes(data)
        size = len(data)
        self._count_out(size)
        settings = self._pulse.limits.deflate
        if self._agreed is not None and settings is not None and size >= settings.min_size:
            if self._deflator is None:
                self._deflator = deflate.Deflator(self._agreed, settings)
            data = self._deflator.deflate(data)
            first |= 0x40
            size = len(data)
        if size < CORK_BYTES:
            self._out.write(frame(first, data), self._inbox.waiting > 0)
        else:
            self._out.write_large(header(first, size), data)

    def offer(self, message: Prepared) -> cython.int:
        """Send a message that others get as well; return TAKEN, FULL or GONE. It never waits.

        It leaves at the end of this iteration of the event loop, together with all others.
        """
        if self._app != ACCEPTED or self.link > FAILING:
            return GONE
        if self._out.paused:
            return FULL
        self.messages_out += 1
        self.bytes_out += message.size
        settings = self._pulse.limits.deflate
        if self._agreed is None or settings is None or message.size < settings.min_size:
            self._out.write(message.plain(), True)
        else:
            # The client's window moves on without our deflator, which would refer to what
            # is no longer there: the next one begins with an empty window.
            self._deflator = None
            self._out.write(message.deflated(self._agreed.server_bits, settings), True)
        return TAKEN

    def _count_out(self, size: cython.Py_ssize_t) -> None:
        self.messages_out += 1
        self.bytes_out += size
        self._budget -= 1
        self._budget_bytes -= size

    async def _send_rarely(self, event: Event) -> None:
        """Send any event that is not a message on an open connection."""
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise ASGIError(f"expected an event, a dict with a type (str), got {event!r:.200}")
        kind = event["type"]
        if (self._app, kind) not in SENDS:
            allowed = " or ".join(name for state, name in SENDS if state == self._app)
            wrong = f"expected {allowed or 'nothing more'}, got {kind!r:.200}"
            over = "" if allowed else ": the application has closed or refused the connection"
            raise ASGIError(wrong + over)
        if self.link > FAILING:
            if kind == "websocket.close":
                self._app = ENDED  # it is closed, as was asked for
                return
            await self._come_round()  # an application may try again and again
            raise ClientDisconnected(f"the client is gone ({self.close_code})")
        if kind == "websocket.send":
            await self.send(dict(event))  # it is of a subclass
        elif kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            if self._app == ACCEPTED:
                code, reason = close_arguments(event)
                self._close(code, reason, "server")
            else:
                # A 403 has no place for a code and a reason; FastAPI's reason is a list here.
                self._opening.refuse(403)
                self._end(REFUSED, ABNORMAL_CLOSURE, "", "server")
            self._app = ENDED
        elif kind == "websocket.http.response.start":
            self._opening.respond_start(event.get("status"), event.get("headers", ()))
            self._app = DENYING
            self._watch.due = NEVER
        else:
            more = event.get("more_body", False)
            await self._opening.respond_body(event.get("body", b""), more)
            if not more:
                self._app = ENDED
                self._end(REFUSED, ABNORMAL_CLOSURE, "", "server")

    def _accept(self, event: Event) -> None:
        subprotocol = event.get("subprotocol")
        if subprotocol is not None and not isinstance(subprotocol, str):
            raise expected("subprotocol to be a str or None", event)
        headers: Iterable[tuple[bytes, bytes]] = event.get("headers") or ()
        self._app = ACCEPTED
        try:
            self._opening.accept(self, subprotocol, headers)
        except BaseException:
            self._app = CONNECTING
            raise
        self.subprotocol = subprotocol

    # Called by HTTP.

    def opened(
        self, transport: Any, write_paused: bool, trailing: bytes, fd: cython.int = NOT_LOOKED_AT
    ) -> None:
        """The 101 is written and the transport is ours; ``trailing`` came behind the request.

        ``fd`` is the transport's descriptor, as ``Outbox.open`` takes it.
        """
        pulse: Pulse = self._pulse
        self._transport = transport
        self._out.open(transport, fd)
        self._out.paused = write_paused
        self._protocol.hold_pongs = write_paused
        self._end(OPENED, ABNORMAL_CLOSURE, "", "client")
        self._watch.start(pulse.limits, self._loop.time(), pulse.time())
        pulse.add(self)
        if trailing:
            self.data_received(trailing)
        if transport.is_closing():
            # It was lost in this very iteration of the loop, and TLS tells only the protocol
            # that was there before.
            transport.abort()
            self._loop.call_soon(self.connection_lost, None)

    def client_left(self) -> None:
        """The client went away before the application had decided."""
        self._end(LOST, ABNORMAL_CLOSURE, "", "client")

    def shutdown(self, code: cython.Py_ssize_t = SERVICE_RESTART, reason: str = "") -> None:
        """The server stops: tell the application and the peer why; or refuse, 503."""
        if self.link >= CLOSING:
            return
        if self._app == ACCEPTED:
            self._close(code, reason, "server")
        elif self._app == CONNECTING:
            self._end(REFUSED, code, reason, "server")
            self._opening.refuse(503)

    @property
    def is_accepted(self) -> bool:
        """True if messages can be sent."""
        return bool(self._app == ACCEPTED and self.link <= FAILING)

    @property
    def standing(self) -> int:
        """Its state for a drain, once it is open: LETS_GO, BUSY or RESTING."""
        if self.link >= CLOSING:
            return LETS_GO
        return BUSY if self._is_at_work() or not self._out.is_empty() else RESTING

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def app_done(self, task: asyncio.Task[Any]) -> None:
        """The application has returned, raised or been cancelled: answer the peer for it."""
        cancelled = task.cancelled()
        error = None if cancelled else task.exception()
        if self.link > FAILING and tells_of_disconnect(error):
            error = None
        app = self._app
        unsettled = self.link < CLOSING
        # First the log, then the answer: a client that has it finds the reason there.
        if error is not None:
            error_log.error("Exception in ASGI application", exc_info=error)
        elif unsettled and not cancelled and app in (CONNECTING, DENYING):
            error_log.error(
                "the application returned without %s",
                "an answer to websocket.connect"
                if app == CONNECTING
                else "the end of its denial response",
            )
        if unsettled:
            self._app = ENDED
        if unsettled and app == ACCEPTED:
            failed = cancelled or error is not None
            self._close(INTERNAL_ERROR if failed else NORMAL_CLOSURE, "", "server")
        elif unsettled and app != ENDED:
            # Only the server cancels, at the end of its shutdown.
            self._opening.refuse(503 if cancelled else 500)
            self._end(REFUSED, ABNORMAL_CLOSURE, "", "server")

    # Called by the transport (asyncio.Protocol).

    def connection_made(self, transport: Any) -> None:
        """Never called: the transport comes by ``opened``."""

    def data_received(self, data: bytes) -> None:
        self._watch.heard = True
        self._out.wrote = False
        self._protocol.receive_data(data)
        self._parse()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """The memory that the event loop reads into: a large message, or the shared buffer.

        uvloop calls this if the method exists; asyncio, which looks at the class, calls
        ``data_received``.
        """
        if self._reading == PARSED:
            room = self._protocol.room()
            if room is not None:
                self._filling = True
                return room
        self._filling = False
        return self._pulse.buffer_view

    def buffer_updated(self, size: cython.Py_ssize_t) -> None:
        if self._filling:
            self._watch.heard = True
            self._out.wrote = False
            self._protocol.filled(size)
            self._parse()
        elif cython.compiled:
            self._watch.heard = True
            self._out.wrote = False
            self._protocol.receive_lent(self._pulse.buffer, size)
            try:
                self._parse()
            finally:
                self._protocol.settle()
        else:
            self.data_received(bytes(self._pulse.buffer_view[:size]))

    def eof_received(self) -> bool:
        """The peer sends nothing more; the transport writes what it has and closes itself."""
        if self.link == FAILING:
            self._fail()
        self._out.flush()
        if self._watch.due == NEVER:
            self._end_within(self._pulse.limits.close_timeout)
        self._peer_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return  # it is known
        self._transport = self._out.transport = None
        self._peer_left()
        self._pulse.members.discard(self)
        self._deflator = None
        self._opening.ended(self)

    def pause_writing(self) -> None:
        self._out.paused = True
        self._protocol.hold_pongs = True

    def resume_writing(self) -> None:
        self._protocol.release_pongs()
        self._write_replies()
        self._out.paused = False
        if self.subscribed is not None:
            self.subscribed.writable()  # which may be more than the transport takes
        self._out.wake_next()

    # In.

    def _ready(self) -> bool:
        return self._inbox.waiting > 0 or self.link >= CLOSING or self._connect_due

    def _parse(self) -> None:
        """Parse what has been received, up to the marks."""
        protocol: Protocol = self._protocol
        inbox: Inbox = self._inbox
        reading: cython.int = PARSED
        while True:
            if inbox.is_full() and self.link < CLOSING:
                reading = KEPT
                break
            message = protocol.next_message()
            if message is None:
                break
            self.messages_in += 1
            self.bytes_in += protocol.size
            inbox.put(message)
        if protocol.state >= WIRE_CLOSED:
            self._peer_is_done()
        elif protocol.replies:
            self._write_replies()
        if reading != self._reading or reading == KEPT:
            self._regulate(reading)
        if self.link == DEPARTED and reading == PARSED:
            self._peer_left()
        if inbox.waiter is not None:
            self._wake()

    def _regulate(self, reading: cython.int) -> None:
        """Go on reading, or stop if as many bytes are kept as allowed."""
        if reading == PARSED:
            if self._reading == NOT_READ and self._transport is not None:
                self._transport.resume_reading()
            self._reading = PARSED
        elif self._reading != NOT_READ:
            self._reading = KEPT
            if self._transport is not None and self._protocol.backlog() > BACKLOG_BYTES:
                self._reading = NOT_READ
                self._transport.pause_reading()

    def _take(self) -> Event:
        """Return the event for ``receive``, of which there is one."""
        inbox: Inbox = self._inbox
        size: cython.Py_ssize_t
        self._budget -= 1
        if self._connect_due:
            self._connect_due = False
            return {"type": "websocket.connect"}
        if inbox.waiting:
            message = inbox.take()
            size = len(message)
            self._budget_bytes -= size
            if self._reading != PARSED and inbox.is_low():
                self._parse()
            if type(message) is str:
                return {"type": "websocket.receive", "text": message}
            return {"type": "websocket.receive", "bytes": message}
        return {
            "type": "websocket.disconnect",
            "code": self.close_code,
            "reason": self.close_reason,
        }

    def _wake(self) -> None:
        """Wake the first of those that wait in ``receive``, if there is something for it."""
        if self._inbox.waiter is not None:
            if self.link == FAILING and not self._ready():
                self._fail()
            if self._ready():
                self._inbox.wake()

    # Out.

    def _write_replies(self) -> None:
        """Write pongs and close frames, behind what is corked."""
        replies = self._protocol.replies
        if replies and self.link != FAILING:
            self._protocol.replies = None
            self._out.write_all(replies)

    async def _drain(self) -> None:
        """Wait until the transport takes more, or the client is gone."""
        again = False
        while self._out.paused and self.link <= FAILING:
            await self._out.wait(again)
            again = True
        self._out.wake_next()
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        if self.link > FAILING:
            raise ClientDisconnected(f"the client is gone ({self.close_code})")

    async def _come_round(self) -> None:
        """Let the event loop run other callbacks that are due."""
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        await asyncio.sleep(0)

    # Closing.

    def _end(self, event: cython.int, code: cython.Py_ssize_t, reason: str, by: str) -> None:
        """Change the link by an event.

        From CLOSING on nothing can be sent any more, and the application is told the cause; the
        first one counts.
        """
        before: cython.int = self.link
        self.link = LINKS[before].get(event, before)
        if before < CLOSING <= self.link:
            self.close_code = code
            self.close_reason = reason
            self.closed_by = by
            self._out.wake()
            self._wake()
            if self.subscribed is not None:
                self.subscribed.ended()
        if self.link == OVER:
            self._pulse.members.discard(self)

    def _end_within(self, seconds: float) -> None:
        """Cut the connection after that time, unless it ends before."""
        unread = 0 if self._transport is None else waiting(self._transport)
        self._watch.end(self._pulse.time() + seconds, unread)

    def _close(self, code: cython.Py_ssize_t, reason: str, by: str) -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2); the deadline runs."""
        if self.link == FAILING:
            self._fail()
            return
        self._protocol.close(code, reason)
        self._end(CLOSE, code, reason, by)
        self._write_replies()
        self._end_within(self._pulse.limits.close_timeout)
        self._parse()  # the bytes behind a full queue may be the peer's close frame
        if self._transport is None:
            self._end(LOST, code, reason, by)

    def _peer_left(self) -> None:
        """No more bytes will come; those behind a full queue are still delivered."""
        if self.link == FAILING:
            self._fail()
        self._out.lose()
        if self._reading != PARSED:
            self._end(LEFT, ABNORMAL_CLOSURE, "", "client")
        elif self._transport is not None:
            self._end(FINISHED, ABNORMAL_CLOSURE, "", "client")
        else:
            self._end(LOST, ABNORMAL_CLOSURE, "", "client")

    def _is_at_work(self) -> bool:
        """Return whether the application has messages to read, or one that it may be answering.

        If so, the failure of the connection waits until it receives again, for
        FAILING_SECONDS at most: answers to what came before the error are still sent.
        """
        return self._inbox.waiting > 0 or (self.messages_in > 0 and self._inbox.waiter is None)

    def _peer_is_done(self) -> None:
        """The peer's close frame has come, or it broke the protocol."""
        failed = self._protocol.state == WIRE_FAILED
        if failed and self.link == OPEN and self._is_at_work():
            self._end(BROKE, ABNORMAL_CLOSURE, "", "client")
            self._end_within(FAILING_SECONDS)
        elif self.link != FAILING:
            self._settle()

    def _fail(self) -> None:
        """The application has answered what came before the peer's error: fail the connection."""
        self._watch.due = NEVER
        self._settle()

    def _settle(self) -> None:
        """The peer will send nothing more: answer it, and end the connection."""
        protocol: Protocol = self._protocol
        before: cython.int = self.link
        code: cython.Py_ssize_t = protocol.close_code
        if protocol.state == WIRE_FAILED:
            self._end(FAILED, code, protocol.close_reason, "server")
        else:
            self._end(CLOSED, code, protocol.close_reason, "client")
        if self._transport is None:
            self._write_replies()
            self._end(LOST, code, "", "client")
        elif before != DEPARTED and before != self.link:
            self._linger()
        else:
            self._write_replies()

    def _linger(self) -> None:
        """Close the TCP connection without losing what we write last (section 7.1.1)."""
        replies = self._protocol.replies
        self._protocol.replies = None
        fin = self._out.write_last(replies or [])
        now = self._pulse.time()
        seconds = self._pulse.limits.close_timeout
        self._ending = Ending(
            self._transport,
            now,
            min(seconds, self._watch.due - now),  # a deadline that runs is not set back
            seconds,
            # In the middle of what it sends, perhaps.
            speaking=self._protocol.state == WIRE_FAILED,
            fin=fin,
        )

    # Deadlines.

    def on_tick(self) -> None:
        """Look at all deadlines."""
        pulse: Pulse = self._pulse
        if self._ending is not None:
            if self._transport is not None:
                self._ending.look(pulse.fair)
        elif self._watch.due != NEVER:
            unread = 0 if self._transport is None else waiting(self._transport)
            if self._watch.overdue(unread, pulse.step, pulse.fair):
                self._watch.due = NEVER
                self._time_is_up()
        elif self.link == OPEN:
            self._judge()
            if self._deflator is not None:
                self._rest_deflator()

    def _time_is_up(self) -> None:
        if self.link == OPENING:
            self._opening.refuse(504)
            self._end(REFUSED, ABNORMAL_CLOSURE, "", "server")
            error_log.warning("WebSocket refused: the application never accepted it (504)")
        elif self.link == FAILING:
            self._fail()
        else:
            self.abort()

    def _judge(self) -> None:
        """Ping, and end the connection with a peer that does not do its part."""
        pulse: Pulse = self._pulse
        waits: cython.bint = not self._out.is_empty()
        verdict: cython.int = self._watch.judge(
            pulse.limits,
            pulse.now,
            pulse.fair,
            waits,
            self._out.taken() if waits else 0,
            self.messages_in + self.messages_out + self._protocol.arrived(),
            self._inbox.waiting > 0,
            self._reading == NOT_READ,
        )
        if verdict == NOTHING:
            return
        if verdict == TIME_TO_PING:
            self._protocol.reply(frame(FIN | PING, os.urandom(4)))
            self._write_replies()
        elif verdict == IDLE:
            self._close(GOING_AWAY, "idle", "server")
        elif verdict == SILENT:
            self._close(INTERNAL_ERROR, "no answer to a ping", "server")
            # The peer will not answer the close frame either, or take what waits for it.
            self._watch.end(pulse.time() + min(SILENT_SECONDS, pulse.limits.close_timeout), 0)
            error_log.info("WebSocket closed: no answer to a ping (1011)")
        else:
            self._end(CUT, ABNORMAL_CLOSURE, "", "server")
            self.abort()
            error_log.info("WebSocket cut off: the client reads nothing")

    def _rest_deflator(self) -> None:
        """Free a deflator that was idle for long.

        The next one begins with an empty window, and what it writes never refers to
        what the client remembers: that costs some bytes, and needs no agreement.
        """
        if self.messages_out != self._sent:
            self._sent = self.messages_out
            self._deflator_used = self._pulse.fair
        elif self._pulse.fair - self._deflator_used >= DEFLATOR_SECONDS:
            self._deflator = None
