"""The client of a request that a trusted proxy has forwarded: X-Forwarded-For and -Proto."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from .heads import Headers

Address = tuple[str, int]
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_SECURE: Final = {b"http": False, b"ws": False, b"https": True, b"wss": True}


class Proxies:
    """The peers whose forwarding headers are believed (``--forwarded-allow-ips``).

    ``allowed``: addresses and networks with commas between them, or ``*``. The peer of a Unix
    socket has no address; the permissions of the file decide who may connect there.
    """

    def __init__(self, allowed: str) -> None:
        items = [item.strip() for item in allowed.split(",") if item.strip()]
        self._everyone = "*" in items
        self._networks = [ipaddress.ip_network(i, strict=False) for i in items if i != "*"]
        #: ``_trust``, remembered: a proxy comes from few addresses, and often
        self.trust = lru_cache(1024)(self._trust)

    def _trust(self, address: str | None) -> bool:
        """Return whether the peer at ``address`` (None for a Unix socket) is believed."""
        if self._everyone or address is None:
            return True
        ip = _ip(address)
        return ip is not None and self._trust_ip(ip)

    def _trust_ip(self, ip: _IP) -> bool:
        return self._everyone or any(ip in network for network in self._networks)

    def client(self, forwarded: list[bytes]) -> Address | None:
        """The client according to all X-Forwarded-For values of a trusted peer's request.

        This is the rightmost address that is not trusted itself, because every proxy appends the
        address that called it; the leftmost if all are trusted. An entry that is not an address
        ends the list: nothing left of it can be believed.
        """
        found: Address | None = None
        for item in reversed(b",".join(forwarded).split(b",")):
            host, port = _host_and_port(item.decode("latin-1").strip())
            ip = _ip(host)
            host = host.partition("%")[0]  # a zone has a meaning only on its own host
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


def forwarded(
    headers: Headers, client: Address | None, secure: bool, proxies: Proxies
) -> tuple[Address | None, bool]:
    """Return the client, and whether it came by TLS, from a trusted peer's ``headers``.

    ``client`` and ``secure`` are those of the peer, used if the headers do not say them.
    """
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            hosts.append(value)
        elif name == b"x-forwarded-proto":
            # The nearest proxy has added the last one of a list.
            secure = _SECURE.get(value.rpartition(b",")[2].strip().lower(), secure)
    if hosts:
        client = proxies.client(hosts) or client
    return client, secure
