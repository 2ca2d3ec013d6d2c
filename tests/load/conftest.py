"""The figures of the load tests: printed at the end, and written into docs/reliability.md.

`pytest -m slow tests/load` prints them. FULL_SIZE=1 runs every test at its full
size, WRITE_FIGURES=1 writes the table into the page.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

import asgiws

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- load: written by WRITE_FIGURES=1 pytest -m slow tests/load -->\n"
END = "<!-- end of load -->\n"

FIGURES: list[tuple[str, str]] = []


@pytest.fixture
def full_size() -> bool:
    return bool(os.environ.get("FULL_SIZE"))


@pytest.fixture
def figure() -> Callable[[str, str], None]:
    """Note what was done, and what was measured."""

    def note(done: str, measured: str) -> None:
        FIGURES.append((done, measured))

    return note


def table() -> str:
    lines = ["| Done to the server | Measured |", "|---|---|"]
    lines += [f"| {done} | {measured} |" for done, measured in FIGURES]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    version = f"asgiws {asgiws.__version__} ({asgiws.build()}), Python {platform.python_version()}"
    return "\n".join([*lines, "", f"{version}, {machine}.", ""])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not FIGURES:
        return
    terminalreporter.section("figures")
    terminalreporter.write_line(table())
    if os.environ.get("WRITE_FIGURES"):
        page = PAGE.read_text("utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")
