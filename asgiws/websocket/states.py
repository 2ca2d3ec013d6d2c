"""The two tables of a session: what the application may send, and how the connection ends.

They are consulted for rare events only; messages on an open connection pass them by.
The values of ``standing`` are here, too, by which a drain sees HTTP and WebSocket connections.
"""

from __future__ import annotations

from typing import Final

# The application's side.
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

# The link to the peer, in the order in which it ends. Up to FAILING the application may
# send; from CLOSING on the last event of ``receive`` is settled.
OPENING: Final = 0  # the handshake is undecided, and the connection HTTP's
OPEN: Final = 1
FAILING: Final = 2  # the peer broke the protocol; what came before may still be answered
DEPARTED: Final = 3  # the peer has left; what it sent is still delivered
CLOSING: Final = 4  # our close frame is out, the peer's is awaited; data are skipped
LINGERING: Final = 5  # nothing more is read or written; the end of the connection is awaited
OVER: Final = 6

# The events of the link.
OPENED: Final = 0  # the 101 is written
REFUSED: Final = 1  # the handshake ended without one
BROKE: Final = 2  # the peer broke the protocol while the application is at work
FAILED: Final = 3  # the peer broke the protocol, and no answer is waited for
CLOSED: Final = 4  # the peer's close frame has come
CLOSE: Final = 5  # our close frame goes out
LEFT: Final = 6  # no more bytes will come; the last ones are not parsed yet
FINISHED: Final = 7  # no more bytes will come, and all are parsed
CUT: Final = 8  # the peer is given up
LOST: Final = 9  # the connection is gone, and all is parsed

# link -> event -> link; what is not here changes nothing.
LINKS: Final[dict[int, dict[int, int]]] = {
    OPENING: {OPENED: OPEN, REFUSED: OVER, LOST: OVER},
    OPEN: {
        BROKE: FAILING,
        FAILED: LINGERING,
        CLOSED: LINGERING,
        CLOSE: CLOSING,
        LEFT: DEPARTED,
        FINISHED: LINGERING,
        CUT: LINGERING,
        LOST: OVER,
    },
    # A close of ours, or the peer's departure, comes after the failure.
    FAILING: {FAILED: LINGERING, CUT: LINGERING, LOST: OVER},
    DEPARTED: {
        FAILED: LINGERING,
        CLOSED: LINGERING,
        CLOSE: LINGERING,
        FINISHED: LINGERING,
        CUT: LINGERING,
        LOST: OVER,
    },
    CLOSING: {
        FAILED: LINGERING,
        CLOSED: LINGERING,
        FINISHED: LINGERING,
        CUT: LINGERING,
        LOST: OVER,
    },
    LINGERING: {LOST: OVER},
    OVER: {},
}

# The behaviour of a connection when the server drains.
LETS_GO: Final = 0  # it ends by itself, or has been told to
PENDING: Final = 1  # it is good to wait for: a handshake is undecided, or a request may come
BUSY: Final = 2  # it ends when it is told to; a message is on its way, or being answered
RESTING: Final = 3  # it ends when it is told to, and is between two messages

# How much is read from the peer.
PARSED: Final = 0
KEPT: Final = 1  # the queue is at its mark: bytes are kept as they are
NOT_READ: Final = 2  # so are as many bytes as may be

# The outcome of a message that is offered to a session, beside those of its application.
TAKEN: Final = 0
FULL: Final = 1  # the transport is over its mark: it would have to wait
GONE: Final = 2  # nothing can be sent any more
