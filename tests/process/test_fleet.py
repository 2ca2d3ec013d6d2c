"""Decisions about workers: when one is started, replaced, drained or killed.

The workers here are no processes: what they do is told by the tests, at times that the
tests tell as well.
"""

from __future__ import annotations

import dataclasses
import signal
from collections import deque
from typing import Any

import pytest

from asgiws.errors import WorkerFailed
from asgiws.options.config import Config
from asgiws.process import fleet as module
from asgiws.process.board import Board
from asgiws.process.child import Child
from asgiws.process.dispatch import Dispatcher
from asgiws.process.fleet import EARLY_SECONDS, LONGEST_ALONE, LONGEST_BACKOFF, Fleet

CONFIG = Config("app:app", workers=3)
KILLED = int(signal.SIGKILL)  # as waitpid has it


def exited(code: int) -> int:
    """The status of a process that ended with that exit code."""
    return code << 8


class Channel:
    """What a worker has said, and what it was told."""

    def __init__(self) -> None:
        self.said: deque[dict[str, Any]] = deque()
        self.told: list[dict[str, Any]] = []
        self.over = False

    def receive(self) -> dict[str, Any] | None:
        return self.said.popleft() if self.said else None

    def send(self, kind: str, **values: Any) -> bool:
        self.told.append({"kind": kind, **values})
        return True

    def close(self) -> None:
        self.over = True


class Receiver:
    def __init__(self) -> None:
        self.open = False

    def close(self) -> None:
        pass


class Fake(Child):
    """A worker without a process."""

    config: Config
    got: list[int]

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
    ) -> Any:
        seat = board.seat(place)
        seat.clear()
        receiver: Any = Receiver()
        channel: Any = Channel()
        child = cls(place, number, 1000 + number, seat, receiver, channel, generation, now)
        child.config = config
        child.got = []
        if held:
            child.enter("held", now)
        return child

    def signal(self, number: int) -> None:
        self.got.append(number)


class Scene:
    """A fleet of fake workers, and its time."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.now = 100.0
        dispatcher = Dispatcher()
        dispatcher.take_back = lambda receiver: None  # type: ignore[method-assign]
        dispatcher.bury = lambda receiver: None  # type: ignore[method-assign]
        self.fleet = Fleet(config, [], dispatcher)
        self.fleet.look(self.now)

    @property
    def children(self) -> list[Any]:
        return list(self.fleet.children)

    def states(self) -> list[str]:
        return [child.state for child in self.children]

    def after(self, seconds: float, *, beating: bool = True) -> None:
        """Let time pass; who serves gives signs of life."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for child in self.children:
                if beating:
                    child.seat.beat += 1
            self.fleet.look(self.now)

    def say(self, child: Any, kind: str, **values: Any) -> None:
        child.channel.said.append({"kind": kind, **values})
        while self.fleet.hear(child, self.now):
            pass

    def ready(self, *children: Any) -> None:
        for child in children or self.children:
            if child.state == "starting":
                self.say(child, "ready")

    def end(self, child: Any, status: int = 0) -> None:
        self.fleet.ended(child, status, self.now)
        self.fleet.look(self.now)


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Child", Fake)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", "asgiws.error")
    return caplog


def test_all_workers_are_started_at_once_each_with_a_seat_of_its_own() -> None:
    scene = Scene()
    assert scene.states() == ["starting"] * 3
    assert sorted(child.place for child in scene.children) == [0, 1, 2]
    assert not scene.fleet.dispatcher.receivers
    scene.ready()
    assert scene.states() == ["serving"] * 3
    assert len(scene.fleet.dispatcher.receivers) == 3
    assert [child.seat.shares for child in scene.children] == [3, 3, 3]


