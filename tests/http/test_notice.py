"""What an application sees of the drain."""

from __future__ import annotations

import asyncio

import pytest

import asgiws
from asgiws.http.notice import DrainNotice

from ..toolkit.running import NewLoop


def test_before_the_drain_there_is_nothing_to_see() -> None:
    notice = DrainNotice()
    assert (notice.begun, notice.final, notice.seconds_left) == (False, False, None)
    assert asgiws.DrainNotice is DrainNotice


async def test_all_who_wait_are_woken_and_who_comes_later_need_not_wait(new_loop: NewLoop) -> None:
    notice = DrainNotice()
    waiting = [asyncio.create_task(notice.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    notice.begin(60.0, False)
    assert [50 < left < 61 for left in await asyncio.gather(*waiting)] == [True] * 3
    assert 50 < await notice.wait() < 61
    assert notice.seconds_left is not None
    assert 50 < notice.seconds_left < 61
    assert (notice.begun, notice.final) == (True, False)


async def test_a_cancelled_wait_is_forgotten(new_loop: NewLoop) -> None:
    notice = DrainNotice()
    waiting = asyncio.create_task(notice.wait())
    other = asyncio.create_task(notice.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    notice.begin(1.0, True)
    assert await other > 0
    assert not notice._waiters


async def test_one_that_is_cancelled_in_the_moment_of_the_drain_harms_nobody(
    new_loop: NewLoop,
) -> None:
    notice = DrainNotice()
    cancelled, other = (asyncio.create_task(notice.wait()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    notice.begin(1.0, True)
    assert await other > 0
    with pytest.raises(asyncio.CancelledError):
        await cancelled


def test_it_may_end_sooner_and_what_was_final_stays_so() -> None:
    notice = DrainNotice()
    notice.begin(60.0, True)
    notice.begin(0.0, False)
    assert (notice.begun, notice.final, notice.seconds_left) == (True, True, 0.0)
