"""How a drain paces what it closes, by a clock that jumps; and what it does to real connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from asgiws.http.notice import DrainNotice
from asgiws.http.serving import DRAINING, RETIRING, SERVING, STOPPING
from asgiws.options.config import Config
from asgiws.process.drain import (
    INTERRUPTED,
    LEAST,
    RELOADED,
    REPLACED,
    TERMINATED,
    Drain,
    Terms,
    terms,
)
from asgiws.websocket.states import BUSY, LETS_GO, PENDING, RESTING

from ..toolkit.jumping import jumping

APP = "main:app"


class Connection:
    """Ends a moment after it is told, and notes when that was."""

    def __init__(self, house: House, standing: int = RESTING) -> None:
        self.house = house
        self.standing = standing
        self.told: list[tuple[float, int, str]] = []
        self.phases: list[int] = []
        house.serving.connections.add(self)

    def shutdown(self, code: int, reason: str) -> None:
        if self.standing == LETS_GO:
            return
        self.told.append((self.house.loop.time(), code, reason))
        self.phases.append(self.house.serving.phase)
        if self.standing >= BUSY or self.house.serving.phase == STOPPING:
            self.standing = LETS_GO
            self.house.loop.call_later(0.01, self.end)

    def end(self) -> None:
        self.house.serving.connections.discard(self)

    def abort(self) -> None:
        self.end()

    @property
    def told_at(self) -> float:
        return self.told[-1][0]


class Arrivals(list[object]):
    """Connections that are being set up."""

    def abort(self) -> None:
        self.clear()


class House:
    """What a drain works on, without a server around it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.serving: Any = SimpleNamespace(
            loop=self.loop, connections=set(), tasks={}, notice=DrainNotice(), phase=SERVING
        )
        self.arrivals = Arrivals()
        self.drain = Drain(self.serving, self.arrivals)  # type: ignore[arg-type]

    def connections(self, number: int, standing: int = RESTING) -> list[Connection]:
        return [Connection(self, standing) for _ in range(number)]

    async def end(self, **how: Any) -> float:
        """Drain; the seconds that it took."""
        begun = self.loop.time()
        self.drain.ask(Terms(**{"window": 10.0, "patience": 5.0, **how}))
        await self.drain.delay()
        await self.drain.run()
        return self.loop.time() - begun


@jumping
async def test_no_second_closes_more_than_twice_the_mean() -> None:
    house = House()
    all_of_them = house.connections(2000)
    assert await house.end() <= 10.1
    seconds = Counter(int(connection.told_at) for connection in all_of_them)
    assert sum(seconds.values()) == 2000
    assert max(seconds.values()) <= 2 * 200
    assert len(seconds) == 10
    assert min(seconds.values()) >= 100


@jumping
async def test_steps_are_small_and_not_in_time_with_one_another() -> None:
    house = House()
    all_of_them = house.connections(2000)
    await house.end()
    steps = sorted(Counter(connection.told_at for connection in all_of_them).items())
    assert len(steps) >= 70
    assert max(number for _, number in steps) <= 60
    between = [round(b - a, 3) for (a, _), (b, _) in pairwise(steps)]
    assert len(set(between)) > 3


@jumping
async def test_those_between_messages_are_closed_first() -> None:
    house = House()
    busy = house.connections(100, BUSY)
    resting = house.connections(100)
    await house.end(drawn_out=True)
    assert max(c.told_at for c in resting) <= min(c.told_at for c in busy)


@jumping
async def test_few_are_closed_at_once_in_a_window_that_nobody_asked_for() -> None:
    house = House()
    house.connections(LEAST)
    assert await house.end() < 0.5
    assert house.serving.phase == STOPPING


@jumping
async def test_such_a_window_is_over_when_only_requests_that_run_are_left() -> None:
    house = House()
    (running,) = house.connections(1, LETS_GO)
    house.loop.call_later(3.0, running.end)
    phases: list[int] = []
    house.loop.call_later(1.0, lambda: phases.append(house.serving.phase))
    assert 2.9 < await house.end() < 3.1
    assert phases == [STOPPING]


@jumping
async def test_a_window_that_was_asked_for_is_kept_for_requests_that_run() -> None:
    house = House()
    (running,) = house.connections(1, LETS_GO)
    house.loop.call_later(12.0, running.end)
    phases: list[int] = []
    for when in (9.0, 11.0):
        house.loop.call_later(when, lambda: phases.append(house.serving.phase))
    assert 11.9 < await house.end(drawn_out=True) < 12.1
    assert phases == [DRAINING, STOPPING]


@jumping
async def test_few_are_drawn_out_over_a_window_that_was_asked_for() -> None:
    house = House()
    few = house.connections(8)
    task = asyncio.create_task(asyncio.sleep(60))
    house.serving.tasks[task] = None
    house.serving.cancel = lambda task: task.cancel()
    task.add_done_callback(house.serving.tasks.pop)
    took = await house.end(window=100.0, patience=5.0, drawn_out=True)
    times = [connection.told_at for connection in few]
    assert len(set(times)) >= 7  # a step of 0.1 s closes one at most while there is time
    assert max(times) <= 100
    assert 60 <= took <= 101  # as long as anything is left


