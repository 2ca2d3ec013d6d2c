"""A request and its connection as the application sees them: the ASGI scope.

What does not change from one request of a connection to the next is a ``Peer``,
made once. A trusted proxy is believed about the client and the scheme.
"""

from __future__ import annotations

import ipaddress
import os
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from .request import Headers, Request

Address = tuple[str, int]
Server = tuple[str, int | None]
Scope = dict[str, Any]
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# From 2.4 on Starlette's StreamingResponse stops listening for a disconnect, and an
# idle event stream would outlive its client.
HTTP_SPEC: Final = "2.3"
WEBSOCKET_SPEC: Final = "2.5"

_SECURE: Final = {b"http": False, b"ws": False, b"https": True, b"wss": True}


class Proxies:
    """The peers that are believed about whom they forward for (``--forwarded-allow-ips``).

    ``allowed``: addresses and networks with commas between them, or ``*``. The peer
    of a Unix socket has no address; who may connect there is the file system's matter.
    """

    def __init__(self, allowed: str) -> None:
        items = [item.strip() for item in allowed.split(",") if item.strip()]
        self._everyone = "*" in items
        self._networks = [ipaddress.ip_network(i, strict=False) for i in items if i != "*"]
        #: ``_trust``, remembered: a proxy comes from few addresses, and often
        self.trust = lru_cache(1024)(self._trust)

    def _trust(self, address: str | None) -> bool:
        """Whether the peer at ``address`` (None: of a Unix socket) is believed."""
        if self._everyone or address is None:
            return True
        ip = _ip(address)
        return ip is not None and self._trust_ip(ip)

    def _trust_ip(self, ip: _IP) -> bool:
        return self._everyone or any(ip in network for network in self._networks)

    def client(self, forwarded: list[bytes]) -> Address | None:
        """The client according to all X-Forwarded-For values of a trusted peer's request.

        That is the rightmost address that is not trusted itself, for every proxy
        appends the one it was called from; the leftmost if all are trusted. What is no
        address ends the list: whoever wrote it, nothing left of it can be believed.
        """
        found: Address | None = None
        for item in reversed(b",".join(forwarded).split(b",")):
            host, port = _host_and_port(item.decode("latin-1").strip())
            ip = _ip(host)
            if ip is None:
                if not item.strip():
                    continue
                break
            found = (host, port)
            if not self._trust_ip(ip):
                break
        return found


def _ip(host: str) -> _IP | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 peers as ::ffff:192.0.2.1.
    return getattr(ip, "ipv4_mapped", None) or ip


def _host_and_port(text: str) -> Address:
    """``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, port = text.split(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    return host, number if number < 65536 else 0


class Peer(NamedTuple):
    """What all scopes of one connection have in common.

    ``client`` is None on a Unix socket, whose ``server`` is (path, None). ``proxies``
    is None unless the peer is a trusted one.
    """

    client: Address | None
    server: Server | None
    secure: bool
    proxies: Proxies | None


def peer_of(peername: Any, sockname: Any, secure: bool, proxies: Proxies | None) -> Peer:
    """The Peer at ``peername``, connected to ``sockname`` (what the socket module calls them).

    ``secure``: by TLS. ``proxies`` is None with ``--no-proxy-headers``.
    """
    client: Address | None = None
    server: Server | None = None
    if isinstance(peername, (tuple, list)):
        client = (str(peername[0]), int(peername[1]))
    if isinstance(sockname, (tuple, list)):
        server = (str(sockname[0]), int(sockname[1]))
    elif sockname:
        server = (os.fsdecode(sockname), None)
    if proxies is not None and not proxies.trust(client[0] if client else None):
        proxies = None
    return Peer(client, server, secure, proxies)


def shown(client: Address | None) -> str:
    """A client for the log."""
    return f"{client[0]}:{client[1]}" if client else "-"


def http_scope(request: Request, peer: Peer, root_path: str, state: dict[str, Any]) -> Scope:
    """The scope of an HTTP request; ``state`` is copied."""
    raw_path, _, query_string = request.target.partition(b"?")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    client = peer.client
    secure = peer.secure
    if peer.proxies is not None:
        client, secure = _forwarded(request.headers, peer, peer.proxies)
    if root_path:
        path = root_path + path
        raw_path = root_path.encode() + raw_path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": HTTP_SPEC},
        "http_version": request.http_version,
        "server": peer.server,
        "client": client,
        "scheme": "https" if secure else "http",
        "method": request.method.decode("ascii"),
        "root_path": root_path,
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "headers": request.headers,
        "state": state.copy(),
        "extensions": {},
    }


def websocket_scope(
    request: Request, peer: Peer, root_path: str, state: dict[str, Any], subprotocols: list[str]
) -> Scope:
    """The scope of a WebSocket; ``state`` is copied."""
    scope = http_scope(request, peer, root_path, state)
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"] = {"version": "3.0", "spec_version": WEBSOCKET_SPEC}
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = subprotocols
    scope["extensions"] = {"websocket.http.response": {}}
    return scope


def _forwarded(headers: Headers, peer: Peer, proxies: Proxies) -> tuple[Address | None, bool]:
    """The client and whether it came by TLS, as a trusted peer tells it."""
    client = peer.client
    secure = peer.secure
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            hosts.append(value)
        elif name == b"x-forwarded-proto":
            # Of a list the last is the one that the nearest proxy has added.
            secure = _SECURE.get(value.rpartition(b",")[2].strip().lower(), secure)
    if hosts:
        client = proxies.client(hosts) or client
    return client, secure
