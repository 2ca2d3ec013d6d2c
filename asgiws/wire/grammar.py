"""The grammar of HTTP's fields: tokens, lists, values (RFC 9110 sections 5.5 and 5.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython


def table(chars: bytes) -> bytes:
    """The set of ``chars`` as ``count`` takes it: 1 at the places of its bytes, else 0."""
    return bytes(char in chars for char in range(256))


def count(text: bytes, chars: bytes) -> int:
    """Return how many bytes of ``text`` are in a set, which ``table`` has made."""
    if cython.compiled:
        return count_raw(text, len(text), chars)  # type: ignore[name-defined, no-any-return] # noqa: F821
    return text.translate(chars).count(1)


def span(text: bytes, at: cython.Py_ssize_t, chars: bytes) -> cython.Py_ssize_t:
    """The end of the run of bytes of a set that begins at ``at``; the set must not hold NUL."""
    if cython.compiled:
        return span_raw(text, at, chars)  # type: ignore[name-defined] # noqa: F821
    size = len(text)
    while at < size and chars[text[at]]:
        at += 1
    return at


def stands(text: bytes, piece: bytes, at: cython.Py_ssize_t) -> bool:
    """Return whether ``piece`` stands in ``text`` at this place."""
    if cython.compiled:
        return stands_raw(text, piece, at)  # type: ignore[name-defined, no-any-return] # noqa: F821
    return text.startswith(piece, at)


def lowered(text: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> bytes:
    """``text[start:end]`` in lower case."""
    if cython.compiled:
        return lowered_raw(text, start, end)  # type: ignore[name-defined, no-any-return] # noqa: F821
    return text[start:end].lower()


_TOKEN_CHARS: Final = b"!#$%&'*+-.^_`|~" + bytes(
    char for first, last in (b"09", b"AZ", b"az") for char in range(first, last + 1)
)
#: A token, as a regular expression.
TOKEN: Final = f"[{re.escape(_TOKEN_CHARS.decode())}]+"
#: Every byte that a token may hold (section 5.6.2), a table for ``count``.
TOKEN_CHARS: Final = table(_TOKEN_CHARS)
_LOW_TOKEN_CHARS: Final = table(bytes(char for char in _TOKEN_CHARS if not 65 <= char <= 90))
#: Every byte that a field's value may not hold (section 5.5), a table for ``count``.
CONTROLS: Final = table(bytes(char for char in (*range(32), 127) if char != 9))


def is_token(text: bytes) -> bool:
    """Return whether ``text`` is a token (section 5.6.2)."""
    return text != b"" and count(text, TOKEN_CHARS) == len(text)


def is_low_token(text: bytes) -> bool:
    """Return whether ``text`` is a token without upper-case letters."""
    return text != b"" and count(text, _LOW_TOKEN_CHARS) == len(text)


def holds_controls(value: bytes) -> bool:
    """Return whether a control character other than a tab is in ``value`` (section 5.5)."""
    return count(value, CONTROLS) > 0


def elements(values: Iterable[bytes]) -> list[bytes]:
    """The elements of the list that a field's ``values`` make; empty ones do not count (5.6.1)."""
    items: list[bytes] = []
    for value in values:
        items += value.split(b",") if b"," in value else (value,)
    return [element for item in items if (element := item.strip(b" \t"))]


def tokens(values: Iterable[bytes]) -> list[bytes]:
    """The ``elements`` in lower case, for names that have no case."""
    return [item.lower() for item in elements(values)]


def lists(value: bytes, token: bytes) -> bool:
    """Return whether ``token``, which is in lower case, is one of the ``tokens`` of one value."""
    value = value.lower()
    return value == token or (token in value and token in tokens((value,)))