@jumping
async def test_code_and_reason_are_those_of_the_terms() -> None:
    house = House()
    (one,) = house.connections(1)
    await house.end(code=4000, reason="a new version")
    assert one.told == [(0.0, 4000, "a new version")]


@jumping
async def test_the_patience_counts_from_the_end_of_the_window() -> None:
    house = House()
    (stuck,) = house.connections(1, PENDING)
    stuck.end = lambda: None  # type: ignore[method-assign]
    stuck.abort = lambda: house.serving.connections.discard(stuck)  # type: ignore[method-assign]
    assert 14.9 < await house.end() < 15.2
    # At the beginning, for what is idle, and at the end of the window.
    assert [int(told[0]) for told in stuck.told] == [0, 10]
    assert stuck.phases == [DRAINING, STOPPING]


@jumping
async def test_an_undecided_handshake_is_waited_for_and_then_closed_with_the_others() -> None:
    house = House()
    (handshake,) = house.connections(1, PENDING)
    house.loop.call_later(2.0, setattr, handshake, "standing", RESTING)
    assert 1.9 < await house.end() < 2.5
    assert handshake.phases[-1] == DRAINING


@jumping
async def test_a_tls_handshake_is_waited_for() -> None:
    house = House()
    house.arrivals.append(object())

    def set_up() -> None:
        house.arrivals.clear()
        Connection(house)

    house.loop.call_later(2.0, set_up)
    assert 1.9 < await house.end() < 2.5


@jumping
async def test_idle_connections_are_only_told_late_where_another_server_takes_over() -> None:
    house = House()
    (idle,) = house.connections(1, PENDING)
    await house.end(late=True, final=False)
    assert idle.phases == [RETIRING, STOPPING]
    assert not house.serving.notice.final


@jumping
async def test_whoever_asks_again_can_only_make_it_end_sooner() -> None:
    house = House()
    many = house.connections(1000)
    house.drain.ask(Terms(window=600.0, patience=5.0, drawn_out=True, late=True, final=False))
    ending = asyncio.create_task(house.drain.run())
    await asyncio.sleep(60)
    assert 50 < sum(bool(c.told) and c.standing == LETS_GO for c in many) < 200
    assert house.serving.phase == RETIRING
    house.drain.ask(Terms(window=3.0, patience=1.0, code=4000))
    house.drain.ask(Terms(window=600.0, patience=100.0, drawn_out=True))
    assert house.serving.notice.final
    await ending
    assert house.loop.time() < 63.2
    assert max(Counter(int(c.told_at) for c in many).values()) <= 650


@jumping
async def test_a_delay_can_be_cut_short() -> None:
    house = House()
    house.drain.ask(Terms(window=0.0, patience=5.0, delay=3600.0))
    house.loop.call_later(2.0, house.drain.ask, Terms(window=0.0, patience=5.0))
    await house.drain.delay()
    assert 1.9 < house.loop.time() < 2.1


@jumping
async def test_without_being_asked_it_ends_at_once() -> None:
    house = House()
    connections = house.connections(1000)
    await house.drain.run()
    assert {c.told_at for c in connections} == {0.0}


@jumping
async def test_the_delay_comes_first_and_the_application_may_know() -> None:
    house = House()
    (one,) = house.connections(1)
    learnt = asyncio.create_task(house.serving.notice.wait())
    await asyncio.sleep(0)
    assert not house.serving.notice.begun
    assert house.serving.notice.seconds_left is None
    house.drain.ask(Terms(window=10.0, patience=5.0, delay=30.0))
    assert 39 < await learnt < 41
    assert house.serving.notice.final
    assert house.serving.phase == SERVING
    await house.drain.delay()
    assert house.loop.time() == pytest.approx(30.0, abs=0.1)
    assert not one.told
    await house.drain.run()
    assert one.told_at >= 30.0


def test_the_terms_follow_the_reason_and_the_options() -> None:
    plain = Config(APP)
    assert terms(plain, TERMINATED) == Terms(3.0, 10.0)
    assert terms(plain, INTERRUPTED) == Terms(0.0, 10.0)
    assert terms(plain, REPLACED) == Terms(10.0, 10.0, late=True, final=False)
    assert terms(plain, RELOADED) == Terms(0.0, 10.0, final=False)
    asked = Config(
        APP,
        drain_window=60,
        drain_delay=5,
        drain_code=4001,
        drain_reason="deploy",
        timeout_graceful_shutdown=20,
    )
    said = {"code": 4001, "reason": "deploy"}
    terminated = Terms(60.0, 20.0, delay=5.0, drawn_out=True, **said)  # type: ignore[arg-type]
    assert terms(asked, TERMINATED) == terminated
    assert terminated.most_seconds == 5 + 60 + 2 * 20 + 1
    # Somebody who types Ctrl-C, or has saved a file, waits for it.
    assert terms(asked, INTERRUPTED) == Terms(0.0, 20.0, **said)  # type: ignore[arg-type]
    assert terms(asked, RELOADED) == Terms(0.0, 20.0, final=False, **said)  # type: ignore[arg-type]
    assert terms(asked, REPLACED) == terminated._replace(delay=0.0, late=True, final=False)
