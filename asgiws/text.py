"""Text of others, made safe for a log or for a message on a terminal."""

from __future__ import annotations

import re

# C0, DEL, C1; then characters that reorder or break a line without being controls:
# bidirectional marks, embeddings and isolates, the line and paragraph
# separators. Lone surrogates cannot be encoded, so no stream takes them.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ONE_LINE = re.compile(f"[{_UNSAFE}]")
_MANY_LINES = re.compile(f"(?![\n\t])[{_UNSAFE}]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: str | bytes) -> str:
    """Text of a peer's, made safe for one line of a log: controls become ``\\xNN`` or ``\\uNNNN``.

    Bytes are read as latin-1, so every byte has its own character.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return _ONE_LINE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """The same for many lines: newlines and tabs stay."""
    return _MANY_LINES.sub(_escape, text)


def clip(text: str) -> str:
    """A user's text, made fit for one line of a message."""
    text = printable(text)
    return text if len(text) <= 160 else text[:157] + "..."


def quoted(target: bytes) -> str:
    """A target, or the bytes in its place, for a log that puts it between quotes."""
    return target.decode("latin-1").replace('"', "%22")


def counted(number: int, thing: str) -> str:
    """A number of things, in words that agree: ``1 connection``, ``2 connections``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
