"""Imports point one way, and the wire knows nothing of event loops."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import asgiws

PACKAGE = Path(asgiws.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(name: str, path: Path) -> set[str]:
    """The modules of the package that ``name`` imports, be it only for type checking."""
    found = set()
    parents = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = parents[: len(parents) - node.level + 1] + (node.module or "").split(".")
        base = [part for part in base if part]
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in MODULES else ".".join(base) or "__init__")
    return found & MODULES.keys()


GRAPH = {name: imported(name, path) for name, path in MODULES.items() if "__" not in name}

# What stands at the root of the package and is seen by all but the wire.
SHARED = {"_build", "asgi", "errors", "log", "text"}
# Each room sees those below it.
BELOW: dict[str, set[str]] = {
    "wire": set(),
    "transport": {"wire"},
    "websocket": {"transport", "wire"},
    "fanout": {"websocket", "wire"},
    "topics": {"fanout"},
    "http": {"websocket", "transport", "wire"},
    "process": {"fanout", "http", "websocket", "transport", "wire", "options"},
    "options": {"wire"},
    "uvicorn": {"process", "fanout", "http", "options"},
    "testing": {"process", "options"},
    "pytest_plugin": {"testing", "options"},
    "cli": {"process", "fanout", "http", "websocket", "transport", "wire", "options"},
}


def room(name: str) -> str:
    return name.split(".")[0]


def test_the_graph_is_the_real_one() -> None:
    assert "wire.frames" in GRAPH["wire.protocol"]
    assert "wire.protocol" in GRAPH["websocket.session"]
    assert len(GRAPH) > 15


def test_there_is_no_cycle() -> None:
    order: list[str] = []
    left = {name: set(below) & GRAPH.keys() for name, below in GRAPH.items()}
    while left:
        free = sorted(name for name, below in left.items() if not below - set(order))
        assert free, f"these import one another: {left}"
        order += free
        for name in free:
            del left[name]


def test_every_module_has_a_room() -> None:
    assert {room(name) for name in GRAPH} <= SHARED | BELOW.keys()


@pytest.mark.parametrize("name", GRAPH)
def test_a_room_sees_what_is_below_it_only(name: str) -> None:
    here = room(name)
    seen = {room(below) for below in GRAPH[name]} - {here}
    if here in SHARED:
        assert seen <= SHARED
    elif here == "wire":
        assert not seen
    else:
        # The command line also prints the package's version.
        assert seen <= BELOW[here] | SHARED | ({"__init__"} if here == "cli" else set())


@pytest.mark.parametrize("name", MODULES)
def test_imports_inside_the_package_are_relative(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] != "asgiws"
        elif isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "asgiws" for alias in node.names)


@pytest.mark.parametrize("pure", ["0", "1"])
def test_the_wire_alone_needs_no_event_loop_and_no_log(pure: str) -> None:
    # A package of the same name in front of the real one, so that only what the wire
    # itself imports is imported.
    code = f"""
import importlib, sys, types
package = types.ModuleType("asgiws")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["asgiws"] = package
if {pure!r} == "1":
    build = importlib.import_module("asgiws._build")
    sys.meta_path.insert(0, build.InterpretedFinder("asgiws"))
before = set(sys.modules)
for name in {sorted(name for name in GRAPH if name.startswith("wire."))!r}:
    importlib.import_module("asgiws." + name)
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(result.stdout.split())
    assert "asgiws" in loaded
    assert not loaded & {"asyncio", "logging", "socket", "selectors", "time", "uvloop", "h11"}
