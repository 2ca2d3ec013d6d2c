"""``python -m benchmarks``: servers x scenarios in interleaved rounds, then the report."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from datetime import date, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import environment, measure, report
from .micro.__main__ import measure as measure_codecs
from .plots import draw, summary
from .scenarios import FRAMEWORKS, SCENARIOS, Scenario
from .servers import BASE, QUICK, SERVERS, Server

RESULTS = environment.WORK / "results"
DOCS = environment.CHECKOUT / "docs"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list servers and scenarios, and end")
    parser.add_argument("--only", metavar="PATTERNS", help="scenarios, as in 'echo-*,push'")
    parser.add_argument("--servers", metavar="NAMES", help="servers, as in 'asgiws,uvicorn'")
    parser.add_argument("--apps", metavar="NAMES", help=f"of {', '.join(FRAMEWORKS)}")
    parser.add_argument("--quick", action="store_true", help="main scenarios, 3 servers, 3 minutes")
    parser.add_argument("--rounds", type=int, help="default 3, with --quick 2")
    parser.add_argument(
        "--shared",
        action="store_true",
        help="others use the machine too: accept unsaturated samples, for their CPU time only",
    )
    parser.add_argument("--no-counts", action="store_true", help="no system calls, instructions")
    parser.add_argument("--no-install", action="store_true", help="take the environment as it is")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md, README")
    parser.add_argument(
        "--report",
        metavar="JSON",
        type=Path,
        nargs="+",
        help="former runs: only report them, as one",
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> tuple[list[Server], list[tuple[Scenario, str]]]:
    """The servers and the (scenario, application) pairs that were asked for."""
    names = list(QUICK) if options.quick else list(SERVERS)
    if options.servers:
        names = options.servers.split(",")
        for name in names:
            if name not in SERVERS:
                raise SystemExit(f"no server {name!r}: see --list")
    patterns = options.only.split(",") if options.only else None
    apps = options.apps.split(",") if options.apps else FRAMEWORKS
    pairs = [
        (scenario, app)
        for scenario in SCENARIOS.values()
        for app in scenario.apps
        if app in apps
        and (patterns is None or any(fnmatch(scenario.name, pattern) for pattern in patterns))
        and (not options.quick or patterns or (scenario.quick and app == "raw"))
    ]
    if not pairs:
        raise SystemExit("no such scenario: see --list")
    return [SERVERS[name] for name in names], pairs


def listing() -> str:
    lines = ["servers:"]
    lines += [f"  {s.name:16} {s.note}" for s in SERVERS.values()]
    lines.append("scenarios:")
    for scenario in SCENARIOS.values():
        mark = "*" if len(scenario.apps) > 1 else " "
        lines.append(f"  {scenario.name:20}{mark} {scenario.title}")
    lines.append("* for Starlette and FastAPI too (--apps)")
    return "\n".join(lines)


def able(scenario: Scenario, app: str, server: Server) -> bool:
    return scenario.fits(server) and (app == "raw" or not server.floor)


def run(
    servers: list[Server],
    pairs: list[tuple[Scenario, str]],
    rounds: int,
    counts: bool,
    cores: measure.Cores,
) -> dict[str, Any]:
    """Measure everything, round by round; servers take turns within each scenario."""
    measure.raise_file_limit()
    total = rounds * sum(able(s, a, server) for s, a in pairs for server in servers)
    started = time.monotonic()
    samples: list[measure.Sample] = []
    done = 0
    base = next((server for server in servers if server.name == BASE), None)
    others = [server for server in servers if server is not base]
    for round in range(rounds):
        turn = round % max(1, len(others))
        for scenario, app in pairs:
            seen: set[str] = set()  # the placements in which the base was
            lonely: set[str] = set()  # those in which another server was, but not the base
            for server in [base, *others[turn:], *others[:turn]]:
                if server is None or not able(scenario, app, server):
                    continue
                new = measure.measure(scenario, server, app, round, cores, seen)
                samples += new
                places = {sample.placement for sample in new if not sample.refused}
                if server is base:
                    seen |= places
                elif not places & seen:
                    lonely |= places
                done += 1
                left = timedelta(seconds=int((time.monotonic() - started) / done * (total - done)))
                show(new, f"{done}/{total}, {left} left")
            if base and lonely:
                samples += measure.measure(scenario, base, app, round, cores, lonely)
    counted = count(servers, pairs, cores) if counts else []
    return {"samples": [sample.to_json() for sample in samples], "counts": counted}


def description(server: Server, pairs: list[tuple[Scenario, str]]) -> dict[str, str]:
    """A server in the report: how it was started, and its note."""
    env = [f"{name}={value}" for name, value in server.env.items()]
    found = {"note": server.note}
    for name, address, uds in (("command", "PORT", False), ("command_uds", "PATH", True)):
        if any(scenario.uds == uds and scenario.fits(server) for scenario, _ in pairs):
            found[name] = " ".join([*env, measure.command_line(server, "raw", address, uds)])
    return found


def show(samples: list[measure.Sample], progress: str) -> None:
    for s in samples:
        cost = f"{s.memory_kib:9.2f} KiB" if s.memory_kib else f"{s.cpu_us:9.2f} µs "
        what = s.refused and f"refused: {s.refused[:100]}"
        print(
            f"[{progress}] {s.scenario:18} {s.app:9} {s.server:16} {cost} {s.placement:4} {what}",
            file=sys.stderr,
        )


def count(
    servers: list[Server], pairs: list[tuple[Scenario, str]], cores: measure.Cores
) -> list[dict[str, Any]]:
    rows = []
    for scenario, app in pairs:
        if not scenario.counts or app != "raw":
            continue
        for server in servers:
            if able(scenario, app, server) and not server.only:
                try:
                    found = measure.count(scenario, server, app, cores)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"not counted: {server.name} {scenario.name}: {error}", file=sys.stderr)
                    continue
                print(f"{scenario.name} {server.name}: {found}", file=sys.stderr)
                rows.append({"scenario": scenario.name, "server": server.name} | found)
    return rows


def charts(data: dict[str, Any], target: Path) -> list[tuple[str, str]]:
    """Draw the charts into ``target``; returns (file name, what it shows) of those of the page."""
    table = report.summarise(measure.Sample(**sample) for sample in data["samples"])
    wanted: dict[str, dict[str, Any]] = {}

    def add(name: str, note: str, rows: list[dict[str, Any]], better: str = "high") -> None:
        if rows:
            wanted[name] = {"note": note, "rows": rows, "better": better}

    def ratios(keys: list[report.Key]) -> list[dict[str, Any]]:
        return [
            {"title": report.title(key), "server": name, "value": cell.ratio}
            for key in keys
            for name, cell in table[key].items()
            if cell.ratio is not None and not SERVERS[name].only
        ]

    def memory() -> list[dict[str, Any]]:
        """Of what was measured in several rounds: a single one is not drawn."""
        return [
            {"title": report.title(key), "server": name, "value": cell.median("memory_kib")}
            for key, cells in table.items()
            for name, cell in cells.items()
            if SCENARIOS[key[0]].mode == "idle"
            and not SERVERS[name].only
            and len({sample.round for sample in cell.samples}) > 1
        ]

    plain = [key for key in table if SCENARIOS[key[0]].throughput and key[1] == "raw"]
    echoes = [key for key in plain if SCENARIOS[key[0]].mode == "echo"]
    others = [key for key in plain if SCENARIOS[key[0]].mode != "echo"]
    frameworks = [key for key in table if key[1] != "raw"]
    faster = "Work per CPU time, uvicorn is 1 (longer is better)"
    add("summary", faster, summary(ratios(plain)))
    add("echo", faster, ratios(echoes))
    add("others", faster, ratios(others))
    add("frameworks", faster, ratios(frameworks))
    add("memory", "KiB per connection (shorter is better)", memory(), better="low")
    draw(wanted, target)
    texts = {
        "summary": "The main scenarios, compared with uvicorn",
        "echo": "Echo, compared with uvicorn",
        "others": "Other scenarios, compared with uvicorn",
        "frameworks": "Through Starlette and FastAPI, compared with uvicorn",
        "memory": "Memory of an idle connection",
    }
    return [(f"{name}.svg", text) for name, text in texts.items() if name in wanted]


def write(data: dict[str, Any], publish: bool) -> None:
    """The results as JSON, markdown and charts; with ``publish`` into docs/ and the README too."""
    target = RESULTS / data["name"]
    target.mkdir(parents=True, exist_ok=True)
    (target / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    drawn = charts(data, target)
    (target / "benchmarks.md").write_text(report.page(data, drawn))
    print(f"written to {target.relative_to(environment.CHECKOUT)}/", file=sys.stderr)
    if publish:
        drawn = charts(data, DOCS / "benchmarks")
        paths = [(f"benchmarks/{name}", text) for name, text in drawn]
        (DOCS / "benchmarks.md").write_text(report.page(data, paths))
        if not report.insert(environment.CHECKOUT / "README.md", report.readme_table(data)):
            print(f"README.md has no {report.START} ... {report.END}", file=sys.stderr)


def main() -> None:
    options = arguments()
    if options.list:
        print(listing())
        return
    if options.report:
        try:
            merged = report.merge([json.loads(path.read_text()) for path in options.report])
        except (OSError, ValueError) as error:
            raise SystemExit(f"no report: {error}") from None
        write(merged, options.publish)
        return
    servers, pairs = chosen(options)
    try:
        if not options.no_install:
            environment.install_peers()
            if any(server.name.startswith("asgiws") for server in servers):
                environment.install_asgiws()
        environment.build_load()
        environment.build_floor()
    except environment.NotReady as error:
        raise SystemExit(str(error)) from None
    if BASE not in {server.name for server in servers}:
        print(f"without {BASE} there are no ratios", file=sys.stderr)
    rounds = options.rounds or (2 if options.quick else 3)
    data: dict[str, Any] = {
        "name": time.strftime("%Y-%m-%d-%H%M%S"),
        "date": date.today().isoformat(),
        "commands": [shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])],
        "rounds": rounds,
        "shared": options.shared,
        "machine": environment.machine(),
        "versions": environment.versions(),
        "servers": {server.name: description(server, pairs) for server in servers},
    }
    counts = not (options.no_counts or options.quick)
    data |= run(servers, pairs, rounds, counts, measure.choose_cores(options.shared))
    if counts and not options.only:
        data["micro"] = measure_codecs()
    write(data, options.publish)
    print(report.terminal(report.summarise(measure.Sample(**s) for s in data["samples"])))


if __name__ == "__main__":
    main()
