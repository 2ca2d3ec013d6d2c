"""One run: a server, fuzzing clients that share the cases between them, and what they found."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..toolkit.served import ROOT, Served
from .cuts import CuttingProxy
from .suite import WORK, Suite, Unavailable

# The suite has no opinion here; whatever a server does, it says "informational".
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

AGENT = "server"
SLICES_PER_JOB = 6
SLICE_DEADLINE = 1800  # seconds

# What a server must never print, whatever its clients send.
COMPLAINT = re.compile(
    r"Traceback|Exception|Error\b|ERROR|CRITICAL|never retrieved|never awaited|was destroyed"
)


@dataclass(frozen=True)
class Plan:
    """What one run is about."""

    app: str  # raw or starlette
    build: str  # compiled or pure
    cases: tuple[str, ...]
    seed: str | None = None  # of the cuts; None: no proxy
    server: str = "asgiws --port 0"  # what follows `python -m`; the application comes last
    parser: str = ""  # of requests (``--http``); none: what the server takes by itself

    @property
    def name(self) -> str:
        words = [self.server.split()[0], self.build, self.app, self.parser]
        return "-".join(filter(None, words if self.seed is None else [*words, "cuts"]))

    @property
    def command(self) -> list[str]:
        """What follows ``python -m``."""
        choice = ["--http", self.parser] if self.parser else []
        return [*self.server.split(), *choice, f"tests.autobahn.apps:{self.app}"]


@dataclass(frozen=True)
class Result:
    """One case, in the suite's words."""

    case: str
    behavior: str
    behavior_close: str
    close_code: int | None
    milliseconds: int
    report: Path | None = None

    @property
    def good(self) -> bool:
        accepted = {"OK", "INFORMATIONAL"} if self.case in INFORMATIONAL else {"OK"}
        return self.behavior in accepted and self.behavior_close in accepted

    def __str__(self) -> str:
        report = f"; {self.report.relative_to(ROOT)}" if self.report else ""
        return (
            f"{self.case}: {self.behavior}, close {self.behavior_close}, "
            f"code {self.close_code}{report}"
        )


@dataclass
class Outcome:
    """What a run has found."""

    results: list[Result]
    seconds: float
    exit_code: int
    complaints: list[str] = field(default_factory=list)  # lines of the server's output

    @property
    def bad(self) -> list[Result]:
        return [result for result in self.results if not result.good]

    @property
    def good(self) -> bool:
        return bool(self.results) and not (self.bad or self.complaints or self.exit_code)


def order(case: str) -> list[int]:
    """The key that sorts cases by number."""
    return [int(number) for number in case.split(".")]


def execute(plan: Plan, suite: Suite, jobs: int) -> Outcome:
    """Run all cases of ``plan``, ``jobs`` fuzzing clients at a time against one server."""
    reports = WORK / "reports" / plan.name
    shutil.rmtree(reports, ignore_errors=True)
    count = min(len(plan.cases), jobs * SLICES_PER_JOB)
    slices = [list(plan.cases[number::count]) for number in range(count)]
    choose_build(plan)
    started = time.monotonic()
    with (
        Served(*plan.command) as server,
        ThreadPoolExecutor(jobs) as pool,
    ):

        def run_slice(number: int) -> list[Result]:
            directory = reports / str(number)
            with _address(plan, server.port, number) as port:
                return _fuzz(suite, port, slices[number], directory)

        results = []
        for number, found in enumerate(pool.map(run_slice, range(count))):
            results += found
            good = sum(result.good for result in found)
            print(
                f"  {number + 1:2}/{count}: {good} of {len(found)} cases good, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
        exit_code = server.stop()
    return Outcome(
        sorted(results, key=lambda result: order(result.case)),
        time.monotonic() - started,
        exit_code,
        complaints_in(server.output),
    )


def choose_build(plan: Plan) -> None:
    """Have the servers that are started from now on run on the plan's build."""
    os.environ["ASGIWS_PURE"] = "1" if plan.build == "pure" else ""
    program = "import asgiws; print(asgiws.build())"
    if plan.server.split()[0] == "asgiws":
        build = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        if plan.build not in build.lower():
            raise Unavailable(f"This is the {build.strip()} build; run: pip install -e .")


def complaints_in(output: list[str]) -> list[str]:
    """What a server printed, from its first complaint on; nothing if there is none."""
    for number, line in enumerate(output):
        if COMPLAINT.search(line):
            return output[number:]
    return []


@contextlib.contextmanager
def _address(plan: Plan, port: int, number: int) -> Iterator[int]:
    """The port for slice ``number``: the server's, or that of a proxy before it."""
    if plan.seed is None:
        yield port
    else:
        with CuttingProxy(port, f"{plan.seed}/{number}") as proxy:
            yield proxy.port


def _fuzz(suite: Suite, port: int, cases: list[str], directory: Path) -> list[Result]:
    """Run one fuzzing client, and give a result for each case, also where it has none."""
    directory.mkdir(parents=True)
    specification = {
        "outdir": str(directory),
        "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (directory / "spec.json").write_text(json.dumps(specification))
    with (directory / "client.log").open("w") as log:
        client = subprocess.Popen(
            [*suite.wstest, "-m", "fuzzingclient", "-s", str(directory / "spec.json")],
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            client.wait(SLICE_DEADLINE)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()
    index: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        index = json.loads((directory / "index.json").read_text())[AGENT]
    return [_result(case, index.get(case), directory) for case in cases]


def _result(case: str, found: dict[str, Any] | None, directory: Path) -> Result:
    if found is None:
        return Result(case, "NO RESULT", "NO RESULT", None, 0, directory / "client.log")
    return Result(
        case,
        found["behavior"],
        found["behaviorClose"],
        found["remoteCloseCode"],
        found["duration"],
        (directory / found["reportfile"]).with_suffix(".html"),
    )
