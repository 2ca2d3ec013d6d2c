"""The load generator against a real server: it counts right answers and objects to wrong ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.environment import build_load
from benchmarks.measure import Sample
from benchmarks.report import summarise

from .served import ROOT, Served


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("cc"), "the load generator needs a C compiler"
    return build_load(tmp_path_factory.mktemp("load") / "load")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    directory = str(ROOT / "benchmarks")
    with Served("asgiws", "apps:raw", "--app-dir", directory, "--port", "0") as server:
        yield server.port


def run(load: Path, port: int, arguments: str) -> dict[str, Any]:
    command = [load, *arguments.split(), "--port", str(port), "--slices", "1"]
    command += ["--slice-ms", "40", "--warmup-ms", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "arguments",
    [
        "echo --connections 4 --inflight 4 --size 125",
        "echo --connections 2 --size 70000 --binary",
        "echo --connections 2 --size 1024 --json --deflate",
        "push --path /push",
        "flood --path /flood --size 125",
        "broadcast --path /broadcast --connections 5 --size 125",
        "handshake --connections 3 --browser",
        "slow --connections 3 --size 125",
        "rate --connections 3 --rate 1000 --size 125",
        "hello --path /hello --connections 2",
        "post --path /post --connections 2 --size 10240",
        "download --path /download --connections 1",
    ],
)
def test_right_answers_are_counted(load: Path, port: int, arguments: str) -> None:
    result = run(load, port, arguments)
    assert (result["errors"], result["losses"]) == (0, 0), result["first_error"]
    assert result["near"]["units"] > 0


def test_one_wrong_letter_is_an_error(load: Path, port: int) -> None:
    result = run(load, port, "echo --path /corrupt --connections 2 --size 125")
    assert result["errors"] == 1
    assert "message 99: wrong content" in result["first_error"]


def test_a_message_in_another_order_is_an_error(load: Path, port: int) -> None:
    result = run(load, port, "echo --path /swap --connections 1 --inflight 4 --size 125")
    assert "wrong content in the first 8 bytes" in result["first_error"]


def test_an_answer_that_never_comes_is_a_loss(load: Path, port: int) -> None:
    result = run(load, port, "echo --path /swallow --connections 1 --size 125 --patience-ms 200")
    assert result["losses"] == 1
    assert "1 answers lost" in result["first_error"]


def test_a_ratio_compares_one_round_and_one_placement_only() -> None:
    def sample(server: str, round: int, placement: str, cpu: float, refused: str = "") -> Sample:
        return Sample(
            server, "push", "raw", round, placement=placement, cpu_us=cpu, refused=refused
        )

    table = summarise(
        [
            sample("uvicorn", 0, "near", 10.0),
            sample("uvicorn", 1, "far", 20.0),
            sample("uvicorn", 2, "near", 12.0),
            sample("asgiws", 0, "near", 5.0),
            sample("asgiws", 1, "near", 5.0),  # no like in its round
            sample("asgiws", 2, "near", 4.0),
            sample("granian", 0, "near", 1.0, refused="answers lost"),
        ]
    )
    cells = table["push", "raw"]
    assert cells["asgiws"].ratios == [2.0, 3.0]
    assert cells["asgiws"].ratio == 2.5
    assert cells["uvicorn"].ratio == 1.0
    assert cells["granian"].ratio is None
    assert cells["granian"].refused == ["answers lost"]
