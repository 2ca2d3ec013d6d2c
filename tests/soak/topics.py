"""The topics of the soak, and its messages: who published it, its number, when, and padding."""

from __future__ import annotations

import json
import random
from typing import Any, Final

# How many messages of a topic are kept, and for how many seconds.
RETENTION: Final = {"kept:": (400, 20.0), "heavy-kept:": (200, 20.0), "latest:": (1, 600.0)}

PLAIN: Final = ("plain:0", "plain:1", "heavy:0")
KEPT: Final = ("kept:0", "kept:1", "heavy-kept:0", "latest:0")
OF_TASKS: Final = PLAIN + KEPT

KEYS: Final = 3


def is_kept(topic: str) -> bool:
    """Return whether it has a history."""
    return topic in KEPT


def padding(topic: str, randomly: random.Random) -> int:
    """Return how many bytes a message is to have besides."""
    if topic.startswith("heavy"):
        return randomly.randint(10_000, 60_000)
    return randomly.choice((0, 10, 200, 2_000))


def said(publisher: str, number: int, seconds: float, pad: int) -> dict[str, Any]:
    """The arguments of ``publish`` for a message: as JSON, text or bytes."""
    value = {"p": publisher, "n": number, "t": seconds, "x": "x" * pad}
    message: dict[str, Any]
    if number % 3 == 0:
        message = {"json": value}
    elif number % 3 == 1:
        message = {"text": json.dumps(value)}
    else:
        message = {"bytes": json.dumps(value).encode()}
    return message | {"key": f"key-{number % KEYS}"}
