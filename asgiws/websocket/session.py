"""One WebSocket as the application sees it: events, flow control, closing, keepalive.

In: the event loop -> ``data_received`` -> messages (``wire.protocol``) -> a queue
-> ``receive``. Out: ``send`` -> a frame -> ``transport.write``. While the opening
handshake is undecided the connection belongs to HTTP, and what the application
answers is handed to an ``Opening``; ``opened`` is called once the 101 is written.

Reading: messages are parsed ahead of the application, so that pings are answered
and departures seen even if nobody receives, until the queue reaches its mark
(``max_queue`` messages or QUEUE_BYTES). Then parsing stops, and when 64 KiB of
unparsed bytes have piled up, so does reading.

Writing is the ``Outbox``'s; ``send`` waits while the transport is over its high-water
mark.

Only what every asyncio transport has is used of the transport.
"""

from __future__ import annotations

import asyncio
import os
import random
from asyncio import Future, InvalidStateError, get_running_loop
from collections.abc import Iterable
from typing import Any, Final

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..asgi import Event
from ..errors import ASGIError, ClientDisconnected
from ..log import error_log
from ..transport.outbox import CORK_BYTES, Outbox
from ..wire import deflate
from ..wire.errors import (
    ABNORMAL_CLOSURE,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL_CLOSURE,
    SERVICE_RESTART,
)
from ..wire.frames import FIN, PING, frame, header, text_frame
from ..wire.protocol import CLOSED, FAILED, Protocol
from .events import close_arguments, expected, tells_of_disconnect, unencodable
from .limits import Group

# The application's side of the session.
CONNECTING: Final = 0  # neither accepted nor denied
DENYING: Final = 1  # websocket.http.response.start was sent
ACCEPTED: Final = 2
ENDED: Final = 3  # the application closed, or has denied

# (state, event) -> state; what is not here is out of order. A close while
# CONNECTING and a body that ends while DENYING lead to ENDED.
SENDS: Final = {
    (CONNECTING, "websocket.accept"): ACCEPTED,
    (CONNECTING, "websocket.close"): ENDED,
    (CONNECTING, "websocket.http.response.start"): DENYING,
    (DENYING, "websocket.http.response.body"): DENYING,
    (ACCEPTED, "websocket.send"): ACCEPTED,
    (ACCEPTED, "websocket.close"): ENDED,
}

QUEUE_BYTES: Final = 65_536
BACKLOG_BYTES: Final = 65_536
# Places of taken messages that stay at the queue's front, to be freed together: while it
# is empty, and where it never is.
TAKEN_WHEN_EMPTY: Final = 8
TAKEN_AT_MOST: Final = 256

# How long the answers to what came before a protocol error may keep the failure waiting.
FAILING_TICKS: Final = 2

# After so much without a wait, receive and send let the event loop come round.
BUDGET_MESSAGES: Final = 64
BUDGET_BYTES: Final = 262_144


def _is_message(event: Any) -> bool:
    """Whether it is a websocket.send event."""
    known: dict[str, Any]
    if not isinstance(event, dict):
        return False
    known = event
    return bool(known.get("type") == "websocket.send")


