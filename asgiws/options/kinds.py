"""An option: the values that it takes, and its declaration as its readers see it.

A kind knows how text becomes a value and which values are right; it does not know where a value
came from. The reader of a source turns the ``ValueError`` of a kind into the ``ConfigError`` that
says where the value stood.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..text import clip, printable
from ..wire.errors import may_be_sent
from ..wire.frames import MAX_REASON_BYTES
from ..wire.grammar import holds_controls, is_token
from ..wire.handshake import OWN_HEADERS
from ..wire.host import Hosts
from ..wire.origin import Origins
from .addresses import parse_address

PREFIX = "ASGIWS_"


class Unfit(ValueError):
    """A value that a kind refuses, with the reason."""


# --- Kinds -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """The values that an option takes.

    ``check`` takes a typed value (from TOML or Python) and returns it in its one final form;
    ``parse`` makes such a value of text (command line, environment). Both raise ``ValueError``:
    ``expects`` completes the sentence "--port must be ...". If that would not say enough, they
    raise ``Unfit`` with words of their own. ``none`` says that the word "none" switches the option
    off. ``typed`` is the type that ``check`` takes in Python, as an annotation in options/typed.py.
    """

    expects: str
    metavar: str
    typed: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    none: bool = False
    switch: bool = False
    repeated: bool = False


# It fits every C int that it may be stored in.
_MOST = 2**31 - 1

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
SWITCH_WORDS = (*_TRUE, *_FALSE)

TEXTS = "str | Sequence[str]"


def whole(low: int, high: int = _MOST, *, none: bool = False) -> Kind:
    """A whole number within bounds."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        if high == _MOST < value:
            raise Unfit(f"must be at most {_MOST}")
        if not low <= value <= high:
            raise ValueError
        return int(value)

    span = f", {low} or more" if high == _MOST else f" from {low} to {high}"
    expects = f"a whole number{span}" + (", or none" if none else "")
    return Kind(expects, "NUMBER", "int", check, int, none=none)


