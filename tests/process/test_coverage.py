"""coverage.py sees what the application does in workers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from coverage import CoverageData

from ..toolkit.program import Program
from ..toolkit.raw_http import Client
from ..toolkit.served import Served

APP = """
async def app(scope, receive, send):
    if scope["path"] == "/left":
        status = 201
    else:
        status = 202
    await send({"type": "http.response.start", "status": status})
    await send({"type": "http.response.body"})
"""
LEFT, RIGHT = 4, 6  # the lines of the two statuses
CONFIG = "[run]\npatch = subprocess\nsource = .\n"


def recorded(directory: Path) -> list[set[int]]:
    """The lines of the application that each process has run."""
    found = []
    for file in directory.glob(".coverage.*"):
        data = CoverageData(str(file))
        data.read()
        found.append(set(data.lines(str(directory / "covered.py")) or ()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [lambda program: program.send(signal.SIGTERM), Program.ctrl_c],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_coverage_records_the_lines_that_ran_in_each_worker(
    end: Callable[[Program], None], tmp_path: Path
) -> None:
    """With ``patch = subprocess``, as the documentation of coverage has it. 2 s each."""
    (tmp_path / "covered.py").write_text(APP)
    (tmp_path / ".coveragerc").write_text(CONFIG)
    words = ("run", "-m", "asgiws", "covered:app", "--workers", "2", "--lifespan", "off")
    with Served("coverage", *words, "--port", "0", cwd=tmp_path) as served:
        served.wait_for_count(r"Worker \d+ .* is ready", 2)
        # The emptiest gets the next one: while the first is open that is the other worker.
        with Client(served) as first:
            assert first.get("/left").status == 201
            with Client(served) as second:
                assert second.get("/right").status == 202
        end(served)
        assert served.wait_for_end() == 0
        assert not served.lines("Traceback")
    processes = recorded(tmp_path)
    assert sum(LEFT in lines and RIGHT not in lines for lines in processes) == 1
    assert sum(RIGHT in lines and LEFT not in lines for lines in processes) == 1
