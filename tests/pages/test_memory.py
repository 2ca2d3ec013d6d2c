"""docs/how-to/memory.md: the program that measures, and the sums of the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from asgiws.options.config import OPTIONS

from ..deploy.pages import text, typed
from ..test_docs import snippets
from ..toolkit.served import Served

PAGE = "how-to/memory"


@pytest.mark.slow  # 4 s, and it measures
def test_the_program_tells_what_a_connection_takes(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(snippets()["fastapi"], "utf-8")
    (tmp_path / "measure.py").write_text(snippets()["memory-measure"], "utf-8")
    with Served("asgiws", "main:app", "--port", "0", "--workers", "2", cwd=tmp_path) as server:
        script, _, url = re.sub(r"\$\(.*?\)", "PID", typed(PAGE, "measure")).split()[1:]
        url = url.replace("8000", str(server.port))
        words = [sys.executable, script, str(server.process.pid), url]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        (kilobytes,) = re.findall(r"^([\d.]+) KiB for a connection$", done.stdout, re.MULTILINE)
        assert 9 < float(kilobytes) < 200
        found = typed(PAGE, "measure").partition("$(")[2].partition(")")[0]
        assert found == "pgrep --oldest --full 'asgiws main:app'"


def test_the_example_adds_up() -> None:
    plan = text(PAGE).partition("## Plan")[2].partition("\n## ")[0]
    *parts, whole = [int(n.replace(",", "")) for n in re.findall(r"\| ([\d,]+) MB \|$", plan, re.M)]
    assert sum(parts) == whole
    assert parts == [20, 4 * 100, 20_000 * 53 * 1024 // 10**6, round(4 * 16 * 1024**2 / 10**6)]


def test_the_options_and_defaults_are_asgiws_s() -> None:
    page = re.sub(r"```sh\n.*?```", "", text(PAGE), flags=re.S).replace("<!--", "")
    known = {option.flag: option for option in OPTIONS}
    negated = {flag.replace("--", "--no-", 1) for flag in known}
    named = set(re.findall(r"--[a-z][a-z-]+", page))
    assert len(named) > 8
    assert named - {"--ppid", "--property", "--value"} <= set(known) | negated
    assert known["--ws-max-queue"].default == 32
    assert known["--ws-max-size"].default == known["--topics-history-memory"].default == 16 * 2**20
