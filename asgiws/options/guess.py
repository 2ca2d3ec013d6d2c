"""What could be served here, for whoever types ``asgiws`` and no application.

The files are read, never imported: a guess runs nothing, and it only makes a message.
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
    """An application that may be meant: the file, and its import string or that of its maker."""

    file: str
    app: str
    factory: bool

    @property
    def typed(self) -> str:
        """What serves it, for a message."""
        return f"asgiws {self.app}{' --factory' if self.factory else ''}"


def guesses(directory: str = "") -> list[Guess]:
    """What looks like an application in ``directory``, or in a package of it; likely ones first."""
    base = Path(directory)
    places = [base / name for name in FILES]
    places += [path for name in FILES for path in sorted(base.glob(f"*/{name}"))]
    return [found for path in places for found in _in_file(path, base)]


def _in_file(path: Path, base: Path) -> Iterator[Guess]:
    """The one of a file that is the likeliest, if it has any."""
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
    """The names that statements bind in their module; what is bound on a condition, too."""
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
