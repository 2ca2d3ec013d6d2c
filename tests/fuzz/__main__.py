"""The coverage-guided fuzzer: ``python -m tests.fuzz [TARGET ...] [--seconds N] [--merge]``.

Atheris (libFuzzer) watches which branches of the interpreted build an input reaches; each
input also goes through the compiled build, and all must agree. What it finds interesting
goes to ``tests/fuzz/.work``; ``--merge`` adds to the saved corpus, which ``pytest`` replays,
the few inputs that reach what the corpus does not. Needs ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

from .seeds import SEEDS
from .targets import TARGETS
from .test_corpus import CORPUS

Step = tuple[str, int, int]

WORK = Path(__file__).parent / ".work"
PARTS = (
    *("wire.deflate", "wire.errors", "wire.filling", "wire.frames", "wire.handshake"),
    *("wire.protocol", "wire.utf8", "http.heads", "http.request"),
)


def functions(module: ModuleType) -> list[FunctionType]:
    """Every function and method that ``module`` defines."""
    classes = [
        thing
        for thing in vars(module).values()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    ]
    things = [thing for owner in (module, *classes) for thing in vars(owner).values()]
    return [
        thing
        for thing in things
        if inspect.isfunction(thing) and thing.__module__ == module.__name__
    ]


def fuzz(name: str, arguments: list[str]) -> None:
    """Run libFuzzer in this process; it does not return."""
    import atheris

    for part in PARTS:
        for function in functions(importlib.import_module(f"asgiws_interpreted.{part}")):
            atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int) -> int:
    """Fuzz one target in a process of its own; its exit code."""
    found, saved = WORK / name, CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (found / f"seed-{number}").write_bytes(seed)
    command = [sys.executable, "-m", "tests.fuzz", "--in-process", name]
    command += [f"-max_total_time={seconds}", "-max_len=600", "-timeout=20"]
    command += [f"-artifact_prefix={WORK}/", str(found), str(saved)]
    return subprocess.run(command, timeout=seconds + 300, check=False).returncode


def steps(name: str, data: bytes) -> set[Step]:
    """The steps from line to line that the interpreted build takes for one input."""
    taken: set[Step] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if "asgiws_interpreted." not in frame.f_globals["__name__"]:
            return None
        before = 0

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal before
            taken.add((frame.f_code.co_qualname, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        TARGETS[name](data)
    finally:
        sys.settrace(None)
    return taken


def merge(name: str) -> None:
    """Keep of what was found the shortest inputs that take a step the corpus does not."""
    saved = CORPUS / name
    saved.mkdir(parents=True, exist_ok=True)
    known = {step for file in saved.iterdir() for step in steps(name, file.read_bytes())}
    inputs = {*SEEDS[name], *(file.read_bytes() for file in (WORK / name).glob("*"))}
    for data in sorted(inputs, key=lambda data: (data not in SEEDS[name], len(data), data)):
        new = steps(name, data) - known
        if new or data in SEEDS[name]:
            known |= new
            (saved / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(list(saved.iterdir()))} inputs take {len(known)} steps")


def main() -> int:
    if sys.argv[1:2] == ["--in-process"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--merge", action="store_true", help="add to the saved corpus instead")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if options.merge:
        for name in names:
            merge(name)
        return 0
    return max(run(name, options.seconds) for name in names)


if __name__ == "__main__":
    sys.exit(main())
