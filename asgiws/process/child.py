"""One worker process, as its parent sees it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Self

from ..options.config import Config
from . import inbox
from .board import DEBUGGED, Board, Seat
from .channel import Channel, pair
from .dispatch import Receiver
from .drain import Terms
from .spawning import PROBE, Spec, spawn

DUMP_SECONDS = 1.0  # for a worker that hangs, to write its tracebacks
BLOCKED_SECONDS = 5.0  # for an event loop that is blocked, beyond all other deadlines
NEVER = float("inf")

# The states of a worker.
HELD = "held"  # its interpreter is there, and waits for a word before it loads the application
STARTING = "starting"
SERVING = "serving"
DRAINING = "draining"
KILLED = "killed"


class Child:
    """A worker from its start to its end.

    ``generation`` tells which options and code it has. ``replaces`` is the worker whose successor
    it is, until that one drains. ``retires`` is the reason for which it wants to be replaced.
    Times are of the supervisor's fair clock, which stands still while the supervisor does.
    """

    def __init__(
        self,
        place: int,
        number: int,
        pid: int,
        seat: Seat,
        receiver: Receiver,
        channel: Channel,
        generation: int,
        now: float,
    ) -> None:
        """``place`` is that of its ``seat``; it is starting."""
        self.place = place
        self.number = number
        self.pid = pid
        self.seat = seat
        self.receiver = receiver
        self.channel = channel
        self.generation = generation
        self.replaces: Child | None = None
        self.retires = ""
        self.state = STARTING
        self.since = now  # when it came into its state
        self.served: float | None = None  # since when it has served, or did
        self.heard = now  # when its beat last changed
        self.is_over = False  # its event loop is closed, and what is left is the process
        self.kill_at = NEVER
        self.failure: dict[str, Any] = {}  # why it could not start, in its own words
        self.uses_topics = False  # and knows the others that do
        self._beat = 0
        self._probed = False

    @classmethod
    def start(
        cls,
        config: Config,
        addresses: list[Any],
        board: Board,
        log: int,
        place: int,
        number: int,
        generation: int,
        now: float,
        held: bool = False,
    ) -> Self:
        """Start one, or the interpreter of one (``held``). Raises ConfigError and OSError."""
        seat = board.seat(place)
        seat.clear()
        near, far = inbox.pair()
        receiver = Receiver(seat, near, far)
        ours, theirs = pair()
        try:
            with theirs:
                pid = spawn(
                    Spec(
                        number,
                        place,
                        board.fd,
                        theirs.fileno(),
                        far.fileno(),
                        log,
                        _options(config),
                        addresses,
                        list(sys.path),
                        list(sys.argv),
                        held,
                    )
                )
        except BaseException:
            receiver.close()
            ours.close()
            raise
        child = cls(place, number, pid, seat, receiver, ours, generation, now)
        if held:
            child.enter(HELD, now)
        return child

    @classmethod
    def taken_over(cls, state: dict[str, Any], board: Board, now: float) -> Self:
        """One that the program before this one has started; ``state`` is its ``handed_over``."""
        seat = board.seat(state["place"])
        receiver = Receiver(seat, inbox.adopt(state["near"]), inbox.adopt(state["far"]))
        child = cls(
            state["place"],
            state["number"],
            state["pid"],
            seat,
            receiver,
            Channel.adopt(state["channel"]),
            state["generation"],
            now,
        )
        child.enter(state["state"], now)
        child.uses_topics = state["uses_topics"]
        if state["kill_in"] is not None:
            child.kill_at = now + state["kill_in"]
        for fd in child.descriptors:
            os.set_inheritable(fd, False)
        return child

    def handed_over(self, now: float) -> dict[str, Any]:
        """The facts about it that the next program must know. All of them can be JSON."""
        return {
            "place": self.place,
            "number": self.number,
            "pid": self.pid,
            "generation": self.generation,
            "state": self.state,
            "uses_topics": self.uses_topics,
            "kill_in": None if self.kill_at == NEVER else self.kill_at - now,
            "near": self.receiver.near.fileno(),
            "far": self.receiver.far.fileno(),
            "channel": self.channel.fileno(),
        }

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that the next program must inherit."""
        return [
            self.receiver.near.fileno(),
            self.receiver.far.fileno(),
            self.channel.fileno(),
        ]

    def __str__(self) -> str:
        return f"Worker {self.number} (pid {self.pid})"

    def enter(self, state: str, now: float) -> None:
        """Enter another state."""
        self.state = state
        self.since = now
        self.receiver.open = state == SERVING
        if state == SERVING:
            self.served = self.heard = now

    def watch(self, now: float, patience: float | None) -> bool:
        """Return whether its event loop hangs: for ``patience`` seconds it gave no sign of life."""
        beat = self.seat.beat
        if beat != self._beat or beat == DEBUGGED:
            self._beat = beat
            self.heard = now
            self._probed = False
        silent = now - self.heard
        if patience is None or self.state != SERVING:
            return False
        if silent > patience / 2 and not self._probed:
            self._probed = True
            self.signal(PROBE)
        return silent > patience

    def let_go(self, generation: int, now: float) -> None:
        """Let it load the application, as a worker of that generation."""
        self.generation = generation
        self.enter(STARTING, now)
        self.channel.send("go")

    def drain(self, now: float, terms: Terms) -> None:
        """Let it end by these terms; a second call can only make the end come sooner."""
        if self.state == STARTING:
            # While it imports the application it does not read the channel; the signal ends it
            # there.
            self.signal(signal.SIGTERM)
        self.enter(DRAINING, now)
        self.kill_at = min(self.kill_at, now + terms.most_seconds + BLOCKED_SECONDS)
        self.channel.send("drain", terms=terms._asdict())

    def introduce(self, other: Child) -> bool:
        """Connect it with another worker, for topics; return whether that could be tried.

        If the message does not reach one of them, the other one sees the end, and asks again.
        """
        try:
            near, far = socket.socketpair()
        except OSError:
            return False
        with near, far:
            self.channel.send("meet", near.fileno(), number=other.number)
            other.channel.send("meet", far.fileno(), number=self.number)
        return True

    def warn(self, terms: Terms) -> None:
        """Tell it that it will have to drain after ``terms.delay``."""
        self.channel.send("drain", terms=terms._asdict())

    def dump(self, now: float) -> None:
        """End it, with the tracebacks of its threads."""
        self.enter(KILLED, now)
        self.signal(signal.SIGABRT)
        self.kill_at = now + DUMP_SECONDS

    def kill(self, now: float) -> None:
        """End it at once."""
        self.enter(KILLED, now)
        self.kill_at = NEVER
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal; it is not reaped yet, so the process id is its own."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """It has ended: let go of all that we shared, except its inbox."""
        self.channel.close()


def told(status: int) -> str:
    """Words for how a process ended; ``status`` is that of waitpid."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def exit_code(status: int) -> int:
    """The exit code of a program that ends for that reason: as shells have it, and never 0."""
    code = os.waitstatus_to_exitcode(status)
    return code or 1 if code >= 0 else 128 - code


def _options(config: Config) -> dict[str, Any]:
    """The options of a worker; it serves for itself alone."""
    return {field: getattr(config, field) for field in config.__dataclass_fields__} | {"workers": 1}
