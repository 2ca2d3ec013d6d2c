"""Mutation testing of the wire: ``python -m tests.mutate [MODULE ...]``.

Every comparison, boolean operator, ``not``, arithmetic operator, number, and truth value
in ``asgiws/wire`` is changed, one at a time, in a copy of the tree, and the module's tests
run against it: interpreted, and compiled where the two builds run different lines. A change
that no test notices is a survivor: it is printed, unless EXPLAINED says why it makes no
difference, and then the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis.stateful  # noqa: F401  # for the forks
import pytest

ROOT = Path(__file__).parent.parent

SESSION = [
    "websocket/test_session.py",
    "websocket/test_states.py",
    "websocket/test_inbox.py",
    "transport/test_outbox.py",
    "transport/test_ending.py",
]
TESTS = {
    "deflate": ["wire/test_deflate.py", "wire/test_protocol.py"],
    "errors": ["wire/test_errors.py", "wire/test_protocol.py", "wire/test_handshake.py"],
    "filling": ["wire/test_filling.py", "wire/test_protocol.py", *SESSION, "wire/test_frames.py"],
    "frames": ["wire/test_frames.py", "wire/test_protocol.py", *SESSION],
    "grammar": ["wire/test_grammar.py"],
    "masking": ["wire/test_masking.py", "wire/test_frames.py", "wire/test_protocol.py"],
    "handshake": ["wire/test_handshake.py"],
    "host": ["wire/test_host.py", "wire/test_origin.py"],
    "protocol": ["wire/test_protocol.py", *SESSION],
    "utf8": ["wire/test_utf8.py"],
}

COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}

# What only the compiled build runs is left out, but for the modules of COMPILED.
COMPILED_ONLY = {"frames": {"borrow"}, "protocol": {"receive_lent", "settle"}}
COMPILED = {"utf8"}


# Changes that make no difference, and why: the survivors that are left.
_OVERWRITTEN = "a first value that is overwritten before it is read"
_SLOWER = "the same result by the path for messages that come in pieces"
_TAKEN = "the branch before has taken that byte"
EXPLAINED: dict[str, dict[str, str]] = {
    "frames": {
        "BINARY: Final = 2  ->  BINARY: Final = 3": "opcode 3 has been refused before",
        "BINARY: Final = 2  ->  BINARY: Final = 1": _SLOWER,
        "__init__: self.fin = self.rsv1 = False  ->  self.fin = self.rsv1 = True": _OVERWRITTEN,
        "_read_header: available >= size  ->  available > size": _SLOWER,
        "feed: self.backlog == 0  ->  self.backlog == -1": "joined to nothing, not taken as it is",
        "_read_header: opcode >= 8  ->  opcode >= 7": "opcode 7 has been refused before",
        "_read_header: 1 <= opcode <= 2  ->  1 <= opcode <= 3": "opcode 3 is refused anyway",
        **{
            f"__init__: self.{name} = 0  ->  self.{name} = {value}": _OVERWRITTEN
            for name in ("opcode", "_pos", "_end", "_phase", "_remaining")
            for value in (1, -1)
        },
    },
    "masking": {
        "unmask: size // 4 + 1  ->  size // 4 + 2": "cut to size anyway",
        "unmask: size // 4  ->  size // 3": "cut to size anyway",
        "unmask: size // 4  ->  size * 4": "cut to size anyway",
        **dict.fromkeys(
            (
                "LANES_FROM: Final = 8192  ->  LANES_FROM: Final = 8193",
                "LANES_FROM: Final = 8192  ->  LANES_FROM: Final = 8191",
                "unmask: size >= LANES_FROM  ->  size > LANES_FROM",
                "unmask: size >= LANES_FROM  ->  size < LANES_FROM",
            ),
            "both ways unmask, one is faster",
        ),
    },
    "filling": {
        "room: self._filled < self._size  ->  self._filled <= self._size": (
            "a whole payload grows by nothing"
        ),
    },
    "protocol": {
        "__init__: self._deflated = False  ->  self._deflated = True": _OVERWRITTEN,
        "__init__: self._fragments = 0  ->  self._fragments = 1": _OVERWRITTEN,
        "__init__: self._fragments = 0  ->  self._fragments = -1": _OVERWRITTEN,
        "next_message: reader.opcode <= BINARY  ->  reader.opcode < BINARY": _SLOWER,
    },
    "utf8": {
        "accepts_raw: 224 <= byte <= 239  ->  223 <= byte <= 239": _TAKEN,
        "accepts_raw: 240 <= byte <= 244  ->  239 <= byte <= 244": _TAKEN,
    },
}


class Mutant(NamedTuple):
    line: int
    what: str
    source: str


class Spot(NamedTuple):
    """A place in the tree, and what may stand there instead."""

    node: ast.AST
    field: str
    index: int | None
    others: list[object]


def spots(tree: ast.AST) -> Iterator[Spot]:
    """Every place that can be changed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                yield Spot(node, "ops", index, [kind() for kind in COMPARISONS[type(operator)]])
        elif isinstance(node, ast.BoolOp):
            yield Spot(node, "op", None, [ast.Or() if isinstance(node.op, ast.And) else ast.And()])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield Spot(node, "op", None, [ast.UAdd()])
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
            yield Spot(node, "op", None, [OPERATORS[type(node.op)]()])
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            yield Spot(node, "value", None, [not node.value])
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield Spot(node, "value", None, [node.value + 1, node.value - 1])


