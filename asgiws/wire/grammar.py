"""What HTTP's fields are written in: tokens, lists, values (RFC 9110 sections 5.5 and 5.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: Every byte that a token may hold (section 5.6.2), for ``bytes.translate``.
TOKEN_CHARS: Final = b"!#$%&'*+-.^_`|~" + bytes(
    char for first, last in (b"09", b"AZ", b"az") for char in range(first, last + 1)
)
#: A token, as a regular expression.
TOKEN: Final = f"[{re.escape(TOKEN_CHARS.decode())}]+"
#: Every byte that a field's value may not hold (section 5.5), for ``bytes.translate``.
CONTROLS: Final = bytes(char for char in (*range(32), 127) if char != 9)


def is_token(text: bytes) -> bool:
    """Whether ``text`` is a token (section 5.6.2)."""
    return text != b"" and not text.translate(None, TOKEN_CHARS)


def holds_controls(value: bytes) -> bool:
    """Whether a control character other than a tab is in ``value`` (section 5.5)."""
    return len(value.translate(None, CONTROLS)) != len(value)


def elements(values: Iterable[bytes]) -> list[bytes]:
    """The elements of the list that a field's ``values`` make; empty ones do not count (5.6.1)."""
    items = [item.strip(b" \t") for value in values for item in value.split(b",")]
    return [item for item in items if item]


def tokens(values: Iterable[bytes]) -> list[bytes]:
    """The ``elements`` in lower case, where they are names that have no case."""
    return [item.lower() for item in elements(values)]
