"""An event loop whose time passes at once, for what takes minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing can run its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> Any:
        self._now += timeout or 0.0
        return self._select(0)


def jumping(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run the test in such a loop."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test())

    return run
