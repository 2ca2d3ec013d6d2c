"""The workers of a program: as many as are wanted, replaced when they die or get old.

The successor of a worker that still serves is ready before that worker drains, and workers are
replaced one after the other. Numbers go in (times, statuses of processes), orders go out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import WorkerFailed
from ..fanout.history import begin_log
from ..log import error_log
from ..options.config import MOST_WORKERS, Config
from .board import SEATS, Board
from .child import DRAINING, KILLED, SERVING, STARTING, Child, exit_code, told
from .descriptors import memory_file
from .dispatch import Dispatcher
from .drain import REPLACED, Terms, terms

EARLY_SECONDS = 10.0  # a worker that dies sooner has died early
LONGEST_BACKOFF = 30.0
LONGEST_ALONE = 5.0  # the same while no worker serves, so that clients wait for it


class Fleet:
    """All workers, and the decisions about them.

    ``now`` is the supervisor's fair clock everywhere. It stands still while the supervisor
    does, so that no worker is blamed for a delay of the supervisor.
    """

    def __init__(
        self,
        config: Config,
        addresses: list[Any],
        dispatcher: Dispatcher,
        board: Board | None = None,
        log: int | None = None,
    ) -> None:
        """``board`` and ``log`` are those of the program before this one, if there was one."""
        self.config = config
        self.addresses = addresses
        self.wanted = config.workers
        self.board = Board() if board is None else board
        #: a file in memory, for what the workers keep of their topics
        self.log = _new_log(config) if log is None else log
        self.children: list[Child] = []
        self.dispatcher = dispatcher
        self.ending = False
        #: whether the last replacement of all workers was given up
        self.gave_up = False
        #: the error by which the program ends, if no worker can start
        self.failed: WorkerFailed | None = None
        #: called with a worker that has been started, and with one that has ended
        self.on_start: Callable[[Child], object] = lambda child: None
        self.on_end: Callable[[Child], object] = lambda child: None
        self._generation = 0
        self._before: Config | None = None  # the options of the workers that are being replaced
        self._numbers = 0
        self._early = 0  # early deaths in a row, each of one that came after the last
        self._early_until = 0  # the number of the newest worker at the last of them
        self._next_start = 0.0
        self.has_served = False

    def count(self, *states: str) -> int:
        """Return how many workers are in one of the states."""
        return sum(child.state in states for child in self.children)

    @property
    def is_replacing(self) -> bool:
        """True if ``replace_all`` is in progress."""
        return self._before is not None

    # Orders.

    def resize(self, wanted: int) -> None:
        """Set the number of workers."""
        self.wanted = max(1, min(MOST_WORKERS, wanted))
        error_log.info(
            "%d %s wanted", self.wanted, "worker is" if self.wanted == 1 else "workers are"
        )

    def replace_all(self, config: Config) -> None:
        """Replace all workers, one after the other, by workers with these options."""
        self._before = self._before or self.config
        self.gave_up = False
        self.config = config
        self.wanted = config.workers
        self._generation += 1

    def warn_all(self, ends: Terms) -> None:
        """The program will end by these terms: tell every worker, which serves on."""
        self.ending = True
        for child in self.children:
            child.warn(ends)

    def take_over(self, state: dict[str, Any], now: float) -> None:
        """Go on with the workers of the program before, and replace them."""
        for each in state["children"]:
            child = Child.taken_over(each, self.board, now)
            self.children.append(child)
            self.on_start(child)
            if child.state == SERVING:
                self.has_served = True
                self.dispatcher.receivers.append(child.receiver)
        self._numbers = state["numbers"]
        self._generation = state["generation"]
        self.replace_all(self.config)

    def handed_over(self, now: float) -> dict[str, Any]:
        """The facts about the workers that the next program must know. All of them can be JSON."""
        return {
            "board": self.board.fd,
            "log": self.log,
            "children": [child.handed_over(now) for child in self.children],
            "numbers": self._numbers,
            "generation": self._generation,
        }

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that the next program must inherit."""
        return [
            self.board.fd,
            self.log,
            *(fd for child in self.children for fd in child.descriptors),
        ]

    def drain_all(self, now: float, ends: Terms) -> None:
        """The program ends: every worker drains."""
        self.ending = True
        for child in self.children:
            if child.state != KILLED:
                child.drain(now, ends)

    def kill_all(self) -> None:
        """End every worker at once."""
        for child in self.children:
            child.kill(0.0)

    # Events.

    def hear(self, child: Child, now: float) -> bool:
        """Read what a worker says; return whether it said something."""
        message = child.channel.receive()
        if message is None:
            return False
        kind = message["kind"]
        if kind == "ready" and child.state == STARTING:
            self._serve(child, now)
        elif kind == "failed":
            child.failure = message
        elif kind == "over":
            child.is_over = True
        elif kind == "retire":
            child.retires = str(message.get("reason"))
        elif kind == "topics":
            self._introduce(child, message["known"])
        return True

    def look(self, now: float) -> None:
        """Do all that is due: watch, replace, start, kill."""
        if self._early and self._is_settled(now):
            self._early = 0
        for child in tuple(self.children):
            if now >= child.kill_at:
                error_log.error("%s does not end: killing it", child)
                child.kill(now)
            elif child.state == STARTING:
                limit = self.config.timeout_worker_start
                if limit is not None and now - child.since > limit:
                    error_log.error("%s is not ready after %g s: killing it", child, limit)
                    child.dump(now)
            elif child.watch(now, self.config.timeout_worker_healthcheck):
                error_log.error(
                    "%s hangs: its event loop has not run for %g s; its tracebacks follow",
                    child,
                    self.config.timeout_worker_healthcheck,
                )
                self._retract(child)
                child.dump(now)
        if not self.ending:
            self._balance(now)
            self._replace(now)

    def ended(self, child: Child, status: int, now: float) -> None:
        """A worker has ended, with that status of waitpid."""
        while self.hear(child, now):
            pass
        was = child.state
        self.children.remove(child)
        self.on_end(child)
        self._retract(child)
        self.dispatcher.bury(child.receiver)
        child.close()
        for other in self.children:
            if other.replaces is child:
                other.replaces = None
        if self.ending or was == DRAINING:
            # A worker that had not started yet has nothing to end.
            expected = not status or was == KILLED or child.served is None
            level = error_log.debug if expected else error_log.warning
            level("%s has ended: %s", child, told(status))
        elif child.served is not None:
            self._died(child, status, now)
        else:
            self._failed(child, status, now)
        self._share()

    def _introduce(self, child: Child, known: list[int]) -> None:
        """Connect it with all others that use topics, except those that it knows."""
        child.uses_topics = True
        tried = [
            child.introduce(other)
            for other in self.children
            if other is not child and other.uses_topics and other.number not in known
        ]
        child.channel.send("joined", complete=all(tried))

    def _serve(self, child: Child, now: float) -> None:
        child.enter(SERVING, now)
        self.has_served = True
        self.dispatcher.receivers.append(child.receiver)
        error_log.info("%s is ready", child)
        predecessor = child.replaces
        child.replaces = None
        if predecessor is not None:
            self._drain(predecessor, now)
        self._share()

    def _drain(self, child: Child, now: float) -> None:
        """Let it end: others serve in its place."""
        self._retract(child)
        child.drain(now, terms(self.config, REPLACED))

    def _retract(self, child: Child) -> None:
        """Give it no more connections, and give those that it has not taken to others."""
        if child.receiver in self.dispatcher.receivers:
            self.dispatcher.receivers.remove(child.receiver)
        self.dispatcher.take_back(child.receiver)

    def _share(self) -> None:
        """Tell every worker how many workers share the limits of the fleet."""
        serving = max(1, self.count(SERVING))
        for child in self.children:
            child.seat.shares = serving

    def _died(self, child: Child, status: int, now: float) -> None:
        """A worker that served is dead: start a new one, with longer delays if it goes on."""
        assert child.served is not None
        if now - child.served >= EARLY_SECONDS:
            self._early = 0
        elif child.number > self._early_until:
            # Workers that die together die of one cause, and no start has been tried since.
            self._early += 1
            self._early_until = self._numbers
        delay = self._backoff(now)
        error_log.error(
            "%s died: %s; a new one is started%s",
            child,
            told(status),
            f" in {delay:g} s" if delay else "",
        )

    def _failed(self, child: Child, status: int, now: float) -> None:
        """A worker could not start."""
        message = why_not_started(child, status)
        details = child.failure.get("details", "")
        code = int(child.failure.get("status") or exit_code(status))
        if not self.has_served or not self.count(SERVING, STARTING):
            self.failed = WorkerFailed(message, details, code)
            return
        tell_details(child)
        if self._before is not None and child.generation == self._generation:
            # The others go on as they are.
            self.config, self._before = self._before, None
            self.gave_up = True
            self.wanted = self.config.workers
            for other in self.children:
                other.generation = self._generation
                if other.state == STARTING:
                    self._drain(other, now)
            error_log.error("%s: the old workers go on serving", message)
            return
        self._early += 1
        delay = self._backoff(now)
        error_log.error("%s: trying again%s", message, f" in {delay:g} s" if delay else "")

    def _is_settled(self, now: float) -> bool:
        """True if there was no failure, and no start after a failure, for a long time."""
        if self.count(STARTING) or now - self._next_start <= EARLY_SECONDS:
            return False
        settled = [
            child
            for child in self.children
            if child.state == SERVING and now - child.since > EARLY_SECONDS
        ]
        return len(settled) >= self.wanted

    def _backoff(self, now: float) -> float:
        """The time to wait before the next start; 0 after the first early death."""
        longest = LONGEST_BACKOFF if self.count(SERVING) else LONGEST_ALONE
        delay = 0.0 if self._early < 2 else min(2.0 ** (self._early - 2), longest)
        self._next_start = now + delay
        return delay

    # Decisions that are due.

    def _replace(self, now: float) -> None:
        """Start the successor of the next worker that is old, or asked for one."""
        if self.count(STARTING, DRAINING, KILLED) or now < self._next_start:
            return
        for child in self.children:
            old = child.generation != self._generation
            if child.state == SERVING and (old or child.retires):
                if not old:
                    error_log.info("%s is replaced: %s", child, child.retires)
                self._start(now, replaces=child)
                return
        if self._before is not None and self.count(SERVING) >= self.wanted:
            self._before = None
            error_log.info("All workers are replaced")

    def _balance(self, now: float) -> None:
        """Start or end workers, so that there are as many as are wanted."""
        # A worker that is being killed keeps its place until it is gone; a successor has none yet.
        alive = [
            child for child in self.children if child.state != DRAINING and child.replaces is None
        ]
        for child in alive[self.wanted :]:
            if child.state != KILLED:
                self._drain(child, now)
        for _ in range(self.wanted - len(alive)):
            if now < self._next_start:
                return
            self._start(now)
            if self._early > 1:
                return  # one at a time, while they die

    def _start(self, now: float, replaces: Child | None = None, held: bool = False) -> None:
        taken = {child.place for child in self.children}
        place = next(place for place in range(SEATS) if place not in taken)
        self._numbers += 1
        try:
            child = Child.start(
                self.config,
                self.addresses,
                self.board,
                self.log,
                place,
                self._numbers,
                self._generation,
                now,
                held,
            )
        except OSError as error:
            problem = error.strerror or str(error)
            if error.filename:
                problem = f"{error.filename}: {problem}"
            self._early += 1
            self._next_start = now + max(1.0, self._backoff(now))
            if self.has_served:
                error_log.error("Cannot start a worker for now: %s", problem)
            elif self.failed is None:
                self.failed = WorkerFailed(f"cannot start a worker: {problem}", "", 1)
        else:
            child.replaces = replaces
            self.children.append(child)
            self.on_start(child)


def _new_log(config: Config) -> int:
    fd = memory_file()
    begin_log(fd, config.topics_history_memory)
    return fd


def why_not_started(child: Child, status: int) -> str:
    """The message about a worker that ended with that status before it was ready."""
    return child.failure.get("message") or f"a worker ended as it started: {told(status)}"


def tell_details(child: Child) -> None:
    """Log the traceback of a worker that could not start."""
    details = child.failure.get("details", "")
    for line in details.rstrip("\n").split("\n") if details else ():
        error_log.error("%s", line)
