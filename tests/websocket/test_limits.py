"""The limits of WebSockets: what is switched off, and how often deadlines are looked at."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

TIMES = (
    "ping_interval",
    "ping_timeout",
    "close_timeout",
    "accept_timeout",
    "write_timeout",
    "idle_timeout",
)


def limits(package: ModuleType, **given: Any) -> Any:
    options = dict.fromkeys(TIMES) | {"close_timeout": 10.0, "deflate": None}
    options |= {"max_size": 1, "max_queue": 1}
    return package.websocket.limits.Limits(**(options | given))


@pytest.mark.parametrize("name", TIMES)
def test_a_short_deadline_is_looked_at_four_times(package: ModuleType, name: str) -> None:
    assert limits(package, **{name: 0.2}).look_seconds() == pytest.approx(0.05)
    assert limits(package, **{name: 600.0}).look_seconds() == 1.0


@pytest.mark.parametrize("name", [name for name in TIMES if name != "close_timeout"])
def test_none_switches_a_deadline_off(package: ModuleType, name: str) -> None:
    assert getattr(limits(package, **{name: None}), name) == 0.0
    assert getattr(limits(package, **{name: 7}), name) == 7
