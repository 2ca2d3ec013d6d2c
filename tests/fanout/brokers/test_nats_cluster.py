"""Topics over a real cluster of three NATS servers, whose stream has three copies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BusUnavailable
from asgiws.fanout import hub as module
from asgiws.fanout.history import Retention
from asgiws.fanout.hub import Hub

from ...toolkit.running import NewLoop
from .hubs import hubs, listen, publish, until
from .nats_server import NatsServer
from .server import free_port

pytestmark = pytest.mark.slow  # each takes 10 s: the servers elect twice


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rules", {"kept:": Retention(100, 600.0)})


@pytest.fixture
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, NatsServer]]:
    """The servers by their names; three, or as many as the test says."""
    ports = [free_port() for _ in range(getattr(request, "param", 3))]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        yield {
            f"n{port}": stack.enter_context(
                NatsServer(
                    tmp_path / f"n{port}",
                    config=f"server_name: n{port}\n"
                    f'cluster {{name: c, listen: "127.0.0.1:{port}", routes: [{routes}]}}',
                )
            )
            for port in ports
        }


async def publish_at_last(here: Hub, topic: str, text: str) -> None:
    """Until it is taken; it may be there more than once then."""
    while True:
        try:
            await publish(here, topic, text)
            return
        except BusUnavailable:
            await asyncio.sleep(0.1)


async def stream_of(here: Hub) -> dict[str, Any]:
    """What the servers say of the stream."""
    broker: Any = here.bus
    found: dict[str, Any] = await broker._client._link.api("INFO.asgiws")
    return found


@pytest.mark.parametrize(
    ("at_leader", "loop"), [(True, "asyncio"), (False, "uvloop")], ids=["at it", "elsewhere"]
)
def test_the_leader_of_the_stream_is_killed_and_nothing_is_missing(
    nodes: dict[str, NatsServer], at_leader: bool, new_loop: NewLoop
) -> None:
    async def run() -> None:
        async with asyncio.timeout(100):
            async with hubs(next(iter(nodes.values())).url, 1) as (maker,):
                await publish_at_last(maker, "kept:a", "made")
                cluster = (await stream_of(maker))["cluster"]
            assert len(cluster["replicas"]) == 2
            leader = nodes[cluster["leader"]]
            others = [node for node in nodes.values() if node is not leader]
            # The others of the cluster are learned from the one that the URL names.
            async with hubs(leader.url if at_leader else others[0].url) as (here, there):
                plain, kept = await listen(here, "a"), await listen(here, "kept:a")
                await publish(there, "kept:a", "0")
                first = await anext(kept)
                leader.kill()
                # Those who elect do not hold up what is not kept.
                await publish_at_last(there, "a", "at once")
                await until(lambda: here.bus.healthy() and there.bus.healthy())
                for number in range(1, 20):
                    await publish_at_last(there, "kept:a", str(number))
                await until(lambda: here.bus.healthy() and there.bus.healthy())
                await publish(there, "a", "plain")
                found = [await anext(plain)]
                while found[-1].text != "plain":
                    found.append(await anext(plain))
                assert sum(message.gap for message in found) == int(at_leader)
                leader.start()
                for number in range(20, 40):
                    await publish_at_last(there, "kept:a", str(number))
                again = await listen(there, "kept:a", since=first.position)
                assert again.recovered is True
                for messages in (kept, again):
                    came: list[str] = []
                    while "39" not in came:
                        message = await anext(messages)
                        if message.text not in came:
                            came.append(message.text)
                    assert came == [str(number) for number in range(1, 40)]
                    assert messages.dropped == 0
                assert str(message.position).split(":")[0] == str(first.position).split(":")[0]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("nodes", [2], indirect=True)
async def test_a_cluster_that_cannot_have_three_copies_is_an_error_that_says_so(
    nodes: dict[str, NatsServer],
) -> None:
    async with hubs(next(iter(nodes.values())).url, 1) as (here,):
        said = ""
        while "no suitable peers for placement" not in said:  # before that they elect
            with pytest.raises(BusUnavailable) as caught:
                await publish(here, "kept:a", "x")
            said = str(caught.value)
        messages = await listen(here, "a")
        await publish(here, "a", "x")
        assert (await anext(messages)).text == "x"
