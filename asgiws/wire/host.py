"""Hosts in HTTP (RFC 3986 section 3.2.2): their grammar, and the list of ``--allowed-hosts``.

A page can point a name of its own at any address, also at 127.0.0.1, and its browser
then takes the server there for the page's own server (DNS rebinding). Only the name in Host gives
this away, and the list is checked against it.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .grammar import count, span, table

ANY: Final = "*"

_PORT: Final = rb"(?::0*[0-9]{0,5})?"
_NAME_CHARS: Final = table(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;="
)
_DIGITS: Final = table(b"0123456789")
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
# An IPv6 address, perhaps with a zone (RFC 6874), or an address of the future.
_LITERAL: Final = re.compile(
    rb"\[(?:([0-9A-Fa-f:.]+)(?:%25(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2})+)?"
    rb"|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]" + _PORT
)
_ONE_FORM: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")


def is_host(value: bytes) -> bool:
    """True if ``value`` is a host that is not empty, perhaps with a port (RFC 9110 section 7.2)."""
    end: cython.Py_ssize_t
    if value[:1] != b"[":
        end = span(value, 0, _NAME_CHARS)
        if end and (end == len(value) or (value[end] == 58 and _is_port(value, end + 1))):
            return True
        name, _, port = value.partition(b":")
        if port and (not port.isdigit() or len(port.lstrip(b"0")) > 5):
            return False
        if b"%" in name:
            name = _ESCAPE.sub(b"x", name)
        return name != b"" and count(name, _NAME_CHARS) == len(name)
    match = _LITERAL.fullmatch(value)
    return match is not None and (match[1] is None or _is_ipv6(match[1].decode()))


def _is_port(value: bytes, start: cython.Py_ssize_t) -> bool:
    """Return whether a port of five digits at most, or nothing, follows ``start``."""
    size = len(value)
    if size - start > 5:
        return False
    return bool(span(value, start, _DIGITS) == size)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def split_port(text: str) -> tuple[str, str]:
    """A host and the digits of its port, which are empty if there is none."""
    host, colon, port = text.rpartition(":")
    return (host, port) if colon and "]" not in port else (text, "")


def one_form(host: str) -> str:
    """A host in its one form: lower case, punycode, an IPv6 address at its shortest.

    Raises ValueError for a text that browsers do not take for a host: an empty name or label,
    an escape, a space, a zone.
    """
    if host[:1] == "[" and host[-1:] == "]" and "%" not in host:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    host = (host if host.isascii() else _punycode(host)).lower()
    if not _ONE_FORM.fullmatch(host):
        raise ValueError(f"{host} is not a host")
    return host


def _punycode(host: str) -> str:
    """An internationalised name as a browser writes it into Origin (UTS 46, not transitional).

    Python's "idna" codec follows the older rules: it would make ``strasse`` of ``straße``,
    which is another name today.
    """
    host = host.replace("\u3002", ".")
    host = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", host).lower())
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in host.split(".")
    )


class Hosts:
    """The allow-list: ``*``, names, addresses, and ``*.example.com`` for names below a name."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError, with a message for the user, if one of them is not an entry."""
        self._any = False
        self._exact: set[str] = set()
        self._below: list[str] = []  # names that begin with a dot
        for entry in entries:
            below = entry.startswith("*.")
            try:
                if entry == ANY:
                    self._any = True
                elif below:
                    self._below.append("." + _undotted(one_form(entry[2:])))
                else:
                    self._exact.add(_undotted(one_form(entry)))
            except ValueError:
                raise ValueError(
                    f"{entry} is not a host: expected a name as in example.com or *.example.com, "
                    "or an address, and no port"
                ) from None

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """True if a request with these headers is for a host of the list, on whatever port."""
        if self._any:
            return True
        for name, value in headers:
            if name == b"host":
                try:
                    host = _undotted(one_form(split_port(value.decode("ascii"))[0]))
                except ValueError:
                    return False
                return host in self._exact or any(host.endswith(below) for below in self._below)
        return False


def _undotted(host: str) -> str:
    """``example.com.`` is ``example.com``, said so that no search list applies."""
    return host.removesuffix(".")
