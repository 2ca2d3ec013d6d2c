"""Hubs as in several workers, over one broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgiws.fanout.history import Wanted
from asgiws.fanout.hub import Hub, Wishes
from asgiws.fanout.listener import Messages

on_both_loops = pytest.mark.usefixtures("new_loop")

WISHES = Wishes("drop_oldest", 1 << 24, None, 0)


@asynccontextmanager
async def hubs(url: str, number: int = 2) -> AsyncIterator[list[Hub]]:
    """As many as workers, all of them connected."""
    loop = asyncio.get_running_loop()
    made = [Hub(Wanted(url=url), loop) for _ in range(number)]
    try:
        for each in made:
            await until(each.bus.healthy)
        yield made
    finally:
        for each in made:
            await each.close()
        await asyncio.sleep(0)  # the transports close


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def connections(port: int) -> int:
    """Return how many connections this machine has to a port of its own."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    words = [line.split() for line in lines]
    return sum(each[2].endswith(f":{port:04X}") and each[3] == "01" for each in words)


async def listen(here: Hub, topic: str, **wishes: Any) -> Messages:
    return (await here.enter_listener(topic, WISHES._replace(**wishes)))[1]


async def publish(here: Hub, topic: str, text: str, exclude: Any = None) -> int:
    return await here.publish(topic, text, None, (), None, exclude)


async def take(messages: Messages, number: int) -> list[str]:
    return [(await anext(messages)).text for _ in range(number)]


def texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]