def seconds(*, zero: bool = False, none: bool = False) -> Kind:
    """A time in seconds, above 0 or (``zero``) not below it."""

    def check(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError
        if value > _MOST:
            raise Unfit(f"must be at most {_MOST}")
        if not value >= 0 or (value == 0 and not zero):
            raise ValueError
        return float(value)

    expects = f"a number of seconds{', 0 or more' if zero else ' above 0'}"
    expects += ", or none" if none else ""
    return Kind(expects, "SECONDS", "float", check, float, none=none)


def close_code() -> Kind:
    """A close code that may be sent (RFC 6455 section 7.4)."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not may_be_sent(value):
            raise ValueError
        return int(value)

    expects = "a close code: 1000 to 1003, 1007 to 1014 or 3000 to 4999"
    return Kind(expects, "CODE", "int", check, int)


def close_reason() -> Kind:
    """Text that fits into a close frame beside its code (RFC 6455 section 5.5)."""

    def check(value: object) -> str:
        reason = text().check(value)
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise Unfit(f"must be at most {MAX_REASON_BYTES} bytes long in UTF-8")
        return str(reason)

    return Kind("text", "TEXT", "str", check)


def text(
    expects: str = "text", metavar: str = "TEXT", pattern: str = ".*", typed: str = "str"
) -> Kind:
    """Text that matches ``pattern`` and holds no NUL or line break."""

    def check(value: object) -> str:
        if not isinstance(value, str | os.PathLike):
            raise ValueError
        value = os.fspath(value)
        if not isinstance(value, str) or re.search("[\0\r\n]", value):
            raise ValueError
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Kind(expects, metavar, typed, check)


def choice(*names: str, **others: str) -> Kind:
    """One of a few words; ``others`` are words for the same things, by what they stand for."""

    def check(value: object) -> str:
        word = others.get(value, value) if isinstance(value, str) else value
        if word not in names:
            raise ValueError
        return str(word)

    expects = f"{', '.join(names[:-1])} or {names[-1]}"
    return Kind(expects, "|".join(names), _literal([*names, *others]), check, str.lower)


def _literal(words: Iterable[str]) -> str:
    return f"Literal[{', '.join(json.dumps(word) for word in words)}]"


def level(numbers: Mapping[str, int]) -> Kind:
    """A level of the log: a word in any case or, as Python's logging has it, its number."""
    words = choice(*numbers)
    typed = f"{_literal([*numbers, *map(str.upper, numbers)])} | int"
    names = {number: name for name, number in numbers.items()}

    def check(value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(words.check(names.get(value)))
        return str(words.check(value.lower() if isinstance(value, str) else value))

    return dataclasses.replace(words, check=check, typed=typed)


def switch() -> Kind:
    """On or off: ``--name`` and ``--no-name``."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def parse(word: str) -> bool:
        if word.lower() not in SWITCH_WORDS:
            raise ValueError
        return word.lower() in _TRUE

    return Kind("true or false", "", "bool", check, parse, switch=True)


def _existing(value: object) -> str:
    path = text().check(value)
    if not os.path.isfile(path):
        raise Unfit(f"there is no file {path}")
    return str(path)


def file() -> Kind:
    """The path of a file that exists."""
    return Kind("the path of a file", "FILE", "StrPath", _existing)


def directory() -> Kind:
    """The path of a directory that exists, or nothing (the current one)."""

    def check(value: object) -> str:
        path = text().check(value)
        if path and not os.path.isdir(path):
            raise Unfit(f"there is no directory {path}")
        return str(path)

    return Kind("the path of a directory", "DIRECTORY", "StrPath", check)


def several(one: Kind) -> Kind:
    """Any number of values of the kind ``one``: a list, or one alone."""

    def check(value: object) -> tuple[Any, ...]:
        items = [value] if isinstance(value, str | os.PathLike) else value
        if not isinstance(items, Sequence):
            raise ValueError
        return tuple([one.check(item) for item in items])

    expects = f"{one.expects}, or a list of them"
    typed = f"{one.typed} | Sequence[{one.typed}]"
    return Kind(expects, one.metavar, typed, check, str.splitlines, repeated=True)


def log_settings() -> Kind:
    """A file with logging settings or, in Python, the dictionary itself."""

    def check(value: object) -> str | dict[str, Any]:
        return value if isinstance(value, dict) else _existing(value)

    expects = "the path of a file (in Python also a dict)"
    return Kind(expects, "FILE", "StrPath | dict[str, Any]", check)


def application() -> Kind:
    """An import string or, in Python, the application itself."""

    def check(value: object) -> object:
        return value if callable(value) else text(pattern=".+").check(value)

    return Kind(
        "an import string, module:attribute (in Python also the application)",
        "APP",
        "Application",
        check,
    )


def addresses() -> Kind:
    """``*``, or IP addresses and networks with commas between (in Python also a list)."""

    def check(value: object) -> str:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            raise ValueError
        kept = []
        for item in items:
            if not isinstance(item, str):
                raise ValueError
            item = item.strip()
            if item not in ("", "*"):
                try:
                    ipaddress.ip_network(item, strict=False)
                except ValueError:
                    raise Unfit(f"{item} is not an IP address or network") from None
            if item:
                kept.append(item)
        return ",".join(kept)

    expects = "IP addresses and networks with commas between them, or *"
    return Kind(expects, "ADDRESSES", TEXTS, check)


def _listed(expects: str, metavar: str, allow_list: Callable[[list[str]], object]) -> Kind:
    """The entries of ``allow_list``, with commas between (in Python also a list)."""

    def check(value: object) -> str:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Sequence) or not all(isinstance(i, str) for i in items):
            raise ValueError
        kept = [item.strip() for item in items if item.strip()]
        if not kept:
            raise ValueError
        try:
            allow_list(kept)
        except ValueError as error:
            raise Unfit(str(error)) from None
        return ",".join(kept)

    return Kind(expects, metavar, TEXTS, check)


def origins() -> Kind:
    """The entries of ``Origins``."""
    expects = "*, or same-host, null and origins with commas between them"
    return _listed(expects, "ORIGINS", Origins)


def hosts() -> Kind:
    """The entries of ``Hosts``."""
    return _listed("*, or hosts with commas between them", "HOSTS", Hosts)


def bind_addresses() -> Kind:
    """Addresses to listen on, each in its one form (in Python also one alone)."""

    def check(value: object) -> tuple[str, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            raise ValueError
        kept: list[str] = []
        for item in items:
            try:
                address = str(parse_address(text().check(item).strip()))
            except ValueError as error:
                raise (Unfit(str(error)) if error.args else error) from None
            if address in kept:
                raise Unfit(f"{address} is given twice")
            kept.append(address)
        return tuple(kept)

    expects = "addresses, each host:port, [v6]:port, unix:path or fd://N"
    return Kind(expects, "ADDRESS", TEXTS, check, repeated=True)


def permissions() -> Kind:
    """The permissions of a file: octal digits or, in Python and TOML, a number (0o660)."""

    def check(value: object) -> int:
        if isinstance(value, str):
            value = int(value, 8) if re.fullmatch("(0o?)?[0-7]{3}", value) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o777:
            raise ValueError
        return value

    return Kind("three octal digits, like 660", "OCTAL", "int | str", check)


# The schemes of brokers, and the packages (and extras) that speak with these.
BROKERS: Mapping[str, str] = {
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "unix": "redis",
    "nats": "nats",
    "tls": "nats",
}


def broker() -> Kind:
    """The URL of a broker. A message about a wrong one does not show its credentials."""

    def check(value: object) -> str:
        url = text().check(value)
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise Unfit("must be a URL whose port is a number") from None
        if parts.scheme not in BROKERS or not url.startswith(f"{parts.scheme}://"):
            raise ValueError
        if parts.scheme == "unix" and not parts.path:
            raise Unfit("must name the socket: unix:///path/of/the.socket")
        if parts.scheme != "unix" and not parts.hostname:
            raise Unfit(f"must name a host: {parts.scheme}://host:port")
        return str(url)

    schemes = list(BROKERS)
    expects = f"a URL that begins with {', '.join(schemes[:-1])} or {schemes[-1]}, and ://"
    return Kind(expects, "URL", "str", check, none=True)


def header_lines() -> Kind:
    """Response headers: ``Name: value`` each, in Python also (name, value) pairs."""

    def pair(item: object) -> tuple[bytes, bytes]:
        parts = item.split(":", 1) if isinstance(item, str) else item
        if not isinstance(parts, list | tuple) or len(parts) != 2:
            raise Unfit(f"{item!r} must have the form 'Name: value'")
        try:
            name, value = (
                part.encode("latin-1") if isinstance(part, str) else bytes(memoryview(part))
                for part in parts
            )
        except (TypeError, UnicodeEncodeError):
            raise Unfit("must consist of latin-1 characters (RFC 9110, 5.5)") from None
        name, value = name.strip().lower(), value.strip(b" \t")
        if not is_token(name):
            raise Unfit(f"{printable(name)!r} is not a header name (RFC 9110, 5.1)")
        if holds_controls(value):
            raise Unfit(f"the value of {name.decode()} holds a control character")
        # The server sets these for each message (RFC 9112, 6 and 9) or handshake (RFC 6455, 4.2.2).
        if name in OWN_HEADERS or name.startswith(b"sec-websocket-"):
            raise Unfit(f"{name.decode()} is set by the server")
        return name, value

    def check(value: object) -> tuple[tuple[bytes, bytes], ...]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError
        return tuple(pair(item) for item in value)

    expects = "a list of headers, each 'Name: value'"
    return Kind(expects, "HEADER", "Sequence[Header]", check, str.splitlines, repeated=True)


# --- Declarations ----------------------------------------------------------------------


def option(
    default: Any,
    group: str,
    kind: Kind,
    help: str,
    *,
    flag: str = "",
    shown: str = "",
    fallback: str = "",
    secret: bool = False,
    nothing: tuple[object, ...] = (),
) -> Any:
    """Declare an option as a field of ``Config``.

    ``flag`` is its name on the command line, if that is not the field's. ``shown`` is the
    default in words. ``fallback`` is a foreign environment variable whose value replaces the
    default. ``secret`` keeps its value out of every message. ``nothing`` are the values by
    which uvicorn's users ask for its default.
    """
    meta = {"group": group, "kind": kind, "help": help, "flag": flag, "shown": shown}
    meta |= {"fallback": fallback, "secret": secret, "nothing": nothing}
    return dataclasses.field(default=default, repr=not secret, metadata=meta)


@dataclass(frozen=True)
class Option:
    """One declaration, as its readers see it: ``name`` is the field, ``key`` the word for it."""

    name: str
    key: str
    default: Any
    group: str
    kind: Kind
    help: str
    shown: str
    fallback: str
    secret: bool
    nothing: tuple[object, ...]

    @classmethod
    def of(cls, field: dataclasses.Field[Any]) -> Option:
        """Read the declaration of a field of ``Config``."""
        meta = dict(field.metadata)
        key = meta.pop("flag") or field.name.replace("_", "-")
        return cls(name=field.name, key=key, default=field.default, **meta)

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "APP" if self.name == "app" else f"--{self.key}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.key.replace("-", "_").upper()

    @property
    def typed(self) -> str:
        """The values that it takes in Python, as an annotation in options/typed.py."""
        none = self.default is None or self.kind.none or None in self.nothing
        return f"{self.kind.typed} | None" if none else self.kind.typed

    @property
    def default_text(self) -> str:
        """The default as the help shows it; empty if there is none."""
        if self.shown:
            return self.shown
        if self.default is None and self.kind.none:
            return "none"
        if self.default in (dataclasses.MISSING, None, (), ""):
            return ""
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def check(self, value: object) -> Any:
        """A typed value in its final form; ``ValueError`` where it does not fit."""
        if value in self.nothing:
            return self.default
        if value is None and (self.default is None or self.kind.none):
            return None
        if value == "none" and self.kind.none:
            return None
        return self.kind.check(value)

    def parse(self, text: str) -> Any:
        """The value that ``text`` stands for, checked; ``ValueError`` where it does not fit."""
        if self.kind.none and text.lower() == "none":
            return None
        return self.check(self.kind.parse(text))


def asks_for_nothing(value: object, nothing: Collection[object]) -> bool:
    """Return whether ``value``, perhaps as text, is one of ``nothing``."""
    if not isinstance(value, str):
        return value in nothing
    words = {str(item).lower() for item in nothing}
    if False in nothing:
        words.update(_FALSE)
    return value.lower() in words


def convert(
    conversion: Callable[[Any], Any], raw: object, declared: Option, where: str, name: str
) -> Any:
    """Return ``conversion(raw)``; a ``ConfigError`` says where it stood and what it must be.

    ``where`` shows the source and the value, ``name`` is what the option is called there.
    """
    try:
        return conversion(raw)
    except ValueError as error:
        if not isinstance(error, Unfit):
            problem = f"{name} must be {declared.kind.expects}"
        elif name in where:
            problem = str(error)
        else:
            problem = f"{name}: {error}"
        raise ConfigError(f"{clip(where)}: {printable(problem)}") from None
