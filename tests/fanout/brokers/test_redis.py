"""Topics over real Redis servers: hubs as in several workers, and what becomes of them when
the server is killed, frozen, emptied, or cuts them off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import ConfigError
from asgiws.fanout import hub as module
from asgiws.fanout.brokers import client
from asgiws.fanout.history import Retention, Wanted
from asgiws.fanout.hub import Hub, Wishes
from asgiws.fanout.listener import Messages

from .redis_server import RedisServer

WISHES = Wishes("drop_oldest", 1 << 20, None, 0)


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rules", {"kept:": Retention(100, 60.0)})


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(lasting: RedisServer) -> RedisServer:
    """One for all tests that leave it as it was."""
    lasting.cli("FLUSHALL")
    return lasting


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[RedisServer]:
    """One for a test that does something to it."""
    with RedisServer(tmp_path / "redis") as running:
        yield running


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


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def listen(here: Hub, topic: str, **wishes: Any) -> Messages:
    return (await here.enter_listener(topic, WISHES._replace(**wishes)))[1]


async def publish(here: Hub, topic: str, text: str, exclude: Any = None) -> int:
    return await here.publish(topic, text, None, (), None, exclude)


async def take(messages: Messages, number: int) -> list[str]:
    return [(await anext(messages)).text for _ in range(number)]


def texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


@pytest.mark.parametrize("topic", ["a", "kept:a", "kept:\u00e9 {x}\n", "t" * 255])
async def test_a_message_reaches_all_workers_in_order(server: RedisServer, topic: str) -> None:
    async with hubs(server.url, 3) as workers:
        everywhere = [await listen(worker, topic) for worker in workers]
        here_too = await listen(workers[0], topic)
        assert await publish(workers[0], topic, "first") == 4
        for number in range(300):
            await publish(workers[1], topic, str(number))
        for messages in [*everywhere, here_too]:
            assert await take(messages, 301) == ["first", *texts(0, 300)]
            assert messages.dropped == 0


async def test_who_has_subscribed_misses_nothing_that_is_published_then(
    server: RedisServer,
) -> None:
    async with hubs(server.url) as (here, there):
        for number in range(100):
            messages = await listen(here, f"{number}")
            assert await publish(there, f"{number}", "x") == 1
            assert (await anext(messages)).text == "x"


async def test_all_see_the_messages_of_several_publishers_in_one_order(
    server: RedisServer,
) -> None:
    async with hubs(server.url, 3) as workers:
        everywhere = [await listen(worker, "kept:order") for worker in workers]

        async def speak(worker: Hub) -> None:
            for number in range(100):
                await publish(worker, "kept:order", str(number))

        await asyncio.gather(*map(speak, workers))
        seen = []
        for messages in everywhere:
            got = [await anext(messages) for _ in range(300)]
            seen.append([(each.position, each.text) for each in got])
        assert seen[0] == seen[1] == seen[2]
        offsets = [int(position.split(":")[1]) for position, _ in seen[0]]
        assert offsets == list(range(offsets[0], offsets[0] + 300))


async def test_every_kind_of_message_comes_as_it_was_published(server: RedisServer) -> None:
    async with hubs(server.url) as (here, there):
        for topic in ("a", "kept:a"):
            messages = await listen(here, topic)
            await there.publish(topic, None, b"\x00\xff" * 300_000, (), "a key", None)
            await there.publish(topic, None, None, ({"n": 1},), None, None)
            await there.publish(topic, "", None, (), None, None)
            first = await anext(messages)
            assert (first.data, first.key) == (b"\x00\xff" * 300_000, "a key")
            assert (await anext(messages)).data == {"n": 1}
            assert (await anext(messages)).data == ""


async def test_two_applications_do_not_hear_each_other(server: RedisServer) -> None:
    async with (
        hubs(server.url, 1) as (one,),
        hubs(f"{server.url}?prefix=other", 1) as (other,),
        hubs(f"{server.url}/1", 1) as (third,),
    ):
        messages = await listen(one, "a")
        assert await publish(other, "a", "x") == 0
        assert await publish(third, "a", "x") == 0
        assert await publish(one, "a", "y") == 1
        assert (await anext(messages)).text == "y"


async def test_the_members_of_all_workers_are_counted(server: RedisServer) -> None:
    async with hubs(server.url, 3) as workers:
        for number, worker in enumerate(workers):
            for _ in range(number):
                await listen(worker, "a")
        assert [tuple(await worker.count("a")) for worker in workers] == [(0, 3), (1, 3), (2, 3)]
        assert await workers[0].count("nobody") == (0, 0)


async def test_nothing_comes_any_more_once_the_last_member_has_left(server: RedisServer) -> None:
    async with hubs(server.url) as (here, there):
        for _ in range(20):
            messages = await listen(here, "a")
            assert await publish(there, "a", "x") == 1
            assert await take(messages, 1) == ["x"]
            messages._listener.leave()
            again = await listen(here, "a")  # in the same iteration of the loop
            assert await publish(there, "a", "y") == 1
            assert await take(again, 1) == ["y"]
            again._listener.leave()
            while await publish(there, "a", "z"):
                pass
        assert server.cli("PUBSUB", "CHANNELS") == ""


@pytest.mark.parametrize("scheme", ["unix", "valkey"])
async def test_every_scheme_leads_to_it(server: RedisServer, scheme: str) -> None:
    url = f"unix://{server.socket}" if scheme == "unix" else server.url.replace("redis", scheme)
    async with hubs(url) as (here, there):
        messages = await listen(here, "kept:a")
        assert await publish(there, "kept:a", "x") == 1
        assert await take(messages, 1) == ["x"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://127.0.0.1?frobnicate=1", "frobnicate"),
        ("redis://127.0.0.1?db=one", "db"),
        ("redis://127.0.0.1?durable=maybe", "durable must be true or false"),
    ],
)
def test_a_url_that_cannot_be_is_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--topics-url: .*{message}"):
        client(url.replace("//", "//user:secret@"))


async def test_a_password_is_used_and_told_to_nobody(tmp_path: Path, log: Any) -> None:
    with RedisServer(tmp_path / "r") as server:
        server.cli("ACL", "SETUSER", "me", "on", ">wrong-horse", "~*", "&*", "+@all")
        server.cli("ACL", "SETUSER", "default", "off")
        url = server.url.replace("//", "//me:{}@")
        async with hubs(url.format("wrong-horse")) as (here, there):
            messages = await listen(here, "a")
            await publish(there, "a", "x")
            assert await take(messages, 1) == ["x"]
        refused = Hub(Wanted(url=url.format("battery")), asyncio.get_running_loop())
        await until(lambda: log and "is away" in log[-1].getMessage())
        assert not refused.bus.healthy()
        await refused.close()
        told = " ".join(record.getMessage() for record in log)
        assert "WRONGPASS" in told or "invalid username-password" in told
        assert "battery" not in told
        assert "horse" not in told
        assert f"redis://127.0.0.1:{server.port}" in told
