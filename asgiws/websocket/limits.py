"""The limits of WebSockets, as plain numbers: bytes, messages and seconds."""

from __future__ import annotations

from typing import Final

from ..wire import deflate

NEVER: Final = float("inf")  # the time of a deadline that is not set
LOOK_SECONDS = 1.0  # how often deadlines are looked at, unless one is shorter


class Limits:
    """The limits of one server's WebSockets; a time of 0.0 means that there is no such limit."""

    __slots__ = (
        "accept_timeout",
        "close_timeout",
        "deflate",
        "idle_timeout",
        "max_queue",
        "max_size",
        "ping_interval",
        "ping_timeout",
        "write_timeout",
    )

    def __init__(
        self,
        *,
        max_size: int,
        max_queue: int,
        ping_interval: float | None,
        ping_timeout: float | None,
        close_timeout: float,
        accept_timeout: float | None,
        write_timeout: float | None,
        idle_timeout: float | None,
        deflate: deflate.Settings | None,
    ) -> None:
        """Sizes are in bytes, times in seconds; None switches a limit off."""
        self.max_size = max_size
        self.max_queue = max_queue
        self.ping_interval = ping_interval or 0.0
        self.ping_timeout = ping_timeout or 0.0
        self.close_timeout = close_timeout
        self.accept_timeout = accept_timeout or 0.0
        self.write_timeout = write_timeout or 0.0
        self.idle_timeout = idle_timeout or 0.0
        self.deflate = deflate

    def look_seconds(self) -> float:
        """The time between two looks at the deadlines: short beside the shortest of them."""
        spans = (
            self.ping_interval,
            self.ping_timeout,
            self.close_timeout,
            self.accept_timeout,
            self.write_timeout,
            self.idle_timeout,
        )
        return min(LOOK_SECONDS, min(filter(None, spans), default=LOOK_SECONDS) / 4)
