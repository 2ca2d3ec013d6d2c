"""The pages of docs/deploy and docs/how-to: their files and commands, as they stand there.

A file stands behind a line ``<!-- file: PATH -->``, a command behind ``<!-- typed: NAME -->``.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from ..toolkit.pages import STEP

DOCS = Path(__file__).parents[2] / "docs"


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


def steps(page: str, kind: str) -> dict[str, str]:
    """The blocks of code of one kind, by their names."""
    found = [(name, code) for one, name, code in STEP.findall(text(page)) if one == kind]
    assert len(found) == len(dict(found)), f"{page} has two blocks of one name"
    return dict(found)


def file(page: str, path: str) -> str:
    """The whole content of a file."""
    return steps(page, "file")[path]


def typed(page: str, name: str) -> str:
    """The lines that are typed in a shell."""
    return steps(page, "typed")[name]


def listed(page: str, beginning: str) -> str:
    """The one piece of code in the sentences of a page that begins so."""
    found = re.findall(rf"`({re.escape(beginning)}[^`\n]+)`", text(page))
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
