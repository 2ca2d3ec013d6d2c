"""Listeners: what waits, and threads with event loops of their own."""

from __future__ import annotations

import asyncio
import threading

from asgiws.fanout.listener import Holder, Listener
from asgiws.fanout.message import TEXT, Publication


def publication(text: bytes) -> Publication:
    return Publication("a", TEXT, text)


async def test_a_message_from_another_event_loop_wakes_the_listener() -> None:
    listener = Listener("drop_oldest", 10_000, is_foreign=True)
    message = publication(b"x")

    async def take() -> None:
        assert listener.take(message, message.plain())

    thread = threading.Thread(target=asyncio.run, args=(take(),))
    thread.start()
    taken = await listener.take_next()
    assert taken is not None
    assert taken.data == "x"
    thread.join()


async def test_a_loss_is_told_behind_what_has_come_from_another_event_loop() -> None:
    listener = Listener("drop_oldest", 10_000, is_foreign=True)
    before, behind = publication(b"before"), publication(b"behind")

    async def take() -> None:
        listener.take(before, before.plain())
        listener.miss(2)
        listener.take(behind, behind.plain())

    thread = threading.Thread(target=asyncio.run, args=(take(),))
    thread.start()
    for text, gap in (("before", 0), ("behind", 2)):
        taken = await listener.take_next()
        assert taken is not None
        assert (taken.text, taken.gap) == (text, gap)
    thread.join()


async def test_a_cancelled_wait_loses_nothing() -> None:
    listener = Listener("drop_oldest", 10_000)
    waiting = asyncio.ensure_future(listener.take_next())
    await asyncio.sleep(0)
    message = publication(b"x")
    listener.take(message, message.plain())
    waiting.cancel()
    await asyncio.wait([waiting])
    taken = await listener.take_next()
    assert taken is not None
    assert taken.data == "x"


async def test_a_listener_that_is_to_be_closed_takes_nothing_more() -> None:
    """Whoever comes back with the position of the last message misses nothing between."""
    listener = Listener("close", 1_000)
    for text, is_taken in ((b"x", True), (b"x" * 2_000, False), (b"y", False)):
        message = publication(text)
        assert listener.take(message, message.plain()) is is_taken
    taken = await listener.take_next()
    assert taken is not None
    assert taken.data == "x"
    assert await listener.take_next() is None
    assert listener.dropped == 2


async def test_a_listener_is_excluded_by_what_it_stands_for() -> None:
    scope: dict[str, str] = {}
    listener = Listener("close", 1, means=(scope,))
    assert listener.is_excluded(scope)
    assert not listener.is_excluded({})


def test_a_holder_keeps_what_comes() -> None:
    holder = Holder()
    message = publication(b"x")
    assert holder.take(message, message.plain())
    holder.miss(2)
    assert (holder.publications, holder.gap, holder.dropped) == ([message], 2, 0)