class Bare(ast.NodeTransformer):
    """Takes away what no test can see: annotations, docstrings, the compiled build's branches."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        self.generic_visit(node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if ast.unparse(node.test) == "cython.compiled":
            return node.orelse or [ast.Pass()]
        return node


def put(spot: Spot, value: object) -> None:
    if spot.index is None:
        setattr(spot.node, spot.field, value)
    else:
        getattr(spot.node, spot.field)[spot.index] = value


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module, as source text."""
    tree = ast.parse((ROOT / "asgiws" / "wire" / f"{module}.py").read_text())
    left_to_others = COMPILED_ONLY.get(module, set())
    if module not in COMPILED:
        tree = Bare().visit(tree)
    left_out = [
        node.annotation if isinstance(node, ast.AnnAssign) else node
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        or (isinstance(node, ast.FunctionDef) and node.name in left_to_others)
    ]
    skipped = {inner for node in left_out for inner in ast.walk(node)}
    parents = {inner: node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}
    for spot in spots(tree):
        if spot.node in skipped:
            continue
        found = getattr(spot.node, spot.field)
        original = found if spot.index is None else found[spot.index]
        shown = line = spot.node
        while isinstance(shown, ast.Constant | ast.Slice):
            shown = parents[shown]
        while not isinstance(line, ast.stmt):
            line = parents[line]
        within = line
        while not isinstance(within, ast.FunctionDef | ast.Module):
            within = parents[within]
        place = f"{within.name}: " if isinstance(within, ast.FunctionDef) else ""
        before = ast.unparse(shown).splitlines()[0]
        for other in spot.others:
            put(spot, other)
            what = f"{place}{before}  ->  {ast.unparse(shown).splitlines()[0]}"
            yield Mutant(line.lineno, what, ast.unparse(tree))
            put(spot, original)


def build(tree: Path) -> bool:
    """Compile what has changed; false where that fails."""
    setup = [sys.executable, "setup.py", "-q", "build_ext"]
    flags = {**os.environ, "CFLAGS": "-O0 -w"}
    built = subprocess.run(
        [*setup, "--inplace"], cwd=tree, env=flags, capture_output=True, check=False
    )
    return not built.returncode and b"failed" not in built.stderr  # an extension is optional


def survives(tree: Path, module: str) -> bool:
    """Return whether the module's tests pass in ``tree``.

    They run in a fork of this process, which has imported already what takes long.
    """
    compiled = module in COMPILED
    if compiled and not build(tree):
        return False
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    signal.alarm(90)  # what never ends is noticed
    os.environ["ASGIWS_PURE"] = "" if compiled else "1"
    os.chdir(tree)
    sys.path[:] = [str(tree), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "asgiws")]:
        del sys.modules[name]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.dont_write_bytecode = True
    tests = [f"tests/{name}" for name in TESTS[module]]
    options = ["-x", "-q", "-s", "-p", "no:cacheprovider"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os._exit(pytest.main([*options, *tests]))


def examine(module: str) -> int:
    """Print the survivors of one module; how many there are that nothing explains."""
    unexplained = count = explained = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__", ".work", "autobahn")
        for part in "asgiws", "tests":
            shutil.copytree(ROOT / part, tree / part, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tree)
        (tree / "README.md").touch()
        (tree / "LICENSE").touch()
        if not survives(tree, module):
            sys.exit(f"the tests of {module} fail without any change")
        target = tree / "asgiws" / "wire" / f"{module}.py"
        for mutant in mutants(module):
            count += 1
            target.write_text(mutant.source)
            if not survives(tree, module):
                continue
            if mutant.what in EXPLAINED.get(module, {}):
                explained += 1
                continue
            unexplained += 1
            print(f"survived: {module}.py:{mutant.line}: {mutant.what}", flush=True)
    killed = count - explained - unexplained
    print(
        f"{module}: {count} changes, {killed} noticed, {explained} make no difference", flush=True
    )
    return unexplained


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    modules = parser.parse_args().modules or list(TESTS)
    return 1 if sum(examine(module) for module in modules) else 0


if __name__ == "__main__":
    sys.exit(main())
