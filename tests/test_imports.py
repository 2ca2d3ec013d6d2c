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
    """The modules of the package that ``name`` imports when it runs.

    Imports for type checking only are no dependencies.
    """
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    found = set()
    parents = name.split(".")[:-1]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node in skipped or not node.level:
            continue
        base = parents[: len(parents) - node.level + 1] + (node.module or "").split(".")
        base = [part for part in base if part]
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in MODULES else ".".join(base) or "__init__")
    return found & MODULES.keys()


GRAPH = {name: imported(name, path) for name, path in MODULES.items() if "__" not in name}


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


@pytest.mark.parametrize("name", [name for name in GRAPH if name.startswith("wire.")])
def test_the_wire_imports_the_wire_only(name: str) -> None:
    assert all(below.startswith("wire.") for below in GRAPH[name])


@pytest.mark.parametrize("name", GRAPH)
def test_nothing_below_the_command_line_imports_it(name: str) -> None:
    assert "cli" not in GRAPH[name]
    if name != "cli":
        assert "__main__" not in GRAPH[name]


@pytest.mark.parametrize("name", ["errors", "log", "websocket.events", "transport.outbox", "websocket.limits", "websocket.pulse", "websocket.session"])
def test_a_websocket_knows_neither_http_nor_the_server(name: str) -> None:
    above = {name for name in GRAPH if name.split(".")[0] in ("cli", "http", "options", "process")}
    reached, todo = set(), [name]
    while todo:
        for below in GRAPH[todo.pop()] - reached:
            reached.add(below)
            todo.append(below)
    assert not reached & above


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
