"""One opening handshake on an HTTP connection: it carries out the application's decision.

A ``Session`` asks it while it is CONNECTING. It also keeps the words for the session's line in
the access log.
"""

from __future__ import annotations

import logging
from typing import Any

from ..errors import ASGIError
from ..log import access_log
from ..text import counted
from ..websocket.session import Session
from ..wire import handshake
from .access import log_session
from .forwarded import Address
from .request import Request
from .response import Response, checked_headers
from .serving import Serving
from .stream import Stream


class Opening:
    """Accepts, refuses or denies one request to open a WebSocket."""

    __slots__ = (
        "_client",
        "_extensions",
        "_path",
        "_request",
        "_response",
        "_serving",
        "_since",
        "_stream",
    )

    def __init__(
        self,
        stream: Stream,
        serving: Serving,
        request: Request,
        checked: handshake.Request,
        extensions: bytes | None,
        client: Address | None,
    ) -> None:
        """``extensions`` is the value of the response's Sec-WebSocket-Extensions, if any."""
        self._serving = serving
        # Neither is needed or kept once the handshake is decided.
        self._stream: Stream | None = stream
        self._request: handshake.Request | None = checked
        self._extensions = extensions
        self._path = request.target
        self._client = client
        self._response: Response | None = None
        self._since = 0.0

    def accept(self, websocket: Session, subprotocol: str | None, headers: Any) -> None:
        """Write the 101 and hand the transport to ``websocket``.

        Raises ASGIError, before a byte is written, for a subprotocol that was not
        offered and for headers that may not be sent.
        """
        stream = self._stream
        request = self._request
        assert stream is not None
        assert request is not None
        offered = request.subprotocols
        if subprotocol is not None and subprotocol not in offered:
            raise ASGIError(
                f"websocket.accept: expected subprotocol to be one of those offered, "
                f"{offered!r:.200}, got {subprotocol!r:.200}"
            )
        pairs = checked_headers(headers)
        given = {name for name, _ in pairs}
        if not handshake.OWN_HEADERS.isdisjoint(given):
            raise ASGIError(
                f"websocket.accept: expected no header that the server sets itself, "
                f"got {sorted(handshake.OWN_HEADERS & given)!r}"
            )
        head = handshake.response(request, subprotocol, self._extensions, pairs)
        self._extensions = None
        self._decided()
        self._since = self._serving.loop.time()
        stream.hand_over(b"%b%b\r\n" % (head[:-2], self._serving.default_headers(given)), websocket)

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer with an error of the server's own; a denial that has begun is cut off."""
        stream = self._stream
        if stream is None or stream.lost():
            return
        self._decided()
        if self._response is not None and self._response.begun:
            stream.close()
        else:
            stream.refuse(status, reason)
            log_session(self._client, self._path, status)

    def respond_start(self, status: Any, headers: Any) -> None:
        """Take the head of a denial (websocket.http.response.start); raises ASGIError."""
        response = Response(b"GET", "1.1", False, self._serving.default_headers)
        response.start(status, headers)
        self._response = response

    async def respond_body(self, data: Any, more: Any) -> None:
        """Write a piece of its body; waits while the client does not read."""
        response = self._response
        stream = self._stream
        assert stream is not None
        assert response is not None
        more = bool(more)
        begun = response.begun
        stream.write(response.body(data, more))
        if not more:
            self._decided()
            stream.close()
        if not begun:
            log_session(self._client, self._path, response.status)
        if more:
            await stream.drained()
        elif response.left:
            missing = counted(response.left, "more byte")
            raise ASGIError(f"expected {missing} of body, as content-length says")

    def ended(self, websocket: Session) -> None:
        """The session is over: the server forgets it, the access log gets its line."""
        self._serving.forget(websocket)
        if not access_log.isEnabledFor(logging.INFO):
            return
        seconds = self._serving.loop.time() - self._since
        log_session(
            self._client,
            self._path,
            101,
            f"{f' subprotocol={websocket.subprotocol}' if websocket.subprotocol else ''}"
            f" {seconds:.1f}s in={websocket.messages_in}/{websocket.bytes_in}B"
            f" out={websocket.messages_out}/{websocket.bytes_out}B"
            f" close={websocket.close_code} by={websocket.closed_by}",
            {
                "subprotocol": websocket.subprotocol,
                "duration": seconds,
                "messages_in": websocket.messages_in,
                "bytes_in": websocket.bytes_in,
                "messages_out": websocket.messages_out,
                "bytes_out": websocket.bytes_out,
                "close_code": websocket.close_code,
                "closed_by": websocket.closed_by,
            },
        )

    def _decided(self) -> None:
        """Let go of the objects that are not needed any more, which would form a cycle."""
        self._stream = self._request = None
