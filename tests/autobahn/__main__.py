"""The command: what runs, and whether it was good enough.

    python -m tests.autobahn                    all 517 cases, compiled build, bare ASGI
    python -m tests.autobahn --fast             sections 1 to 7 and 10
    python -m tests.autobahn --cases 7.* 9.1.1  these
    python -m tests.autobahn --cuts             through a proxy that splits the stream
    python -m tests.autobahn --matrix full      everything that docs/reliability.md reports
    python -m tests.autobahn --matrix ci        what CI runs

The exit code is 0 only if every case is OK (7.1.6, 7.13.1 and 7.13.2 may be informational),
every connection was closed cleanly, and the server printed no error and stopped with 0.
It is 1 if not, and 2 if the suite cannot run here, for want of a Python 2.7 for example.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from fnmatch import fnmatchcase

from .run import Outcome, Plan, execute, order
from .suite import Suite, Unavailable

ALL = ("*",)
FAST = ("[1-7].*", "10.*")

FULL_MATRIX = (
    # build, application, cases, cuts, parser
    ("compiled", "raw", ALL, False, "httptools"),
    ("compiled", "starlette", ALL, False, "httptools"),
    ("compiled", "raw", ALL, True, "httptools"),
    ("compiled", "raw", FAST, False, "h11"),
    ("pure", "raw", FAST, False, "httptools"),
    ("pure", "starlette", FAST, False, "httptools"),
    ("pure", "raw", FAST, True, "httptools"),
    ("pure", "raw", FAST, False, "h11"),
)
CI_MATRIX = (
    ("compiled", "raw", ALL, False, "httptools"),
    ("compiled", "starlette", FAST, False, "h11"),
    ("compiled", "raw", FAST, True, "httptools"),
    ("pure", "raw", FAST, False, "h11"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cases", nargs="+", metavar="PATTERN", default=ALL)
    which.add_argument("--fast", action="store_const", dest="cases", const=FAST)
    which.add_argument("--matrix", choices=("full", "ci"))
    parser.add_argument("--app", choices=("raw", "starlette"), default="raw")
    parser.add_argument("--build", choices=("compiled", "pure"), default="compiled")
    parser.add_argument("--http", choices=("h11", "httptools"), default="", help="the parser")
    parser.add_argument("--cuts", action="store_true", help="split what the clients send")
    parser.add_argument("--seed", default="1", help="of the cuts (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="clients at a time")
    parser.add_argument(
        "--server-command",
        default=Plan.server,
        metavar="COMMAND",
        help="what follows `python -m`, for another server (default: %(default)s)",
    )
    return parser.parse_args()


def plans(options: argparse.Namespace, suite: Suite) -> list[Plan]:
    rows = {
        None: [(options.build, options.app, options.cases, options.cuts, options.http)],
        "full": FULL_MATRIX,
        "ci": CI_MATRIX,
    }[options.matrix]
    return [
        Plan(
            app,
            build,
            select(suite.cases, patterns),
            options.seed if cuts else None,
            options.server_command,
            parser,
        )
        for build, app, patterns, cuts, parser in rows
    ]


def select(cases: list[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The cases that match any of ``patterns``. A pattern that matches none is an error."""
    for pattern in patterns:
        if not any(fnmatchcase(case, pattern) for case in cases):
            raise Unavailable(f"There is no case {pattern}.")
    chosen = (case for case in cases if any(fnmatchcase(case, each) for each in patterns))
    return tuple(sorted(chosen, key=order))


def show(plan: Plan, outcome: Outcome, suite: Suite) -> None:
    """The summary of one run."""
    width = max(map(len, suite.sections.values()))
    print(f"\n  {'section':{width + 3}} {'cases':>6} {'OK':>6} {'informational':>14} {'bad':>6}")
    for section, title in sorted(suite.sections.items(), key=lambda item: int(item[0])):
        results = [each for each in outcome.results if each.case.split(".")[0] == section]
        if not results:
            continue
        behavior = Counter(each.behavior for each in results if each.good)
        bad = sum(not each.good for each in results)
        print(
            f"  {section:>2} {title:{width}} {len(results):6} {behavior['OK']:6} "
            f"{behavior['INFORMATIONAL']:14} {bad:6}"
        )
    for result in outcome.bad:
        print(f"  BAD  {result}")
    if outcome.complaints:
        print("  BAD  the server printed:\n" + "".join(outcome.complaints[:40]))
    if outcome.exit_code:
        print(f"  BAD  the server's exit code was {outcome.exit_code}")
    slowest = sorted(outcome.results, key=lambda each: -each.milliseconds)[:3]
    print("  slowest: " + ", ".join(f"{each.case} {each.milliseconds} ms" for each in slowest))
    print(f"{'GOOD' if outcome.good else 'NOT GOOD'}: {plan.name}, {outcome.seconds:.0f} s\n")


def table(outcomes: list[tuple[Plan, Outcome]]) -> None:
    """All runs as a table for docs/reliability.md."""
    print("| build | parser | application | stream | cases | OK | informational | bad | seconds |")
    print("|---|---|---|---|---:|---:|---:|---:|---:|")
    for plan, outcome in outcomes:
        behavior = Counter(each.behavior for each in outcome.results if each.good)
        stream = "whole" if plan.seed is None else f"cut, seed {plan.seed}"
        print(
            f"| {plan.build} | {plan.parser} | {plan.app} | {stream} | {len(outcome.results)} "
            f"| {behavior['OK']} | {behavior['INFORMATIONAL']} | {len(outcome.bad)} "
            f"| {outcome.seconds:.0f} |"
        )


def main() -> int:
    options = arguments()
    outcomes = []
    try:
        suite = Suite()
        for plan in plans(options, suite):
            print(f"{plan.name}: {len(plan.cases)} cases", flush=True)
            outcome = execute(plan, suite, options.jobs)
            show(plan, outcome, suite)
            outcomes.append((plan, outcome))
    except Unavailable as exc:
        print(exc, file=sys.stderr)
        return 2
    table(outcomes)
    return 0 if all(outcome.good for _, outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
