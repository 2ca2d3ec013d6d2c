"""The pages that may open a WebSocket: the Origin header and the list of ``--ws-origins``.

A browser lets every page open a WebSocket to every server, and sends the user's cookies
along. The server can refuse a page by its origin, and this is the only protection (RFC 6455
section 10.2). A client that sends no Origin is let in. It is not a browser, and could send
any origin that it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from .host import ANY, one_form, split_port

SAME_HOST: Final = "same-host"
NULL: Final = "null"  # a sandboxed frame, a local file, a page that hides where it is from

_FORM: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.\-]*)://((?:\[[^\]]*\]|[^:\[\]]*)(?::0*[0-9]{1,5})?)"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """An origin in its one form: lower case, punycode, the port as a number."""

    scheme: str
    host: str
    port: int | None


def parse(text: str) -> Origin:
    """The origin that ``text`` stands for (RFC 6454 section 4); raises ValueError if none."""
    unfit = ValueError(f"{text} is not an origin: expected scheme://host or scheme://host:port")
    match = _FORM.fullmatch(text)
    if match is None:
        raise unfit
    scheme = match[1].lower()
    host, port = split_port(match[2])
    number = int(port) if port else _DEFAULT_PORTS.get(scheme)
    try:
        if host or scheme in _DEFAULT_PORTS:  # file:// has no host
            host = one_form(host)
    except ValueError:
        raise unfit from None
    if number is not None and number > 65535:
        raise unfit
    return Origin(scheme, host, number)


class Origins:
    """The allow-list: ``*``, ``same-host``, ``null``, origins, and ``https://*.example.com``."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError, with a message for the user, if one of them is not an entry."""
        self._any = self._same_host = self._null = False
        self._exact: set[Origin] = set()
        self._below: list[Origin] = []  # hosts that begin with a dot
        for entry in entries:
            if entry == ANY:
                self._any = True
            elif entry.lower() == SAME_HOST:
                self._same_host = True
            elif entry.lower() == NULL:
                self._null = True
            else:
                self._add(entry)

    def _add(self, entry: str) -> None:
        scheme, below, host = entry.partition("://*.")
        if "*" in (host if below else entry) or (below and not host):
            raise ValueError(
                f"{entry}: a * may only stand for subdomains, as in https://*.example.com"
            )
        origin = parse(f"{scheme}://{host}" if below else entry)
        if origin.scheme in ("ws", "wss"):
            raise ValueError(f"{entry}: an origin begins with http:// or https://")
        if below:
            self._below.append(origin._replace(host="." + origin.host))
        else:
            self._exact.add(origin)

    def allow(self, headers: Iterable[tuple[bytes, bytes]], secure: bool) -> bool:
        """Return whether a request with these headers may open a WebSocket.

        ``secure``: it came by TLS, perhaps only to a trusted proxy. More than one Origin, or a
        malformed one, matches no entry.
        """
        if self._any:
            return True
        given = [value for name, value in headers if name == b"origin"]
        if not given:
            return True
        if len(given) > 1:
            return False
        if given[0] == b"null":
            return self._null
        try:
            origin = parse(given[0].decode("ascii"))
            if origin in self._exact or any(_is_below(origin, parent) for parent in self._below):
                return True
            return self._same_host and origin == _own(headers, secure)
        except ValueError:
            return False


def _is_below(origin: Origin, parent: Origin) -> bool:
    return (
        origin.scheme == parent.scheme
        and origin.port == parent.port
        and origin.host.endswith(parent.host)
        and len(origin.host) > len(parent.host)
    )


def _own(headers: Iterable[tuple[bytes, bytes]], secure: bool) -> Origin:
    """The origin of a page that this server, or the proxy before it, has served itself."""
    host = next(value for name, value in headers if name == b"host")
    return parse(f"{'https' if secure else 'http'}://{host.decode('ascii').removesuffix(':')}")
