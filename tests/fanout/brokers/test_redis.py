"""Topics over real Redis servers: hubs as in several workers, and what becomes of them when
the server is killed, frozen, emptied, or cuts them off.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BusUnavailable, ConfigError
from asgiws.fanout import hub as module
from asgiws.fanout.brokers import client, keeping, link, redis
from asgiws.fanout.history import Retention, Wanted
from asgiws.fanout.hub import Hub

from ...toolkit.certificates import Certificates
from .hubs import connections, hubs, listen, on_both_loops, publish, take, texts, until
from .redis_server import RedisServer


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


@on_both_loops
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


@on_both_loops
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


async def lost(workers: list[Hub]) -> None:
    """Until all of them know it."""
    for worker in workers:
        await until(lambda worker=worker: not worker.bus.healthy())


async def found(workers: list[Hub]) -> None:
    """Until all of them are connected again."""
    for worker in workers:
        await until(worker.bus.healthy)


@on_both_loops
async def test_a_killed_redis_is_told_and_found_again(victim: RedisServer) -> None:
    async with hubs(victim.url) as workers:
        here, there = workers
        plain, kept = await listen(here, "a"), await listen(here, "kept:a")
        for topic in ("a", "kept:a"):
            await publish(there, topic, "before")
        position = (await anext(kept)).position
        assert await take(plain, 1) == ["before"]
        victim.kill()
        await lost(workers)
        waiting = asyncio.ensure_future(publish(there, "a", "meanwhile"))
        victim.start()  # and empty
        assert await waiting in (0, 1)
        await found(workers)
        await publish(there, "kept:a", "after")
        first = await anext(kept)
        assert (first.text, first.gap) == ("after", 1)
        assert first.position.split(":")[0] != position.split(":")[0]
        # The one who waited may have been the first to be connected again.
        await publish(there, "a", "last")
        got = await anext(plain)
        assert got.gap == 1
        assert got.text in ("meanwhile", "last")
        assert (await listen(here, "kept:a", since=position)).recovered is False


async def test_a_publish_while_redis_is_away_fails_in_time_and_says_why(
    victim: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 0.3)
    async with hubs(victim.url) as workers:
        victim.kill()
        await lost(workers)
        for topic in ("a", "kept:a"):
            began = asyncio.get_running_loop().time()
            message = f"redis://127.0.0.1:{victim.port} is not available: .*onnect"
            with pytest.raises(BusUnavailable, match=message):
                await publish(workers[0], topic, "x")
            with pytest.raises(BusUnavailable, match=message):
                await listen(workers[0], topic)
            with pytest.raises(BusUnavailable, match=message):
                await workers[0].count(topic)
            assert 0.9 <= asyncio.get_running_loop().time() - began < 5
        assert workers[0].stats().subscriptions == 0
        victim.start()
        await found(workers)
        assert await publish(workers[0], "a", "x") == 0


@on_both_loops
async def test_a_frozen_redis_is_given_up_and_nothing_is_lost_from_the_history(
    victim: RedisServer, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    monkeypatch.setattr(link, "PING_SECONDS", 0.1)
    monkeypatch.setattr(link, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(redis, "CONNECT_SECONDS", 0.5)
    async with hubs(victim.url) as workers:
        here, there = workers
        plain, kept = await listen(here, "a"), await listen(here, "kept:a")
        await publish(there, "kept:a", "1")
        victim.send(signal.SIGSTOP)
        with pytest.raises(BusUnavailable, match=r"has not answered for 0\.3 s"):
            await publish(there, "kept:a", "perhaps")
        await lost(workers)
        victim.send(signal.SIGCONT)
        await found(workers)
        await publish(there, "kept:a", "2")
        await publish(there, "a", "2")
        # What was refused had been written: Redis took it when it went on.
        assert await take(kept, 3) == ["1", "perhaps", "2"]
        assert kept.dropped == 0
        message = await anext(plain)
        assert (message.text, message.gap) == ("2", 1)
        told = [record.getMessage() for record in log]
        assert sum("is away" in line for line in told) == 2
        assert sum("connected" in line for line in told) == 4


@on_both_loops
async def test_what_a_frozen_redis_does_not_take_is_not_kept(
    victim: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "PING_SECONDS", 0.1)
    monkeypatch.setattr(link, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(redis, "CONNECT_SECONDS", 0.3)
    async with hubs(victim.url, 1) as (here,):
        victim.send(signal.SIGSTOP)
        large = "x" * 16_000_000
        with pytest.raises(BusUnavailable, match=r"has not answered for 0\.3 s"):
            await publish(here, "a", large)
        await lost([here])
        await until(lambda: not connections(victim.port))
        victim.send(signal.SIGCONT)
        await found([here])


@pytest.mark.parametrize("durable", [False, True])
async def test_a_redis_that_has_kept_everything_is_trusted_if_the_operator_says_so(
    tmp_path: Path, durable: bool
) -> None:
    with RedisServer(tmp_path / "r", "--appendonly", "yes", "--appendfsync", "always") as server:
        url = f"{server.url}?durable={str(durable).lower()}"
        async with hubs(url) as workers:
            here, there = workers
            kept = await listen(here, "kept:a")
            await publish(there, "kept:a", "1")
            position = (await anext(kept)).position
            await publish(there, "kept:a", "2")
            assert await take(kept, 1) == ["2"]
            server.kill()
            await lost(workers)
            server.start()
            await found(workers)
            await publish(there, "kept:a", "3")
            message = await anext(kept)
            assert (message.text, message.gap) == ("3", 0 if durable else 1)
            again = await listen(there, "kept:a", since=position)
            assert again.recovered is durable
            if durable:
                assert await take(again, 2) == ["2", "3"]
            # It is there in any case, under the positions that it had.
            replayed = await listen(there, "kept:a", replay=3)
            got = [await anext(replayed) for _ in range(3)]
            assert [each.text for each in got] == ["1", "2", "3"]
            assert got[0].position == position


async def test_no_position_is_used_twice_when_redis_comes_back_with_an_old_snapshot(
    tmp_path: Path,
) -> None:
    with RedisServer(tmp_path / "r") as server:
        async with hubs(server.url) as workers:
            here, there = workers
            kept = await listen(here, "kept:a")
            await publish(there, "kept:a", "1")
            await take(kept, 1)
            server.cli("SAVE")
            for number in range(2, 6):
                await publish(there, "kept:a", str(number))
            positions = [(await anext(kept)).position for _ in range(4)]
            server.kill()
            await lost(workers)
            server.start()
            await found(workers)
            for number in range(2, 12):
                await publish(there, "kept:a", f"new {number}")
            got = [await anext(kept) for _ in range(10)]
            assert got[0].gap == 1
            assert [each.text for each in got] == [f"new {number}" for number in range(2, 12)]
            assert not {each.position for each in got} & set(positions)
            for position in positions:
                assert (await listen(here, "kept:a", since=position)).recovered is False


@on_both_loops
async def test_a_connection_that_is_cut_loses_nothing_that_is_kept(victim: RedisServer) -> None:
    """Again and again, while others publish; each message comes once, in order."""
    async with hubs(victim.url, 3) as workers:
        publisher = workers[2]
        kept = [await listen(worker, "kept:a") for worker in workers[:2]]
        plain = await listen(workers[0], "a")
        number = failed = 0
        for _ in range(15):
            for _ in range(10):
                try:
                    await publish(publisher, "kept:a", str(number))
                except BusUnavailable:
                    failed += 1  # it may have been taken
                number += 1
            victim.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await publish(publisher, "kept:a", "end")
        for messages in kept:
            got: list[str] = []
            while not got or got[-1] != "end":
                got += await take(messages, 1)
            numbers = [int(text) for text in got[:-1]]
            assert numbers == sorted(set(numbers))
            assert number - failed <= len(numbers) <= number
            assert messages.dropped == 0
        await found(workers)
        await publish(publisher, "a", "x")
        assert (await anext(plain)).gap >= 1


@on_both_loops
async def test_who_is_cut_off_for_not_reading_is_told(victim: RedisServer, log: Any) -> None:
    """Redis cuts off whose event loop stands still for long while much is published."""
    victim.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 200kb 0 0")
    async with hubs(victim.url, 1) as (here,):
        plain, kept = await listen(here, "a"), await listen(here, "kept:a")
        await publish(here, "kept:a", "before")
        assert await take(kept, 1) == ["before"]
        channel = redis.Redis(victim.url)._channel("ta").decode()
        script = "for i = 1, 300 do redis.call('PUBLISH', KEYS[1], string.rep('x', 100000)) end"
        victim.cli("EVAL", script, "1", channel)  # this blocks our loop, too
        # It may be well again before anybody looks.
        await until(lambda: any("is away" in record.getMessage() for record in log))
        await until(here.bus.healthy)
        await publish(here, "a", "after")
        await publish(here, "kept:a", "after")
        message = await anext(plain)
        assert (message.text, message.gap) == ("after", 1)
        assert await take(kept, 1) == ["after"]
        assert kept.dropped == 0


@on_both_loops
async def test_a_flood_is_read_while_the_application_does_not_read(
    server: RedisServer, log: Any
) -> None:
    """Its listener has a bound of its own; Redis does not notice."""
    async with hubs(server.url) as (here, there):
        messages = await listen(here, "a", max_bytes=100_000)
        for _ in range(20):
            await asyncio.gather(*(publish(there, "a", "x" * 50_000) for _ in range(50)))
        await until(lambda: here.stats().delivered == 1_000)
        assert messages.dropped == 999
        assert not any("is away" in record.getMessage() for record in log)


async def test_a_calm_subscriber_is_found_to_have_lost_something(
    victim: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Redis has dropped without a word is found by the next look."""
    monkeypatch.setattr("asgiws.fanout.brokers.broker.CHECK_SECONDS", 0.05)
    monkeypatch.setattr("asgiws.fanout.brokers.broker.LATE_SECONDS", 0.05)
    async with hubs(victim.url) as (here, there):
        kept = await listen(here, "kept:a")
        await publish(there, "kept:a", "1")
        assert await take(kept, 1) == ["1"]
        channel = here.bus._client._channel("tkept:a")
        names = here.bus._client._by_channel
        name = names.pop(channel)
        await publish(there, "kept:a", "2")
        assert await take(kept, 1) == ["2"]
        names[channel] = name


