"""Which build runs: the compiled modules, or the same files interpreted.

``ASGIWS_PURE=1`` selects the interpreted modules even where compiled ones are
installed. This must be settled before any of them is imported, so
``asgiws/__init__.py`` calls ``select()`` first.
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
    "transport.progress",
    "transport.ending",
    "transport.outbox",
    "websocket.limits",
    "websocket.pulse",
    "websocket.inbox",
    "websocket.watch",
    "websocket.session",
    "fanout.members",
    "http.serving",
    "http.scope",
    "http.forwarded",
    "http.heads",
    "http.bodies",
    "http.request",
    "http.response",
    "http.access",
    "http.exchange",
    "http.opening",
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


def select() -> None:
    """Obey ``ASGIWS_PURE``."""
    if os.environ.get("ASGIWS_PURE", "") not in ("", "0"):
        sys.meta_path.insert(0, InterpretedFinder(__package__))


def build() -> str:
    """``"compiled"`` or ``"pure Python"``: what the hot path of this process runs on."""
    files = [
        str(importlib.import_module(f".{name}", __package__).__file__) for name in COMPILED_MODULES
    ]
    compiled = [not file.endswith(".py") for file in files]
    return "compiled" if all(compiled) else "pure Python"
