"""The terms by which connections end."""

from __future__ import annotations

from typing import NamedTuple

from ..options.config import Config

TERMINATED = "terminated"
INTERRUPTED = "interrupted"
REPLACED = "replaced"
RELOADED = "reloaded"


class Terms(NamedTuple):
    """How an end goes; all times in seconds."""

    window: float
    patience: float
    code: int = 1012
    reason: str = ""
    delay: float = 0.0
    late: bool = False
    drawn_out: bool = False
    final: bool = True

    @property
    def most_seconds(self) -> float:
        return self.delay + self.window + 2 * self.patience + 1.0


def terms(config: Config, why: str) -> Terms:
    return Terms(window=0.0, patience=config.timeout_graceful_shutdown)
