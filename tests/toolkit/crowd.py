"""Many open WebSockets, and in which process each of them is.

The application sends the id of its process as the first message of a WebSocket.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from .raw_websocket import RawWebSocket


class Crowd:
    """Open WebSockets, and in which process each of them is."""

    def __init__(self, where: Any, served: Any = None, **options: Any) -> None:
        self.where = where
        self.served = served or where
        self.options = options
        self.stack = ExitStack()
        self.open: list[tuple[int, RawWebSocket]] = []

    def join(self, count: int, at_once: int = 1) -> None:
        """Open so many more, as many at a time as ``at_once`` says."""
        left = [count]
        lock = threading.Lock()

        def opening() -> None:
            while True:
                with lock:
                    if not left[0]:
                        return
                    left[0] -= 1
                one = RawWebSocket(self.where, **self.options)
                pid = int(one.read_frame()[1])
                with lock:
                    self.stack.enter_context(one)
                    self.open.append((pid, one))

        threads = [threading.Thread(target=opening) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def forget(self, pid: int) -> None:
        """That process has died."""
        self.open = [(whose, one) for whose, one in self.open if whose != pid]

    def counts(self) -> Counter[int]:
        """Return how many each process has."""
        return Counter(pid for pid, _ in self.open)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def skew(counts: Counter[int], workers: Iterable[int]) -> float:
    """By how much the busiest has more than the idlest, as a part of the mean."""
    of_each = [counts[pid] for pid in workers]
    return (max(of_each) - min(of_each)) / (sum(of_each) / len(of_each))