@on_both_loops
async def test_a_cancelled_publish_and_subscribe_leave_a_connection_that_works(
    server: RedisServer,
) -> None:
    async with hubs(server.url) as (here, there):
        for turn in range(60):
            tasks = [
                asyncio.ensure_future(call)
                for call in (
                    publish(here, "kept:c", "x"),
                    publish(here, "c", "x"),
                    listen(here, f"kept:{turn}"),
                    listen(here, f"{turn}"),
                    listen(here, "kept:c", replay=5),
                    here.count("c"),
                )
            ]
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            for task, result in zip(
                tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True
            ):
                assert task.cancelled() or not isinstance(result, BaseException)
                if hasattr(result, "_listener"):
                    result._listener.leave()
        assert here.stats().subscriptions == 0
        messages = await listen(here, "c")
        assert await publish(there, "c", "y") == 1
        assert await take(messages, 1) == ["y"]
        messages._listener.leave()
        await until(lambda: not server.cli("PUBSUB", "CHANNELS", "*:{*}:t*"))


async def test_what_is_kept_is_bounded_by_number_and_age(server: RedisServer) -> None:
    module._rules["kept:"] = Retention(5, 1.0)
    async with hubs(server.url) as (here, there):
        for number in range(12):
            await publish(here, "kept:a", str(number))
        messages = await listen(there, "kept:a", replay=100)
        assert await take(messages, 5) == texts(7, 12)
        stream = redis.Redis(server.url)._keys("tkept:a")[0].decode()
        assert server.cli("XLEN", stream) == "5"
        position = messages.position
        await asyncio.sleep(1.05)
        again = await listen(there, "kept:a", since=position)
        assert again.recovered is False
        await publish(here, "kept:a", "new")
        assert server.cli("XLEN", stream) == "1"
        # Who has missed nothing can prove it, although nothing is kept any more.
        last = (await anext(again)).position
        await asyncio.sleep(1.05)
        assert server.cli("EXISTS", stream) == "0"
        assert (await listen(there, "kept:a", since=last)).recovered is True


