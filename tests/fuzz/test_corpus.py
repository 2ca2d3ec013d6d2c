"""What the coverage-guided fuzzer has found interesting, replayed against both builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_the_saved_corpus_holds(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert len(files) >= 5
    for file in files:
        TARGETS[name](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_any_bytes(name: str) -> None:
    for data in b"", b"\0", b"\xff" * 2, bytes(range(256)), b"\xff" * 1000, b"\0" * 1000:
        TARGETS[name](data)
