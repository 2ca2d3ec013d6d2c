"""One lingering close, of HTTP and of WebSocket, of plain TCP and of TLS.

A socket that is closed with unread input is reset, and the reset may overtake the last bytes
that were written. So a FIN is sent, and bytes that still arrive are dropped until the peer's own
FIN. An ``Ending`` waits for a peer that reads, or that is still sending what it had begun, and cuts
off a peer that does neither.

TLS cannot be closed one way. ``close()`` sends a close_notify behind all that waits, and
the connection ends when the peer's has come. But bytes that the peer sends after it make
asyncio reset the connection. So the transport is left open while the peer speaks. The
event loop's own deadline for the end of TLS counts from the ``close()``, even if bytes still move.
It is set out of reach (TLS_SHUTDOWN_SECONDS), and this one is in its place.
"""

from __future__ import annotations

from typing import Any, Final

from .progress import unacknowledged

TLS_SHUTDOWN_SECONDS: Final = 3600.0

# A peer's bytes prolong the end by that long in all; nginx allows the same.
SPEAKING_SECONDS: Final = 30.0
# Most connections are over by then, and the kernel need not be asked what they hold.
FIRST_LOOK_SECONDS: Final = 0.1

# The steps that were taken with the transport.
HELD: Final = 0  # nothing yet: TLS, and the peer speaks
CLOSING: Final = 1  # it will send a FIN, or a close_notify, behind what waits
CUT: Final = 2

UNKNOWN: Final = -1


class Ending:
    """The end of one connection whose last bytes are written to ``transport``.

    The owner drops what still comes (``heard`` may be called for it), and calls ``look``
    when it is due. The transport calls the protocol's ``connection_lost`` as ever.
    """

    __slots__ = (
        "_heard",
        "_look_after",
        "_patience",
        "_since",
        "_speaks_until",
        "_state",
        "_stuck",
        "_transport",
        "_unacknowledged",
        "_unwritten",
        "interval",
    )

    def __init__(
        self,
        transport: Any,
        now: float,
        patience: float,
        stuck: float | None,
        *,
        speaking: bool = False,
        silent: bool = False,
        fin: bool = False,
    ) -> None:
        """Begin it at the time ``now``.

        ``patience`` are the seconds without a movement after which the peer is cut off. ``stuck``
        are the same while bytes wait for the peer, None for no end. ``speaking``: the peer is in
        the middle of sending something. ``silent``: nothing more can come from it, because its FIN
        has come or it was asked for nothing, so lingering is not needed. ``fin``: a FIN is sent.
        """
        self._transport = transport
        self._patience = patience
        self._stuck = float("inf") if stuck is None else stuck
        self._look_after = min(self._patience, self._stuck)
        self._heard = False
        self._since = now
        self._speaks_until = now + SPEAKING_SECONDS
        self._state = CLOSING
        if silent:
            self._close()
        elif transport.can_write_eof():
            try:
                if not fin:
                    transport.write_eof()
                transport.resume_reading()
            except (OSError, RuntimeError):
                self._cut()  # the peer has reset the connection, and it is not noticed yet
        else:
            transport.resume_reading()
            if speaking:
                self._state = HELD
            else:
                self._close()
        # Bytes that the peer has not taken, in the transport and in the kernel.
        self._unwritten = transport.get_write_buffer_size()
        self._unacknowledged = UNKNOWN
        #: the seconds after which to look for the first time
        self.interval = self._look_after
        if self._unwritten:
            self._unacknowledged = unacknowledged(transport)
        elif not (silent and transport.can_write_eof()):  # a silent peer's TCP ends at once
            self.interval = min(self._look_after, FIRST_LOOK_SECONDS)

    def heard(self) -> None:
        """Bytes have come, and were dropped: the peer is still at it."""
        self._heard = True

    def look(self, now: float) -> float:
        """Judge; the seconds after which to look again, or 0.0: the connection has been cut."""
        if self._state == CUT:
            return 0.0
        unwritten = self._transport.get_write_buffer_size()
        held = unacknowledged(self._transport)
        if unwritten != self._unwritten or held != self._unacknowledged:
            if self._unacknowledged != UNKNOWN or unwritten != self._unwritten:
                self._since = now
            self._unwritten = unwritten
            self._unacknowledged = held
        if self._heard and now < self._speaks_until:
            self._since = now
        self._heard = False
        waits = unwritten > 0
        if not waits and not self._transport.can_write_eof():
            # Encrypted bytes may wait below TLS, where we cannot look.
            waits = held > 0
        left = self._since + (self._stuck if waits else self._patience) - now
        if left > 0.0:
            return min(left, self._look_after)
        if self._state == HELD and not waits:
            self._state = CLOSING
            self._close()
            self._since = now
            return self._look_after
        self._cut()
        return 0.0

    def _close(self) -> None:
        # asyncio's TLS transport does not survive a second close().
        if not self._transport.is_closing():
            self._transport.close()

    def _cut(self) -> None:
        self._state = CUT
        self._transport.abort()
