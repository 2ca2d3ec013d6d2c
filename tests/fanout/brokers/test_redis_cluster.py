"""Topics over a real cluster of three Redis masters."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from redis.crc import key_slot

from asgiws.errors import BusUnavailable
from asgiws.fanout import hub as module
from asgiws.fanout.brokers import keeping, redis
from asgiws.fanout.history import Retention

from .hubs import hubs, listen, on_both_loops, publish, take, texts, until
from .redis_server import RedisServer
from .server import DEADLINE, free_port

SLOTS = 16_384


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rules", {"kept:": Retention(100, 60.0)})


class Cluster:
    """Nodes that have found each other."""

    def __init__(self, folder: Path, stack: ExitStack, replicas: int = 0) -> None:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        self.nodes = [
            stack.enter_context(
                RedisServer(
                    folder / str(number),
                    *options,
                    *("--cluster-port", str(free_port())),
                )
            )
            for number in range(3 * (1 + replicas))
        ]
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        command += ["--cluster-replicas", str(replicas)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout
        deadline = time.monotonic() + DEADLINE
        for node in self.nodes:
            while "cluster_state:ok" not in node.cli("CLUSTER", "INFO"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            # A replica that has never had all of it cannot take over.
            while "master_link_status:down" in node.cli("INFO", "replication"):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def owner(self, slot: int) -> RedisServer:
        """The master that has a slot."""
        for node in self.nodes:
            for line in node.cli("CLUSTER", "NODES").splitlines():
                words = line.split()
                if "myself,master" in words[2]:
                    for word in words[8:]:
                        first, _, last = word.partition("-")
                        if first.isdigit() and int(first) <= slot <= int(last or first):
                            return node
        raise AssertionError(f"nobody has slot {slot}")

    def move(self, slot: int, target: RedisServer) -> None:
        """Give a slot, and all that is in it, to another node."""
        source = self.owner(slot)
        source_id, target_id = source.cli("CLUSTER", "MYID"), target.cli("CLUSTER", "MYID")
        target.cli("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source_id)
        source.cli("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target_id)
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", str(slot), "100").splitlines():
            where = ["127.0.0.1", str(target.port), "", "0", "5000", "KEYS"]
            assert source.cli("MIGRATE", *where, *keys) == "OK"
        for node in (target, source, *self.nodes):
            node.cli("CLUSTER", "SETSLOT", str(slot), "NODE", target_id)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path_factory.mktemp("cluster"), stack)


def slot_of(url: str, topic: str) -> int:
    return int(key_slot(redis.Redis(url)._channel(f"t{topic}")))


async def test_topics_of_all_nodes_reach_all_workers(cluster: Cluster) -> None:
    async with hubs(cluster.url, 3) as workers:
        here, there, third = workers
        names = [f"{prefix}{number}" for prefix in ("", "kept:") for number in range(60)]
        assert len({cluster.owner(slot_of(cluster.url, name)) for name in names}) == 3
        everything = {name: [await listen(w, name) for w in (here, there)] for name in names}
        for name in names:
            for number in range(5):
                assert await publish(third, name, str(number)) == 2
        for name, listeners in everything.items():
            for messages in listeners:
                assert await take(messages, 5) == texts(0, 5), name
        assert await third.count("kept:7") == (0, 2)
        again = await listen(third, "kept:7", replay=3)
        assert await take(again, 3) == texts(2, 5)
        # Sharded: no node has a channel of another one.
        for node in cluster.nodes:
            assert node.cli("PUBSUB", "CHANNELS") == ""
            for channel in node.cli("PUBSUB", "SHARDCHANNELS").splitlines():
                assert cluster.owner(key_slot(channel.encode())) is node


async def test_many_topics_are_subscribed_to_in_few_commands(cluster: Cluster) -> None:
    async with hubs(cluster.url, 1) as (here,):
        for node in cluster.nodes:
            node.cli("CONFIG", "RESETSTAT")
        await asyncio.gather(*(listen(here, f"{number}") for number in range(2_000)))
        calls = 0
        for node in cluster.nodes:
            said = node.cli("INFO", "commandstats").partition("cmdstat_ssubscribe:calls=")[2]
            calls += int(said.partition(",")[0])
        assert calls == redis.PARTS


@on_both_loops
async def test_a_slot_that_moves_is_followed_and_nothing_kept_is_lost(cluster: Cluster) -> None:
    slot = slot_of(cluster.url, "kept:moving")
    plain = next(str(n) for n in range(10_000) if slot_of(cluster.url, str(n)) == slot)
    async with hubs(cluster.url) as (here, there):
        kept, other = await listen(here, "kept:moving"), await listen(here, plain)
        await publish(there, "kept:moving", "before")
        assert await take(kept, 1) == ["before"]
        stop = asyncio.Event()
        published: list[str] = []

        async def speak() -> None:
            while not stop.is_set():
                published.append(str(len(published)))
                await publish(there, "kept:moving", published[-1])

        speaking = asyncio.ensure_future(speak())
        target = next(node for node in cluster.nodes if node is not cluster.owner(slot))
        await asyncio.to_thread(cluster.move, slot, target)
        enough = len(published) + 20
        await until(lambda: len(published) > enough)
        stop.set()
        await speaking
        got = await take(kept, len(published))
        assert got == published
        # The history has moved to another server: positions are new, and that is told.
        assert kept.dropped <= 1
        await until(lambda: other.dropped)
        assert await publish(there, plain, "x") == 1
        message = await anext(other)
        assert message.text == "x"
        assert message.gap >= 1  # one for each time that it had to be followed


async def test_a_cluster_of_which_a_part_is_away_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[logging.LogRecord]
) -> None:
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 1.0)
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        slot = slot_of(cluster.url, "a")
        owner = cluster.owner(slot)
        async with hubs(next(node for node in cluster.nodes if node is not owner).url, 1) as (
            here,
        ):
            await publish(here, "a", "x")
            owner.kill()
            await until(lambda: not here.bus.healthy())
            with pytest.raises(BusUnavailable):
                await publish(here, "a", "x")
            assert not here.bus.healthy()
            owner.start()
            await until(here.bus.healthy)
            for node in cluster.nodes:
                node.cli("CLUSTER", "DELSLOTS", str(slot))
            with pytest.raises(BusUnavailable):
                await publish(here, "a", "x")
            await until(lambda: "not complete" in log[-1].getMessage())
            assert not here.bus.healthy()
            owner.cli("CLUSTER", "ADDSLOTS", str(slot))
            await until(here.bus.healthy)
            await publish(here, "a", "x")


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack, replicas=1)


@pytest.mark.slow
async def test_a_replica_that_takes_over_is_followed(victims: Cluster) -> None:
    """Also if it is that of the URL's node. Topics of other nodes miss nothing. 10 s."""
    first = victims.nodes[0]
    names = [f"{prefix}{number}" for prefix in ("kept:", "") for number in range(30)]
    async with hubs(victims.url) as (here, there):
        everything = {name: await listen(here, name) for name in names}
        for name in names:
            await publish(there, name, "before")
        affected = {name for name in names if victims.owner(slot_of(victims.url, name)) is first}
        assert 0 < len(affected) < len(names)
        for messages in everything.values():
            assert await take(messages, 1) == ["before"]
        first.kill()
        for name in names:
            if name == "0":  # what has no history comes to who subscribes again by then
                await until(lambda: here.bus.healthy() and there.bus.healthy())
            while True:
                with suppress(BusUnavailable):
                    await publish(there, name, "after")
                    break
        for name, messages in everything.items():
            message = await anext(messages)
            assert (message.text, message.gap) == ("after", int(name in affected)), name