def test_a_worker_that_dies_is_replaced_at_once(log: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.ready()
    scene.after(EARLY_SECONDS + 1)
    dead = scene.children[1]
    scene.end(dead, KILLED)
    assert sorted(scene.states()) == ["serving", "serving", "starting"]
    assert dead.receiver not in scene.fleet.dispatcher.receivers
    assert "Worker 2 (pid 1002) died: killed by SIGKILL; a new one is started" in log.messages
    new = scene.children[-1]
    assert (new.number, new.place) == (4, 1)


def test_the_second_early_death_makes_the_next_start_wait_and_each_one_doubles_it(
    log: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(dataclasses.replace(CONFIG, workers=2))
    waits = []
    for _ in range(8):
        scene.ready()
        scene.end(scene.children[-1], exited(3))
        begun = scene.now
        while len(scene.children) == 1:
            scene.after(0.5)
        waits.append(scene.now - begun)
    assert waits == [0, 1, 2, 4, 8, 16, LONGEST_BACKOFF, LONGEST_BACKOFF]
    assert "Worker 4 (pid 1004) died: exit code 3; a new one is started in 2 s" in log.messages
    # One that lives is forgiven what came before.
    scene.ready()
    scene.after(EARLY_SECONDS + 1)
    scene.end(scene.children[-1], exited(3))
    assert scene.states() == ["serving", "starting"]


def test_while_nobody_serves_the_next_start_does_not_wait_that_long() -> None:
    scene = Scene(dataclasses.replace(CONFIG, workers=1))
    waits = []
    for _ in range(6):
        scene.ready()
        scene.end(scene.children[0], exited(3))
        begun = scene.now
        while not scene.children:
            scene.after(0.5)
        waits.append(scene.now - begun)
    assert waits == [0, 1, 2, 4, LONGEST_ALONE, LONGEST_ALONE]


def test_those_that_die_together_are_all_replaced_at_once() -> None:
    scene = Scene()
    scene.ready()
    for child in scene.children:
        scene.end(child, KILLED)
    assert scene.states() == ["starting"] * 3
    # Those that were started for them have learned nothing: now it waits.
    scene.ready()
    for child in scene.children:
        scene.end(child, KILLED)
    assert scene.states() == []
    scene.after(1)
    assert scene.states() == ["starting"]


def test_workers_that_live_are_forgiven_the_early_deaths_of_others() -> None:
    scene = Scene()
    scene.ready()
    for _ in range(3):
        scene.end(scene.children[0], KILLED)
        scene.after(5)
        scene.ready()
    scene.after(EARLY_SECONDS + 1)
    scene.end(scene.children[0], KILLED)
    assert "starting" in scene.states()


def test_if_the_first_worker_cannot_start_the_program_ends_with_its_words_and_its_code() -> None:
    scene = Scene()
    scene.say(scene.children[0], "failed", message="no module named app", details="Trace", status=3)
    scene.end(scene.children[0], exited(3))
    failed = scene.fleet.failed
    assert isinstance(failed, WorkerFailed)
    assert (str(failed), failed.details, failed.exit_code) == ("no module named app", "Trace", 3)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (int(signal.SIGSEGV), 139, "a worker ended as it started: killed by SIGSEGV"),
        (exited(7), 7, "a worker ended as it started: exit code 7"),
        (exited(0), 1, "a worker ended as it started: exit code 0"),
    ],
)
def test_one_that_ends_at_its_start_without_a_word_ends_the_program_as_well(
    status: int, code: int, words: str
) -> None:
    scene = Scene()
    scene.end(scene.children[0], status)
    failed = scene.fleet.failed
    assert failed is not None
    assert (str(failed), failed.exit_code) == (words, code)


