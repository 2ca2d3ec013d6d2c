"""The soak for less than a minute, and each thing that it is there for happens."""

from __future__ import annotations

import pytest

from .run import Plan, soak

pytestmark = pytest.mark.slow

FAULTS = ("kill", "flood", "roll", "stop_kill")


def test_none_is_lost_or_comes_twice_or_out_of_order() -> None:
    verdict = soak(Plan(seconds=40.0, workers=3, pause=5.0, faults=FAULTS))
    assert verdict.violations == []
    counts = verdict.counts
    for what in ("delivered", "recovered", "told as missing", "ended: 1012", "ended: 1013"):
        assert counts[what], what
    for fault in FAULTS:
        assert counts[f"fault: {fault}"], fault
