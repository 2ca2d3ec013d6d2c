"""The choice of the build: the compiled modules, or the same files interpreted.

``ASGIWS_PURE=1`` selects the interpreted modules even where compiled ones are
installed. This must be settled before any of them is imported, so
``asgiws/__init__.py`` calls ``select()`` first.

``setup.py`` executes this file alone, without the package: it takes the list of modules from here.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

COMPILED_MODULES = (
    "wire.utf8",
    "wire.masking",
    "wire.filling",
    "wire.frames",
    "wire.protocol",
    "wire.grammar",
    "wire.host",
    "wire.handshake",
    "wire.deflate",
    "wire.prepared",
    "transport.ending",
    "transport.outbox",
    "websocket.limits",
    "websocket.pulse",
    "websocket.inbox",
    "websocket.watch",
    "websocket.session",
    "fanout.members",
    "http.stream",
    "http.serving",
    "http.scope",
    "http.forwarded",
    "http.heads",
    "http.bodies",
    "http.request",
    "http.response",
    "http.exchange",
    "http.connection",
)


class InterpretedFinder:
    """Finds the compiled modules of ``package`` as their source files."""

    def __init__(self, package: str) -> None:
        self._names = {f"{package}.{name}" for name in COMPILED_MODULES}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names or path is None:
            return None
        source = Path(path[0], name.rpartition(".")[2] + ".py")
        loader = importlib.machinery.SourceFileLoader(name, str(source))
        return importlib.util.spec_from_loader(name, loader)


def refusal() -> str | None:
    """The reason for which asgiws does not run on this interpreter, if there is one."""
    if "free-threading" in sys.version:
        return (
            "asgiws does not support the free-threaded build of CPython: its modules rely on the "
            "global interpreter lock and were not tested without it. Use the default build, which "
            "is the interpreter without a t at the end of its name"
        )
    return None


def select() -> None:
    """Obey ``ASGIWS_PURE``. Raises ImportError on an interpreter that is not supported."""
    if reason := refusal():
        raise ImportError(reason)
    if is_pure_chosen():
        sys.meta_path.insert(0, InterpretedFinder(__package__))


def is_pure_chosen() -> bool:
    """Return whether ``ASGIWS_PURE`` asks for the interpreted modules."""
    return os.environ.get("ASGIWS_PURE", "") not in ("", "0")


def build() -> str:
    """``"compiled"`` or ``"pure Python"``: what the hot path of this process runs on."""
    return "pure Python" if interpreted() else "compiled"


def interpreted() -> list[str]:
    """The names of those of ``COMPILED_MODULES`` that run as their source files."""
    return [name for name in COMPILED_MODULES if _file(name).suffix == ".py"]


def stale() -> list[str]:
    """The names of the compiled modules that are older than their sources.

    This works only in a checkout. The files of an installed package have their times from the
    installer, and these times mean nothing.
    """
    if not _is_checkout():
        return []
    root = Path(__file__).parent
    headers = max(path.stat().st_mtime for path in root.rglob("*.pxd"))
    found = []
    for name in COMPILED_MODULES:
        file = _file(name)
        source = root.joinpath(*name.split(".")).with_suffix(".py")
        if file.suffix != ".py" and file.stat().st_mtime < max(source.stat().st_mtime, headers):
            found.append(name)
    return found


def remarks() -> list[str]:
    """The warnings of a start: about a slow build that was not chosen, or an old one.

    ``ASGIWS_PURE=1`` is a choice, so it brings no warning.
    """
    if is_pure_chosen():
        return []
    if slow := interpreted():
        some = f"{len(slow)} of {len(COMPILED_MODULES)} modules are not compiled"
        again = (
            "pip install -e ."
            if _is_checkout()
            else "pip install --force-reinstall --no-deps --no-cache-dir asgiws"
        )
        return [
            f"The interpreted build runs ({some}): a message takes 1.4 to 5 times the CPU time. "
            f"Install a C compiler, then run: {again}"
        ]
    if old := stale():
        return [
            f"Compiled modules are older than their sources: {', '.join(old)}. "
            "Run: python setup.py build_ext --inplace (or set ASGIWS_PURE=1 while you edit)"
        ]
    return []


def _is_checkout() -> bool:
    """Return whether the package lies in its source tree."""
    return (Path(__file__).parent.parent / "setup.py").exists()


def _file(name: str) -> Path:
    """The file that one of ``COMPILED_MODULES`` was loaded from."""
    return Path(str(importlib.import_module(f".{name}", __package__).__file__))
