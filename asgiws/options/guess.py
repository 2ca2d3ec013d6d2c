"""Applications in the current directory, for a user who types ``asgiws`` and names none.

The files are parsed and never imported, so that a guess runs no code. It only makes a message.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# The places and names that frameworks use in their first pages.
FILES = ("main.py", "app.py", "asgi.py", "api.py")
NAMES = ("app", "application", "api", "asgi")
FACTORIES = ("create_app", "make_app", "get_app", "create_application")


class Guess(NamedTuple):
    """A possible application: its file, and its import string or that of its factory."""

    file: str
    app: str
    factory: bool

    @property
    def typed(self) -> str:
        """The command by which it is served."""
        return f"asgiws {self.app}{' --factory' if self.factory else ''}"


def guesses(directory: str = "") -> list[Guess]:
    """Possible applications in ``directory`` and in its subdirectories; likely ones first."""
    base = Path(directory)
    places = [base / name for name in FILES]
    places += [path for name in FILES for path in sorted(base.glob(f"*/{name}"))]
    return [found for path in places for found in _in_file(path, base)]


def _in_file(path: Path, base: Path) -> Iterator[Guess]:
    """The likeliest application of a file, or nothing."""
    parts = path.relative_to(base).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return
    try:
        bound = set(_bound(ast.parse(path.read_bytes()).body))
    except (OSError, SyntaxError, ValueError):
        return
    for name in (*NAMES, *FACTORIES):
        if name in bound:
            file = path.relative_to(base).as_posix()
            yield Guess(file, f"{'.'.join(parts)}:{name}", name in FACTORIES)
            return


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind in their module, also within ``if`` and ``try``."""
    for node in body:
        match node:
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name for alias in names)
            case ast.If() | ast.Try():
                yield from _bound(node.body)
                yield from _bound(node.orelse)