async def test_what_is_too_old_goes_while_newer_messages_stay(server: RedisServer) -> None:
    module._rules["kept:"] = Retention(100, 0.5)
    async with hubs(server.url) as (here, there):
        messages = await listen(here, "kept:a")
        for number in range(3):
            await publish(there, "kept:a", str(number))
            await asyncio.sleep(0.3)
        position = (await anext(messages)).position
        stream = redis.Redis(server.url)._keys("tkept:a")[0].decode()
        assert int(server.cli("XLEN", stream)) < 3
        await publish(there, "kept:a", "3")
        again = await listen(here, "kept:a", since=position)
        assert again.recovered is False


async def test_a_topic_whose_end_was_evicted_begins_anew(server: RedisServer) -> None:
    async with hubs(server.url) as (here, there):
        await publish(here, "kept:a", "old")
        top = redis.Redis(server.url)._keys("tkept:a")[1].decode()
        assert server.cli("DEL", top) == "1"
        await publish(there, "kept:a", "new")
        assert await take(await listen(here, "kept:a", replay=9), 1) == ["new"]


async def test_a_clock_of_redis_that_was_set_back_stops_nobody(server: RedisServer) -> None:
    async with hubs(server.url) as (here, there):
        await publish(here, "kept:a", "1")
        stream, top = (key.decode() for key in redis.Redis(server.url)._keys("tkept:a"))
        future = str(int(server.cli("TIME").split()[0]) * 1_000 + 60_000)
        server.cli("XADD", stream, f"{future}-1", "p", "e:1", "b", "e:0", "d", "")
        server.cli("HSET", top, "ms", future)
        await publish(there, "kept:a", "2")
        assert (await take(await listen(here, "kept:a", replay=1), 1)) == ["2"]


