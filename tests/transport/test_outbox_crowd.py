"""Many tasks that send to one slow client."""

from __future__ import annotations

import asyncio
from types import ModuleType

from ..toolkit.fake_transport import Session, settle


async def test_a_crowd_is_served_in_order_and_looks_only_when_its_turn_comes(
    package: ModuleType,
) -> None:
    session = Session(package)
    await session.accept()
    websocket = session.websocket
    websocket.pause_writing()
    session.transport.on_write = websocket.pause_writing  # one message fills it
    tasks = [asyncio.ensure_future(session.text(str(number))) for number in range(200)]
    await settle()
    rounds = 0
    while not all(task.done() for task in tasks):
        websocket.resume_writing()
        await settle()
        rounds += 1
    assert rounds > 50
    assert [payload for _, payload in session.sent()] == [b"%d" % n for n in range(200)]


async def test_all_go_on_when_nothing_holds_them_back(package: ModuleType) -> None:
    session = Session(package)
    await session.accept()
    session.websocket.pause_writing()
    tasks = [asyncio.ensure_future(session.text("x")) for _ in range(1000)]
    await settle()
    session.websocket.resume_writing()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)


async def test_whoever_is_cancelled_passes_its_turn_on(package: ModuleType) -> None:
    session = Session(package)
    await session.accept()
    session.websocket.pause_writing()
    tasks = [asyncio.ensure_future(session.text(str(number))) for number in range(20)]
    await settle()
    for task in tasks[1::2]:
        task.cancel()
    session.websocket.resume_writing()
    tasks[0].cancel()  # it is woken already
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert [result for result in done if result is None] == [None] * 9


async def test_all_are_told_when_the_client_goes(package: ModuleType) -> None:
    session = Session(package)
    await session.accept()
    session.websocket.pause_writing()
    tasks = [asyncio.ensure_future(session.text("x")) for _ in range(100)]
    await settle()
    session.lost()
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(isinstance(result, package.errors.ClientDisconnected) for result in done)
