"""A request and its connection as the application sees them: the ASGI scope.

A ``Peer`` has the facts that do not change from one request of a connection to the next, and
is made once.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import unquote

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..asgi import Scope
from .forwarded import Address, Proxies, forwarded
from .notice import EXTENSION, DrainNotice
from .request import Request

Server = tuple[str, int | None]

# From 2.4 on Starlette's StreamingResponse stops listening for a disconnect, and an
# idle event stream would outlive its client.
HTTP_SPEC: Final = "2.3"
WEBSOCKET_SPEC: Final = "2.5"

# The keys of both scopes, in the order of the specification. A copy of such a dict is smaller than
# one that C makes at once, which keeps a hash of each key: a scope lives as long as a WebSocket.
_COMMON: Final = (
    *("type", "asgi", "http_version", "server", "client", "scheme", "root_path", "path"),
    *("raw_path", "query_string", "headers", "state", "extensions"),
)
_HTTP: Final[dict[str, Any]] = dict.fromkeys(_COMMON) | {"type": "http", "method": ""}
_WEBSOCKET: Final[dict[str, Any]] = dict.fromkeys(_COMMON) | {
    "type": "websocket",
    "subprotocols": None,
}

# It says that topics work here. In the scope of a WebSocket it is the object they write to.
TOPICS: Final = "asgiws.topics"


class Peer:
    """The facts that all scopes of one connection share.

    ``client`` is None on a Unix socket, whose ``server`` is (path, None). ``proxies``
    is None unless the peer is a trusted one.
    """

    __slots__ = ("client", "proxies", "secure", "server")

    def __init__(
        self, client: Address | None, server: Server | None, secure: bool, proxies: Proxies | None
    ) -> None:
        self.client = client
        self.server = server
        self.secure = secure
        self.proxies = proxies


def peer_of(peername: Any, sockname: Any, secure: bool, proxies: Proxies | None) -> Peer:
    """The Peer at ``peername``, connected to ``sockname``, as the socket module names them.

    ``secure``: by TLS. ``proxies`` is None with ``--no-proxy-headers``.
    """
    client: Address | None = None
    if isinstance(peername, (tuple, list)):
        client = (str(peername[0]), int(peername[1]))
    if proxies is not None and not proxies.trust(client[0] if client else None):
        proxies = None
    return Peer(client, server_of(sockname), secure, proxies)


def server_of(sockname: Any) -> Server | None:
    """The server's address in a scope, given it as the socket module names it."""
    if isinstance(sockname, (tuple, list)):
        return str(sockname[0]), int(sockname[1])
    return (os.fsdecode(sockname), None) if sockname else None


def shown(client: Address | None) -> str:
    """The client's address for the log."""
    return f"{client[0]}:{client[1]}" if client else "-"


def http_scope(
    request: Request,
    peer: Peer,
    root_path: str,
    state: dict[str, Any],
    notice: DrainNotice,
    pathsend: cython.bint = False,
) -> Scope:
    """The scope of an HTTP request; ``state`` is copied.

    ``pathsend``: the extension of that name is announced.
    """
    scope = _HTTP.copy()
    _describe(scope, request, peer, root_path, state)
    scope["asgi"] = {"version": "3.0", "spec_version": HTTP_SPEC}
    scope["method"] = request.method.decode("ascii")
    scope["extensions"] = extensions = {
        EXTENSION: notice,
        TOPICS: {},
        "http.response.early_hint": {},
        "http.response.trailers": {},
    }
    if pathsend:
        extensions["http.response.pathsend"] = {}
    return scope


def websocket_scope(
    request: Request,
    peer: Peer,
    root_path: str,
    state: dict[str, Any],
    notice: DrainNotice,
    subprotocols: list[str],
) -> Scope:
    """The scope of a WebSocket; ``state`` is copied."""
    scope = _WEBSOCKET.copy()
    _describe(scope, request, peer, root_path, state)
    scope["asgi"] = {"version": "3.0", "spec_version": WEBSOCKET_SPEC}
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = subprotocols
    scope["extensions"] = {EXTENSION: notice, "websocket.http.response": {}}
    return scope


def _describe(
    scope: Scope, request: Request, peer: Peer, root_path: str, state: dict[str, Any]
) -> None:
    """Put in what requests for a response and for a WebSocket have in common."""
    raw_path, _, query_string = request.target.partition(b"?")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    client = peer.client
    secure = peer.secure
    if peer.proxies is not None:
        client, secure = forwarded(request.headers, client, secure, peer.proxies)
    if root_path:
        path = root_path + path
        raw_path = root_path.encode() + raw_path
    scope["http_version"] = request.http_version
    scope["server"] = peer.server
    scope["client"] = client
    scope["scheme"] = "https" if secure else "http"
    scope["root_path"] = root_path
    scope["path"] = path
    scope["raw_path"] = raw_path
    scope["query_string"] = query_string
    scope["headers"] = request.headers
    scope["state"] = state.copy()
