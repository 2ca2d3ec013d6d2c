"""The addresses to listen on: what ``--bind`` takes, taken apart.

gunicorn and hypercorn write them in the same way.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Inet(NamedTuple):
    """A host, by name or by address, and a TCP port; without a host all of this machine's."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unix(NamedTuple):
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Descriptor(NamedTuple):
    """A socket that the process was given, by the number of its descriptor."""

    number: int

    def __str__(self) -> str:
        return f"fd://{self.number}"


Address = Inet | Unix | Descriptor

_NAME = r"[^\s/\[\]:]"
_IPV6 = r"[^\s/\[\]:]*:[^\s/\[\]]*"
_INET = re.compile(rf"(?:\[({_IPV6})\]|({_NAME}*)):({_NAME}*)")


def parse_address(text: str) -> Address:
    """The address that ``text`` stands for.

    It is ``host:port``, ``:port``, ``[v6]:port``, ``unix:path`` or ``fd://N``. Raises
    ValueError with words for the user.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path[2:] if path.startswith("///") else path
        if not path:
            raise ValueError(f"{text} has no path: unix:/run/app.sock, for example")
        return Unix(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not re.fullmatch("[0-9]{1,9}", number):
            raise ValueError(f"{text} has no number of a descriptor: fd://3, for example")
        return Descriptor(int(number))
    if match := _INET.fullmatch(text):
        v6, name, port = match.groups()
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{text}: the port must be a whole number from 0 to 65535")
        return Inet(v6 or name, int(port))
    if re.fullmatch("[0-9]+", text):
        raise ValueError(f"{text} has no host: :{text} listens on all addresses of this machine")
    if re.fullmatch(rf"{_NAME}+|\[{_IPV6}\]", text):
        raise ValueError(f"{text} has no port: {text}:8000, for example")
    if re.fullmatch(_IPV6, text):
        raise ValueError(f"{text}: an IPv6 address stands in brackets, as in [::1]:8000")
    text = text or "''"
    raise ValueError(f"{text} is not one of host:port, [v6]:port, unix:path and fd://N")