def test_where_the_system_starts_no_process_the_program_ends_or_tries_again_later(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/usr/bin/python")

    served = Scene()
    served.ready()
    served.after(EARLY_SECONDS + 1)
    with monkeypatch.context() as broken:
        broken.setattr(Fake, "start", fail)
        first = Scene()
        assert str(first.fleet.failed) == (
            "cannot start a worker: /usr/bin/python: No such file or directory"
        )
        served.end(served.children[0], KILLED)
        assert served.fleet.failed is None
        assert "Cannot start a worker for now: /usr/bin/python: No such" in log.text
    served.after(2)
    assert served.states() == ["serving", "serving", "starting"]


def test_a_replacement_of_a_dead_worker_that_cannot_start_is_tried_again_while_others_serve(
    log: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.ready()
    scene.after(EARLY_SECONDS + 1)
    scene.end(scene.children[0], KILLED)
    for _ in range(3):
        new = scene.children[-1]
        scene.say(new, "failed", message="no database", details="", status=5)
        scene.end(new, exited(5))
        assert scene.fleet.failed is None
        scene.after(LONGEST_BACKOFF)
    assert "no database: trying again in 1 s" in log.messages
    scene.ready()
    assert scene.states() == ["serving"] * 3


def test_where_nobody_serves_any_more_and_none_can_start_the_program_ends() -> None:
    scene = Scene(dataclasses.replace(CONFIG, workers=1))
    scene.ready()
    scene.end(scene.children[0], KILLED)
    scene.end(scene.children[0], exited(3))
    assert scene.fleet.failed is not None


def test_a_rolling_restart_replaces_one_after_the_other_and_each_successor_is_ready_before(
    log: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.ready()
    new = dataclasses.replace(CONFIG, root_path="/new")
    scene.fleet.replace_all(new)
    before = scene.children
    for old in before:
        scene.after(0.5)
        assert scene.states().count("serving") == 3
        assert scene.states().count("starting") == 1
        successor = scene.children[-1]
        assert successor.replaces is old
        assert successor.config is new
        scene.ready(successor)
        assert old.state == "draining"
        assert old.channel.told[-1]["kind"] == "drain"
        assert old.receiver not in scene.fleet.dispatcher.receivers
        assert scene.states().count("serving") == 3
        # The next one's turn comes when it is gone.
        scene.after(5)
        assert "starting" not in scene.states()
        scene.end(old)
    assert scene.states() == ["serving"] * 3
    scene.after(1)
    assert log.messages.count("All workers are replaced") == 1
    assert scene.states() == ["serving"] * 3


def test_a_successor_that_cannot_start_leaves_the_old_workers_and_their_options(
    log: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.ready()
    scene.fleet.replace_all(dataclasses.replace(CONFIG, root_path="/new", workers=5))
    scene.after(0.5)
    successor = scene.children[-1]
    scene.say(successor, "failed", message="a syntax error", details="Traceback", status=3)
    scene.end(successor, exited(3))
    for child in scene.children:
        if child.state == "draining":
            scene.end(child)  # one of the five
    scene.after(60)
    assert scene.states() == ["serving"] * 3
    assert scene.fleet.config is CONFIG
    assert scene.fleet.failed is None
    assert scene.fleet.gave_up
    assert "a syntax error: the old workers go on serving" in log.messages
    assert "Traceback" in log.messages


def test_a_worker_that_dies_while_its_successor_starts_has_been_replaced() -> None:
    scene = Scene()
    scene.ready()
    scene.fleet.replace_all(CONFIG)
    scene.after(0.5)
    successor = scene.children[-1]
    old = successor.replaces
    assert old is not None
    scene.end(old, KILLED)
    assert scene.states().count("starting") == 1
    scene.ready(successor)
    assert scene.states().count("serving") == 3


def test_a_second_restart_begins_anew() -> None:
    scene = Scene()
    scene.ready()
    scene.fleet.replace_all(CONFIG)
    scene.after(0.5)
    scene.ready()
    scene.fleet.replace_all(CONFIG)
    replaced = 0
    for _ in range(20):
        for child in scene.children:
            if child.state == "draining":
                replaced += 1
                scene.end(child)
        scene.after(0.5)
        scene.ready()
    assert replaced == 4
    assert scene.states() == ["serving"] * 3


def test_a_worker_that_asks_for_it_is_replaced(log: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.ready()
    old = scene.children[1]
    scene.say(old, "retire", reason="1000 requests")
    scene.after(0.5)
    assert "Worker 2 (pid 1002) is replaced: 1000 requests" in log.messages
    assert old.state == "serving"
    scene.ready()
    assert old.state == "draining"
    scene.end(old)
    assert scene.states() == ["serving"] * 3


def test_workers_come_and_go_by_order() -> None:
    scene = Scene()
    scene.ready()
    scene.fleet.resize(4)
    scene.after(0.5)
    scene.ready()
    assert scene.states() == ["serving"] * 4
    assert [child.seat.shares for child in scene.children] == [4] * 4
    scene.fleet.resize(2)
    scene.after(0.5)
    assert scene.states() == ["serving", "serving", "draining", "draining"]
    for child in scene.children[2:]:
        scene.end(child)
    scene.fleet.resize(0)
    scene.after(0.5)
    assert scene.fleet.wanted == 1
    assert scene.states() == ["serving", "draining"]


def test_a_worker_that_hangs_is_dumped_killed_and_replaced(log: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.ready()
    hanging = scene.children[0]
    for _ in range(10):
        for child in scene.children[1:]:
            child.seat.beat += 1
        scene.now += 0.6
        scene.fleet.look(scene.now)
    assert hanging.state == "killed"
    assert hanging.got == [signal.SIGURG, signal.SIGABRT]
    assert hanging.receiver not in scene.fleet.dispatcher.receivers
    assert "Worker 1 (pid 1001) hangs" in log.text
    scene.after(2)
    assert hanging.got[-1] == signal.SIGKILL
    scene.end(hanging, KILLED)
    assert scene.states().count("starting") == 1


def test_one_that_is_debugged_does_not_hang() -> None:
    scene = Scene()
    scene.ready()
    for child in scene.children:
        child.seat.beat = -1
    scene.after(60, beating=False)
    assert scene.states() == ["serving"] * 3


def test_without_a_limit_nobody_hangs() -> None:
    scene = Scene(dataclasses.replace(CONFIG, timeout_worker_healthcheck=None))
    scene.ready()
    scene.after(600, beating=False)
    assert scene.states() == ["serving"] * 3


def test_a_start_has_a_limit_of_its_own(log: pytest.LogCaptureFixture) -> None:
    scene = Scene(dataclasses.replace(CONFIG, timeout_worker_start=20.0))
    scene.after(19, beating=False)
    assert scene.states() == ["starting"] * 3
    scene.after(2, beating=False)
    assert scene.states() == ["killed"] * 3
    assert "Worker 1 (pid 1001) is not ready after 20 s: killing it" in log.messages


def test_one_that_does_not_end_is_killed() -> None:
    scene = Scene()
    scene.ready()
    scene.fleet.resize(2)
    scene.after(0.5)
    draining = scene.children[-1]
    assert draining.state == "draining"
    scene.after(60)
    assert draining.got == [signal.SIGKILL]


def test_at_the_end_nobody_is_replaced() -> None:
    scene = Scene()
    scene.ready()
    from asgiws.process.drain import TERMINATED, terms

    scene.fleet.drain_all(scene.now, terms(CONFIG, TERMINATED))
    assert scene.states() == ["draining"] * 3
    for child in scene.children:
        scene.end(child, KILLED)
    scene.after(60)
    assert not scene.children


def test_successors_that_cannot_start_are_tried_less_and_less_often() -> None:
    """The others serve on meanwhile, which is no reason to forgive the failures."""
    scene = Scene()
    scene.ready()
    scene.after(EARLY_SECONDS + 1)
    scene.say(scene.children[0], "retire", reason="1000 requests")
    starts = []
    for _ in range(8):
        begun = scene.now
        while scene.states().count("starting") == 0:
            scene.after(0.5)
        starts.append(scene.now - begun)
        scene.after(1)  # the import takes a moment
        successor = scene.children[-1]
        scene.say(successor, "failed", message="no database", details="", status=5)
        scene.fleet.ended(successor, exited(5), scene.now)
    assert starts[1:] == [0.5, 1, 2, 4, 8, 16, LONGEST_BACKOFF]
    assert scene.states() == ["serving"] * 3