class WebSocket:
    """The asyncio protocol of an open WebSocket, and its ASGI ``receive`` and ``send``.

    The counters and ``close_code``, ``closed_by`` and ``subprotocol`` are for the
    session's line in the access log. Bytes are those of payloads, inflated.
    """

    __slots__ = (
        "__weakref__",
        "_agreed",
        "_budget",
        "_budget_bytes",
        "_connect_due",
        "_countdown",
        "_deflator",
        "_deflator_rest",
        "_discarding",
        "_disconnected",
        "_failing",
        "_filling",
        "_gone",
        "_group",
        "_head",
        "_heard",
        "_idle",
        "_lingering",
        "_loop",
        "_moved",
        "_opening",
        "_out",
        "_ping_in",
        "_pong_in",
        "_protocol",
        "_queue",
        "_queued_bytes",
        "_reading",
        "_sent",
        "_state",
        "_stopped",
        "_stuck",
        "_taken",
        "_transport",
        "_waiter",
        "_waiters_behind",
        "bytes_in",
        "bytes_out",
        "close_code",
        "close_reason",
        "closed_by",
        "messages_in",
        "messages_out",
        "subprotocol",
    )

    def __init__(self, group: Group, opening: Any, agreed: deflate.Agreed | None) -> None:
        """``opening`` is asked while CONNECTING; ``agreed`` are the parameters of RFC 7692."""
        self._group = group
        self._loop = group.loop
        self._opening = opening
        self._agreed = agreed
        self._deflator: deflate.Deflator | None = None
        inflator: deflate.Inflator | None = None
        if agreed is not None and group.deflate is not None:
            inflator = deflate.Inflator(agreed, group.deflate.library)
        self._protocol = Protocol(group.max_size, inflator)
        self._transport: Any = None
        self._state = CONNECTING
        self._connect_due = True  # websocket.connect has not been received
        self._disconnected = False  # it is settled what receive ends with
        self._discarding = False  # we have closed: messages that still come are dropped
        self._failing = False  # the peer broke the protocol, the application is still at work
        self._lingering = False  # both sides are done, the FIN is sent
        self._gone = False  # the peer has left
        self.close_code = ABNORMAL_CLOSURE
        self.close_reason = ""
        self.closed_by = "client"
        self.subprotocol: str | None = None
        self.messages_in = self.bytes_in = self.messages_out = self.bytes_out = 0
        # In.
        self._queue: list[Any] = []
        self._head = 0
        self._queued_bytes = 0
        self._waiter: Future[None] | None = None  # of the receive that is served next
        self._waiters_behind: list[Future[None]] = []
        self._stopped = False  # the queue is at its mark: nothing is parsed
        self._reading = True
        self._filling = False  # what the loop reads next goes straight into a message
        self._out = Outbox(group)
        # What lets others run.
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        # Ticks.
        self._heard = True
        self._ping_in = 0
        self._pong_in = 0
        self._countdown = 0
        self._taken = 0  # bytes that the peer had taken at the last tick
        self._stuck = 0  # ticks since it took any, while some wait
        self._moved = 0  # messages in and out at the last tick
        self._idle = 0  # ticks without one
        self._sent = 0  # messages out at the last tick
        self._deflator_rest = 0  # ticks in which the deflator had nothing to do
        if group.accept_ticks:
            self._countdown = group.accept_ticks
            group.add(self)

    # What the application calls.

    async def receive(self) -> Event:
        """The next event: connect, receive, ..., disconnect; the last one again and again.

        Concurrent calls are served in order; a cancelled one loses nothing.
        """
        waiter: Future[None]
        if self._failing and not self._ready():
            self._fail()
        if self._waiter is not None or not self._ready():
            self._out.flush()
            self._budget = BUDGET_MESSAGES
            self._budget_bytes = BUDGET_BYTES
            # Both loops would make this very future, at twice the price.
            waiter = Future() if get_running_loop() is self._loop else self._loop.create_future()
            if self._waiter is None:
                self._waiter = waiter
            else:
                self._waiters_behind.append(waiter)
            try:
                await waiter
            except BaseException:
                self._leave(waiter)
                self._wake()
                raise
            self._leave(waiter)
        elif self._budget <= 0 or self._budget_bytes <= 0:
            await self._come_round()
            return await self.receive()  # others have run: look again
        event = self._take()
        if self._waiter is not None:
            self._wake()
        return event

    async def send(self, event: Event) -> None:
        """Send one event; waits while the client does not read.

        Raises ClientDisconnected, an OSError, once the client is gone or the
        connection is closing (ASGI 2.4), and ASGIError for an event that is
        malformed or out of order.
        """
        if (
            self._state == ACCEPTED
            and not self._disconnected
            and not self._gone
            and _is_message(event)
        ):
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
                self._out.write(data, self._head < len(self._queue))
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
        settings = self._group.deflate
        if self._agreed is not None and settings is not None and size >= settings.min_size:
            if self._deflator is None:
                self._deflator = deflate.Deflator(self._agreed, settings)
            data = self._deflator.deflate(data)
            first |= 0x40
            size = len(data)
        if size < CORK_BYTES:
            self._out.write(frame(first, data), self._head < len(self._queue))
        else:
            self._out.write_large(header(first, size), data)

    def _count_out(self, size: cython.Py_ssize_t) -> None:
        self.messages_out += 1
        self.bytes_out += size
        self._budget -= 1
        self._budget_bytes -= size

    async def _send_rarely(self, event: Event) -> None:
        """Everything but a message on an open connection."""
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise ASGIError(f"expected an event, a dict with a type (str), got {event!r:.200}")
        kind = event["type"]
        if (self._state, kind) not in SENDS:
            allowed = " or ".join(name for state, name in SENDS if state == self._state)
            raise ASGIError(f"expected {allowed or 'nothing more'}, got {kind!r:.200}")
        if self._disconnected or self._gone:
            if kind == "websocket.close":
                self._state = ENDED  # it is closed, as was asked for
                return
            await self._come_round()  # an application may try again and again
            raise ClientDisconnected(f"the client is gone ({self.close_code})")
        if kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            if self._state == ACCEPTED:
                code, reason = close_arguments(event)
                self._close(code, reason, "server")
            else:
                # A 403 has no place for a code and a reason; FastAPI's reason is a list here.
                self._opening.refuse(403)
                self._disconnect(ABNORMAL_CLOSURE, "", "server")
            self._state = ENDED
        elif kind == "websocket.http.response.start":
            self._opening.respond_start(event.get("status"), event.get("headers", ()))
            self._state = DENYING
            self._countdown = 0
        else:
            more = event.get("more_body", False)
            await self._opening.respond_body(event.get("body", b""), more)
            if not more:
                self._state = ENDED
                self._disconnect(ABNORMAL_CLOSURE, "", "server")

    def _accept(self, event: Event) -> None:
        subprotocol = event.get("subprotocol")
        if subprotocol is not None and not isinstance(subprotocol, str):
            raise expected("subprotocol to be a str or None", event)
        headers: Iterable[tuple[bytes, bytes]] = event.get("headers") or ()
        self._state = ACCEPTED
        try:
            self._opening.accept(self, subprotocol, headers)
        except BaseException:
            self._state = CONNECTING
            raise
        self.subprotocol = subprotocol

    # What HTTP calls.

    def opened(self, transport: Any, write_paused: bool, trailing: bytes) -> None:
        """The 101 is written and the transport is ours; ``trailing`` came behind the request."""
        group = self._group
        self._transport = self._out.transport = transport
        self._out.paused = write_paused
        self._protocol.hold_pongs = write_paused
        self._countdown = 0
        if group.ping_ticks:
            # Not all at once, and none before the connection has been there for a while.
            self._ping_in = group.ping_ticks - int(random.random() * (group.ping_ticks // 2))
        group.add(self)
        if trailing:
            self.data_received(trailing)

    def client_left(self) -> None:
        """The client went away before the application had decided."""
        self._disconnect(ABNORMAL_CLOSURE, "", "client")

    def shutdown(self) -> None:
        """The server stops: tell the application and the peer, 1012; or refuse, 503."""
        if self._disconnected:
            return
        if self._state == ACCEPTED:
            self._close(SERVICE_RESTART, "", "server")
        elif self._state == CONNECTING:
            self._disconnect(SERVICE_RESTART, "", "server")
            self._opening.refuse(503)

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def app_done(self, task: asyncio.Task[None]) -> None:
        """The application has returned, raised or been cancelled: answer the peer for it."""
        failed = task.cancelled()
        exc = None if failed else task.exception()
        if exc is not None and not tells_of_disconnect(exc):
            failed = True
            error_log.error("Exception in ASGI application", exc_info=exc)
        if self._disconnected:
            return
        if self._state == ACCEPTED:
            self._close(INTERNAL_ERROR if failed else NORMAL_CLOSURE, "", "server")
        elif self._state != ENDED:
            if not failed:
                error_log.error(
                    "the application returned without %s",
                    "an answer to websocket.connect"
                    if self._state == CONNECTING
                    else "the end of its denial response",
                )
            self._opening.refuse(500)
            self._disconnect(ABNORMAL_CLOSURE, "", "server")
        self._state = ENDED

    # What the transport calls (asyncio.Protocol).

    def connection_made(self, transport: Any) -> None:
        """Never called: the transport comes by ``opened``."""

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._out.wrote = False
        self._protocol.receive_data(data)
        self._parse()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the event loop shall read to: a large message, or the group's buffer.

        uvloop asks whoever has this method; asyncio, which asks by class, calls
        ``data_received``.
        """
        if not self._stopped and not self._discarding:
            room = self._protocol.room()
            if room is not None:
                self._filling = True
                return room
        self._filling = False
        return self._group.buffer_view

    def buffer_updated(self, size: cython.Py_ssize_t) -> None:
        if self._filling:
            self._heard = True
            self._out.wrote = False
            self._protocol.filled(size)
            self._parse()
        elif cython.compiled:
            self._heard = True
            self._out.wrote = False
            self._protocol.receive_lent(self._group.buffer, size)
            self._parse()
            self._protocol.settle()
        else:
            self.data_received(bytes(self._group.buffer_view[:size]))

    def eof_received(self) -> bool:
        """The peer sends nothing more; the transport writes what it has and closes itself."""
        if self._failing:
            self._fail()
        self._out.flush()
        self._peer_left()
        if not self._countdown:
            self._countdown = self._group.close_ticks
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._peer_left()
        self._group.members.discard(self)
        self._deflator = None
        self._opening.ended(self)

    def pause_writing(self) -> None:
        self._out.paused = True
        self._protocol.hold_pongs = True

    def resume_writing(self) -> None:
        self._protocol.release_pongs()
        self._write_replies()
        self._out.resume()

    # In.

    def _ready(self) -> bool:
        return self._head < len(self._queue) or self._disconnected or self._connect_due

    def _peer_left(self) -> None:
        """No more bytes will come; what waits behind a full queue is still delivered."""
        self._gone = True
        if self._failing:
            self._fail()
        self._out.lose()
        if not self._stopped:
            self._disconnect(ABNORMAL_CLOSURE, "", "client")

    def _parse(self) -> None:
        """Parse what has been received, up to the marks."""
        protocol: Protocol = self._protocol
        queue: list[Any] = self._queue
        size: cython.Py_ssize_t
        max_queue: cython.Py_ssize_t = self._group.max_queue
        self._stopped = False
        while True:
            if not self._discarding and (
                len(queue) - self._head >= max_queue or self._queued_bytes >= QUEUE_BYTES
            ):
                self._stopped = True
                break
            message = protocol.next_message()
            if message is None:
                break
            if self._discarding:
                continue
            size = len(message)
            self.messages_in += 1
            self.bytes_in += protocol.size
            self._queued_bytes += size
            queue.append(message)
        if protocol.state == FAILED and self._is_at_work():
            if not self._failing:
                self._failing = True
                self._countdown = FAILING_TICKS
        elif protocol.replies:
            self._write_replies()
        if protocol.state >= CLOSED and not self._failing:
            self._peer_is_done()
        elif self._gone and not self._stopped:
            self._disconnect(ABNORMAL_CLOSURE, "", "client")
        self._regulate_reading()
        if self._waiter is not None:
            self._wake()

    def _regulate_reading(self) -> None:
        if self._stopped:
            if (
                self._reading
                and self._transport is not None
                and self._protocol.backlog() > BACKLOG_BYTES
            ):
                self._reading = False
                self._transport.pause_reading()
        elif not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def _take(self) -> Event:
        """The event for ``receive``; there is one."""
        size: cython.Py_ssize_t
        self._budget -= 1
        if self._connect_due:
            self._connect_due = False
            return {"type": "websocket.connect"}
        if self._head < len(self._queue):
            message = self._queue[self._head]
            self._queue[self._head] = None
            self._head += 1
            size = len(message)
            self._queued_bytes -= size
            self._budget_bytes -= size
            if self._head >= TAKEN_WHEN_EMPTY and (
                self._head == len(self._queue) or self._head >= TAKEN_AT_MOST
            ):
                del self._queue[: self._head]
                self._head = 0
            if (
                self._stopped
                and self._queued_bytes <= QUEUE_BYTES // 2
                and 2 * (len(self._queue) - self._head) <= self._group.max_queue
            ):
                del self._queue[: self._head]
                self._head = 0
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
        if self._failing and self._waiter is not None and not self._ready():
            self._fail()
        if self._waiter is not None and self._ready():
            try:
                self._waiter.set_result(None)
            except InvalidStateError:
                pass  # it is woken already, or cancelled

    def _leave(self, waiter: Future[None]) -> None:
        """A ``receive`` waits no longer; the next one is served first now."""
        if waiter is not self._waiter:
            self._waiters_behind.remove(waiter)
        elif self._waiters_behind:
            self._waiter = self._waiters_behind.pop(0)
        else:
            self._waiter = None

    # Out.

    def _write_replies(self) -> None:
        """Write pongs and close frames, behind what is corked."""
        replies = self._protocol.replies
        if replies and not self._failing:
            self._protocol.replies = []
            if not self._gone:
                self._out.write_all(replies)

    async def _drain(self) -> None:
        """Wait until the transport takes more, or the client is gone."""
        while self._out.paused and not self._disconnected and not self._gone:
            await self._out.wait()
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        if self._disconnected or self._gone:
            raise ClientDisconnected(f"the client is gone ({self.close_code})")

    async def _come_round(self) -> None:
        """Let the event loop run what else is due."""
        self._budget = BUDGET_MESSAGES
        self._budget_bytes = BUDGET_BYTES
        await asyncio.sleep(0)

    # Closing.

    def _disconnect(self, code: cython.Py_ssize_t, reason: str, by: str) -> None:
        """Nothing can be sent any more, and the application is told why; the first word counts."""
        if self._disconnected:
            return
        self._disconnected = True
        self.close_code = code
        self.close_reason = reason
        self.closed_by = by
        self._out.wake()
        if self._transport is None:
            self._group.members.discard(self)
        self._wake()

    def _close(self, code: cython.Py_ssize_t, reason: str, by: str) -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2); the deadline runs."""
        if self._failing:
            self._fail()
            return
        self._disconnect(code, reason, by)
        self._discarding = True
        self._protocol.close(code, reason)
        self._write_replies()
        self._countdown = self._group.close_ticks
        self._parse()  # what waited behind a full queue may be the peer's close frame

    def _is_at_work(self) -> bool:
        """Whether the application has messages to read, or one that it may be answering.

        If so, the failure of the connection waits until it receives again, for
        FAILING_TICKS at most: answers to what came before the error are still sent.
        """
        return not self._disconnected and (
            self._failing
            or self._head < len(self._queue)
            or (self.messages_in > 0 and self._waiter is None)
        )

    def _fail(self) -> None:
        """The application is done with what came before the peer's error."""
        self._failing = False
        self._countdown = 0
        self._write_replies()
        self._peer_is_done()

    def _peer_is_done(self) -> None:
        """The peer's close frame has come, or it broke the protocol."""
        protocol: Protocol = self._protocol
        by = "server" if protocol.state == FAILED else "client"
        self._disconnect(protocol.close_code, protocol.close_reason, by)
        self._linger()

    def _linger(self) -> None:
        """Close the TCP connection without losing what we wrote last (section 7.1.1).

        Closing a socket with unread input resets the connection, and the reset may
        overtake the close frame: send a FIN, read and drop until the peer's, or
        until the deadline.
        """
        if self._lingering or self._transport is None:
            return
        self._lingering = True
        if not self._countdown:
            self._countdown = self._group.close_ticks
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # asyncio's raises if the peer has reset the connection
                self._transport.abort()
        else:
            self._transport.close()

    def on_tick(self) -> None:
        """One tick of the group's timer has passed: look at all deadlines."""
        if self._countdown:
            if self._transport is not None and self._takes():
                return  # what was written before the close frame is being read
            self._countdown -= 1
            if not self._countdown:
                if self._transport is None:
                    error_log.warning("WebSocket refused: the application never accepted it (504)")
                    self._opening.refuse(504)
                    self._disconnect(ABNORMAL_CLOSURE, "", "server")
                elif self._failing:
                    self._fail()
                else:
                    self.abort()
        elif not self._disconnected and self._transport is not None:
            self._judge_writing()
            self._judge_idleness()
            if self._deflator is not None:
                self._rest_deflator()
            if self._reading and not self._disconnected:
                self._keep_alive()

    def _judge_writing(self) -> None:
        """Cut a peer off that takes nothing of what waits for it (``--timeout-write``)."""
        if self._takes():
            # It is alive, though its pong may be far behind.
            self._stuck = 0
            self._heard = True
            self._idle = 0
        elif self._out.is_empty():
            self._stuck = 0
        else:
            self._stuck += 1
            if self._stuck == self._group.write_ticks:
                error_log.info("WebSocket cut off: the client reads nothing")
                self._disconnect(ABNORMAL_CLOSURE, "", "server")
                self.abort()

    def _takes(self) -> bool:
        """Whether something waits for the peer, and it has taken some since the last tick."""
        taken: cython.Py_ssize_t
        if self._out.is_empty():
            return False
        taken = self._out.taken()
        if taken == self._taken:
            return False
        self._taken = taken
        return True

    def _judge_idleness(self) -> None:
        """Close when no message has passed for too long (``--ws-idle-timeout``)."""
        if not self._group.idle_ticks or self._disconnected:
            return
        moved: cython.Py_ssize_t = self.messages_in + self.messages_out
        if (
            moved != self._moved
            or self._head < len(self._queue)
            or (self._heard and self._protocol.in_message())
        ):
            self._moved = moved
            self._idle = 0
            return
        self._idle += 1
        if self._idle >= self._group.idle_ticks:
            self._close(GOING_AWAY, "idle", "server")

    def _rest_deflator(self) -> None:
        """Free a deflator that had nothing to do for long.

        The next one begins with an empty window, and what it writes never refers to
        what the client remembers: that costs some bytes, and needs no agreement.
        """
        if self.messages_out != self._sent:
            self._sent = self.messages_out
            self._deflator_rest = 0
            return
        self._deflator_rest += 1
        if self._deflator_rest >= self._group.deflator_ticks:
            self._deflator = None

    def _keep_alive(self) -> None:
        """Ping, and close when no pong or anything else has come in time."""
        group: Group = self._group
        if self._heard or self._stopped:
            self._heard = False
            self._pong_in = 0
        elif self._pong_in:
            self._pong_in -= 1
            if not self._pong_in:
                error_log.info("WebSocket closed: no answer to a ping (1011)")
                self._close(INTERNAL_ERROR, "no answer to a ping", "server")
                return
        if self._ping_in:
            self._ping_in -= 1
            if not self._ping_in:
                self._ping_in = group.ping_ticks
                if group.pong_ticks and not self._pong_in:
                    self._pong_in = group.pong_ticks + 1
                self._protocol.replies.append(frame(FIN | PING, os.urandom(4)))
                self._write_replies()
