"""``python -m benchmarks.instructions``: what a request costs in instructions, which do not drift.

callgrind counts them in user mode, in the real server, with one connection of which each request
waits for its answer. The kernel's part is not in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace

from . import environment, measure, parts, report
from .scenarios import SCENARIOS, Scenario
from .servers import SERVERS

PAGE = environment.CHECKOUT / "docs" / "performance.md"
START, END = "<!-- instructions -->", "<!-- /instructions -->"

# The scenarios, the applications, and the words of the table.
ROWS = (
    ("hello", "raw", "a small page, the connection kept alive"),
    ("hello", "starlette", "the same through Starlette"),
    ("json", "fastapi", "a small page as JSON through FastAPI"),
    ("connections", "raw", "a connection, one request, its end"),
    ("post-1k", "raw", "POST, 1 KiB sent back"),
    ("post-10k", "raw", "POST, 10 KiB sent back"),
    ("download", "raw", "a download of 1 MiB in 64 pieces"),
    ("file-64k", "starlette", "a file of 64 KiB by `FileResponse`"),
    ("handshake", "raw", "an opening handshake, one echo, its end"),
    ("handshake-browser", "raw", "the same with a browser's headers"),
)
COLUMNS = {
    "asgiws": "with httptools",
    "asgiws-h11": "with h11",
    "asgiws-pathsend": "`--pathsend`",
    "uvicorn": "uvicorn",
}


def alone(scenario: Scenario) -> Scenario:
    """The same with one connection."""
    load = re.sub(r"--connections \d+", "--connections 1", scenario.load)
    return replace(scenario, load=load)


def count(name: str, app: str, server: str, cores: measure.Cores) -> float | None:
    """Instructions per unit of a scenario; None where the server does not take part."""
    scenario = SCENARIOS[name]
    if not scenario.fits(SERVERS[server]):
        return None
    return measure.instructions(alone(scenario), SERVERS[server], app, cores).get("instructions")


def table(counted: dict[tuple[str, str, str], float]) -> str:
    """The table of the page."""
    head = ["", *COLUMNS.values()]
    rows = []
    for name, app, words in ROWS:
        cells = [counted.get((name, app, server)) for server in COLUMNS]
        if any(cell is not None for cell in cells):
            rows.append([words, *(f"{cell:,.0f}" if cell else "" for cell in cells)])
    return parts.table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--only", metavar="SCENARIOS", help="as in 'hello,handshake'")
    parser.add_argument("--no-install", action="store_true", help="take the environment as it is")
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md as well")
    options = parser.parse_args()
    try:
        if not options.no_install:
            environment.install_peers()
            environment.install_asgiws()
        environment.build_load()
    except environment.NotReady as error:
        raise SystemExit(str(error)) from None
    wanted = options.only.split(",") if options.only else None
    cores = measure.choose_cores(shared=True)
    counted: dict[tuple[str, str, str], float] = {}
    for name, app, _ in ROWS:
        if wanted is not None and name not in wanted:
            continue
        for server in COLUMNS:
            found = count(name, app, server, cores)
            if found is not None:
                counted[name, app, server] = found
                print(f"{name} {app} {server}: {found:,.0f}", file=sys.stderr)
    text = table(counted)
    print(text)
    if options.publish and not report.insert(PAGE, text, START, END):
        raise SystemExit(f"{PAGE.name} has no {START} ... {END}")


if __name__ == "__main__":
    main()