@pytest.mark.parametrize("days", [1, 40])
async def test_where_a_topic_stands_outlives_what_is_kept_of_it(
    server: RedisServer, days: int
) -> None:
    module._rules["kept:"] = Retention(100, days * 86_400)
    async with hubs(server.url, 1) as (here,):
        await publish(here, "kept:a", "1")
        top = redis.Redis(server.url)._keys("tkept:a")[1].decode()
        assert server.cli("PEXPIRE", top, "60000") == "1"
        await publish(here, "kept:a", "2")
        assert int(server.cli("PTTL", top)) > max(29, 2 * days - 1) * 86_400_000


@on_both_loops
async def test_what_was_not_sent_before_the_connection_broke_is_sent_over_the_next(
    server: RedisServer,
) -> None:
    async with hubs(server.url) as (here, there):
        messages = await listen(there, "a")
        publishing = asyncio.ensure_future(publish(here, "a", "x"))
        await asyncio.sleep(0)  # it is asked for, and not written
        broker: Any = here.bus
        next(iter(broker._client._links.values())).lose("cut")
        assert await publishing == 1
        assert await take(messages, 1) == ["x"]


async def test_after_a_success_it_is_tried_again_soon(
    victim: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    class Recorded(redis.Backoff):
        def next(self) -> float:
            delays.append(self._next)
            return super().next() / 10

    monkeypatch.setattr(redis, "Backoff", Recorded)
    async with hubs(victim.url, 1) as (here,):
        victim.kill()
        await until(lambda: len(delays) > 3)
        victim.start()
        await found([here])
        before = len(delays)
        victim.kill()
        await until(lambda: len(delays) > before)
        assert delays[before] == delays[0] < delays[before - 1]


async def test_what_an_earlier_connection_confirms_does_not_count(log: Any) -> None:
    """As of a slot that has moved meanwhile."""
    asked = redis.Redis("redis://127.0.0.1")
    name, channel = "ta", asked._channel("ta")
    known = asked._names[name] = redis._Name(channel)
    asked._by_channel[channel] = name
    earlier, now = object(), object()
    link: Any = now
    known.link = link
    for is_confirmed in (True, False):
        asked._subscribed(earlier, [channel], is_confirmed)  # type: ignore[arg-type]
        assert (known.link, known.confirmed.done()) == (now, False)


async def test_a_history_of_large_messages_is_read_in_pages(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "PAGE_BYTES", 100_000)
    async with hubs(server.url) as (here, there):
        first = await listen(here, "kept:a", replay=0, envelope=True)
        for number in range(50):
            await publish(here, "kept:a", f"{number}:{'x' * 20_000}")
        positions = [first.position, *[(await anext(first)).position for _ in range(50)]]
        for begin in (0, 10):
            server.cli("CONFIG", "RESETSTAT")
            messages = await listen(there, "kept:a", since=positions[begin])
            assert messages.recovered
            got = await take(messages, 50 - begin)
            assert [text.partition(":")[0] for text in got] == texts(begin, 50)
            calls = server.cli("INFO", "commandstats").partition("cmdstat_eval:calls=")[2]
            assert int(calls.partition(",")[0]) > 5
        replayed = await listen(there, "kept:a", replay=20)
        got = await take(replayed, 20)
        assert [text.partition(":")[0] for text in got] == texts(30, 50)


async def test_what_redis_refuses_is_an_error_that_names_it(victim: RedisServer) -> None:
    async with hubs(victim.url, 1) as (here,):
        victim.cli("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(BusUnavailable, match=r"redis://127.* OOM|maxmemory"):
            await publish(here, "kept:a", "x")
        assert here.bus.healthy()


async def test_a_replica_is_not_taken_for_a_master(
    victim: RedisServer, tmp_path: Path, log: Any
) -> None:
    with RedisServer(tmp_path / "replica", "--replicaof", f"127.0.0.1 {victim.port}") as replica:
        here = Hub(Wanted(url=replica.url), asyncio.get_running_loop())
        await until(lambda: any("this is a replica" in record.getMessage() for record in log))
        replica.cli("REPLICAOF", "NO", "ONE")
        await until(here.bus.healthy)
        messages = await listen(here, "kept:a")
        await publish(here, "kept:a", "x")
        assert await take(messages, 1) == ["x"]
        # A master that becomes a replica is left.
        replica.cli("REPLICAOF", "127.0.0.1", str(victim.port))
        writing = asyncio.ensure_future(publish(here, "kept:a", "y"))
        await until(lambda: not here.bus.healthy())
        replica.cli("REPLICAOF", "NO", "ONE")
        await writing
        await here.close()


@on_both_loops
async def test_the_server_ends_while_redis_is_away(victim: RedisServer) -> None:
    async with hubs(victim.url) as workers:
        victim.kill()
        await lost(workers)
        waiting = asyncio.ensure_future(publish(workers[0], "a", "x"))
        joining = asyncio.ensure_future(listen(workers[0], "a"))
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await workers[0].close()
        for future in (waiting, joining):
            with pytest.raises(BusUnavailable, match="the server has ended"):
                await future
        # Long before an answer would have been given up.
        assert asyncio.get_running_loop().time() - began < keeping.WAIT_SECONDS - 1


@on_both_loops
async def test_many_topics_are_subscribed_to_again_in_batches(victim: RedisServer) -> None:
    async with hubs(victim.url) as workers:
        here, there = workers
        everything = await asyncio.gather(*(listen(here, f"{n}") for n in range(1_500)))
        victim.cli("CONFIG", "RESETSTAT")
        victim.cli("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: all(messages.dropped for messages in everything))
        calls = victim.cli("INFO", "commandstats").partition("cmdstat_subscribe:calls=")[2]
        assert int(calls.partition(",")[0]) == 3
        for number in (0, 700, 1_499):
            assert await publish(there, f"{number}", "x") == 1
            assert (await anext(everything[number])).gap == 1


@on_both_loops
async def test_tls_and_a_password_that_is_told_to_nobody(tmp_path: Path, log: Any) -> None:
    certificates = Certificates(tmp_path)
    certificates.authority_to(tmp_path / "ca")
    secured = ("--tls-cert-file", certificates.chain, "--tls-key-file", certificates.key)
    options = ("--tls-ca-cert-file", str(tmp_path / "ca"), "--tls-auth-clients", "no")
    with RedisServer(tmp_path / "r", *secured, *options) as server:
        server.cli("CONFIG", "SET", "requirepass", "wrong-horse")
        url = f"rediss://:{{}}@localhost:{server.port}?ssl_ca_certs={tmp_path}/ca"
        async with hubs(url.format("wrong-horse")) as (here, there):
            for topic in ("a", "kept:a"):
                messages = await listen(here, topic)
                await publish(there, topic, "x" * 1_000_000)
                assert await take(messages, 1) == ["x" * 1_000_000]
        for wrong, reason in (
            (url.format("battery"), "invalid username-password pair"),
            (url.format("wrong-horse").partition("?")[0], "certificate verify failed"),
        ):
            refused = Hub(Wanted(url=wrong), asyncio.get_running_loop())
            await until(lambda reason=reason: log and reason in log[-1].getMessage())
            assert not refused.bus.healthy()
            await refused.close()
        told = " ".join(record.getMessage() for record in log)
        assert "battery" not in told
        assert "horse" not in told
