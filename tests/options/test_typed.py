"""The types of the options: as the declaration says, and as type checkers take them."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import asgiws
from asgiws.errors import ConfigError
from asgiws.options.config import OPTIONS, Config
from asgiws.options.kinds import Option

ROOT = Path(__file__).parents[2]
SNIPPETS = Path(__file__).parent / "snippets"


def test_they_are_written_from_the_declaration() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "options_table.py"))
    text = written["TYPED"].read_text("utf-8")
    assert text == written["typed"](), "run: python docs/options_table.py"


def test_every_option_has_a_type_and_each_is_a_keyword_argument() -> None:
    hints = get_type_hints(asgiws.Options)
    assert ["app", *hints] == [option.name for option in OPTIONS]
    assert hints["port"] is int
    assert hints["limit_max_age"] == float | None


@pytest.mark.parametrize("option", OPTIONS[1:], ids=lambda option: option.name)
def test_none_and_each_choice_are_taken_where_the_type_has_them(option: Option) -> None:
    hint = get_type_hints(asgiws.Options)[option.name]
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    given = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if NoneType in parts:
        given.append(None)
    else:
        with pytest.raises(ConfigError, match=rf"^Config\({option.name}=None\)"):
            Config("main:app", **{option.name: None})
    for value in given:
        Config("main:app", **{option.name: value})


def mypy() -> set[tuple[str, int]]:
    words = ["-m", "mypy", "--strict", "--output", "json", str(SNIPPETS)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(Path(one["file"]).name, one["line"]) for one in found if one["severity"] == "error"}


def pyright() -> set[tuple[str, int]]:
    words = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(SNIPPETS)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=SNIPPETS, timeout=300
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["generalDiagnostics"]
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_type_checker_refuses_what_is_wrong_and_accepts_what_is_right(
    checker: Callable[[], set[tuple[str, int]]],
) -> None:
    wrong = (SNIPPETS / "wrong.py").read_text("utf-8").splitlines()
    expected = {
        ("wrong.py", number) for number, line in enumerate(wrong, 1) if re.search("# no$", line)
    }
    assert len(expected) > 30
    assert checker() == expected
