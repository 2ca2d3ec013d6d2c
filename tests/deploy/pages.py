"""The configurations of docs/deployment.md, as they stand there."""

from __future__ import annotations

import re
import socket
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


def block(language: str, holding: str = "") -> str:
    """The one block of code in that language that holds these words."""
    text = PAGE.read_text("utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = [one for one in found if holding in one]
    assert len(found) == 1, f"the page has {len(found)} blocks of {language} with {holding!r}"
    return str(found[0])


def listed(beginning: str) -> str:
    """The one piece of code in the sentences of the page that begins so."""
    found = re.findall(rf"`({re.escape(beginning)}[^`\n]+)`", PAGE.read_text("utf-8"))
    assert len(found) == 1, f"the page has {len(found)} of {beginning!r}"
    return str(found[0])


def put(text: str, old: str, new: str) -> str:
    """``text`` with what cannot be the same on every machine: a port, for example."""
    assert old in text
    return text.replace(old, new)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
