"""One opening handshake on an HTTP connection: what the application decides, carried out.

A ``Session`` asks it while it is CONNECTING. It also keeps the few words for the
session's line in the access log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from ..errors import ASGIError
from ..log import access_log
from ..text import quoted
from ..wire import handshake
from .forwarded import Address
from .request import Request
from .response import Response, checked_headers
from .scope import shown

if TYPE_CHECKING:
    from ..websocket.session import Session
    from .connection import HTTPProtocol

# Of a 101 these are the server's to write.
_RESERVED: Final = {
    b"connection",
    b"content-length",
    b"sec-websocket-accept",
    b"sec-websocket-extensions",
    b"sec-websocket-protocol",
    b"transfer-encoding",
    b"upgrade",
}


class Opening:
    """Accepts, refuses or denies one request to open a WebSocket."""

    __slots__ = (
        "_client",
        "_connection",
        "_extensions",
        "_path",
        "_request",
        "_response",
        "_since",
        "_worker",
    )

    def __init__(
        self,
        connection: HTTPProtocol,
        request: Request,
        checked: handshake.Request,
        extensions: bytes | None,
        client: Address | None,
    ) -> None:
        """``extensions`` is what the response's Sec-WebSocket-Extensions is to say, if anything."""
        self._worker = connection.worker
        # Neither is needed, nor kept, once the WebSocket is open.
        self._connection: HTTPProtocol | None = connection
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
        connection = self._connection
        request = self._request
        assert connection is not None
        assert request is not None
        offered = request.subprotocols
        if subprotocol is not None and subprotocol not in offered:
            raise ASGIError(
                f"websocket.accept: expected subprotocol to be one of those offered, "
                f"{offered!r:.200}, got {subprotocol!r:.200}"
            )
        pairs = checked_headers(headers)
        given = {name for name, _ in pairs}
        if not _RESERVED.isdisjoint(given):
            raise ASGIError(
                f"websocket.accept: expected no header that is the server's to write, "
                f"got {sorted(_RESERVED & given)!r}"
            )
        worker = self._worker
        head = handshake.response(request, subprotocol, self._extensions, pairs)
        transport, trailing = connection.detach()
        transport.write(b"%b%b\r\n" % (head[:-2], worker.default_headers(given)))
        transport.set_protocol(websocket)
        worker.connections.add(websocket)
        connection.resume_reading()
        self._connection = self._request = self._extensions = None
        self._since = worker.loop.time()
        websocket.opened(transport, connection.write_paused, trailing)

    def refuse(self, status: int, reason: str = "") -> None:
        """Answer with an error of the server's own; a denial that has begun is cut off."""
        connection = self._connection
        if connection is None or connection.lost:
            return
        if self._response is not None and self._response.begun:
            connection.close()
        else:
            self._log(status)
            connection.refuse(status, reason)

    def respond_start(self, status: Any, headers: Any) -> None:
        """Take the head of a denial (websocket.http.response.start); raises ASGIError."""
        response = Response(b"GET", "1.1", False, self._worker.default_headers)
        response.start(status, headers)
        self._response = response

    async def respond_body(self, data: Any, more: Any) -> None:
        """Write a piece of its body; waits while the client does not read."""
        response = self._response
        connection = self._connection
        assert connection is not None
        assert response is not None
        begun = response.begun
        connection.write(response.body(data, more))
        if not begun:
            self._log(response.status)
        if not more:
            connection.close()
            if response.left:
                raise ASGIError(
                    f"expected {response.left} more bytes of body, as content-length says"
                )
        else:
            await connection.drained()

    def ended(self, websocket: Session) -> None:
        """The session is over: the worker forgets it, the access log gets its line."""
        self._worker.connections.discard(websocket)
        if not access_log.isEnabledFor(logging.INFO):
            return
        seconds = self._worker.loop.time() - self._since
        self._log(
            101,
            f"{f' subprotocol={websocket.subprotocol}' if websocket.subprotocol else ''}"
            f" {seconds:.1f}s in={websocket.messages_in}/{websocket.bytes_in}B"
            f" out={websocket.messages_out}/{websocket.bytes_out}B"
            f" close={websocket.close_code} by={websocket.closed_by}",
        )

    def _log(self, status: int, session: str = "") -> None:
        if access_log.isEnabledFor(logging.INFO):
            access_log.info(
                '%s - "WebSocket %s" %d%s',
                shown(self._client),
                quoted(self._path),
                status,
                session,
            )
