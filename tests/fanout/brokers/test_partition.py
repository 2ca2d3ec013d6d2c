"""A broker behind a network that drops all packets for a while, and tells nobody."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BusUnavailable
from asgiws.fanout import hub as module
from asgiws.fanout.history import Retention

from ...toolkit.program import ROOT
from ...toolkit.running import NewLoop
from .elsewhere import Elsewhere
from .hubs import hubs, listen, publish, take, texts, until
from .nats_server import NatsServer
from .redis_server import RedisServer
from .server import Server

pytestmark = pytest.mark.slow  # each takes 20 s: these are the real deadlines

SPEAK = """
import asyncio, sys
from asgiws.fanout import hub
from tests.fanout.brokers.hubs import hubs, publish
hub.keep("kept:", 100, 60.0)
async def main():
    async with hubs(sys.argv[1], 1) as (here,):
        for text in sys.argv[2:]:
            for topic in ("a", "kept:a"):
                await publish(here, topic, text)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_rules", {"kept:": Retention(100, 60.0)})


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as made:
        yield made


@pytest.fixture
def broker(kind: Any, elsewhere: Elsewhere, tmp_path: Path) -> Iterator[Server]:
    options = ("--protected-mode", "no") if kind is RedisServer else ()
    with kind(tmp_path / "broker", *options, elsewhere=elsewhere) as running:
        yield running


async def speak(elsewhere: Elsewhere, url: str, messages: list[str]) -> None:
    """Somebody over there, for whom the broker is well, publishes."""
    command = [*elsewhere.inside, sys.executable, "-c", SPEAK, url, *messages]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await process.wait() == 0


@pytest.mark.parametrize(("kind", "loop"), [(RedisServer, "asyncio"), (NatsServer, "uvloop")])
def test_silence_is_found_out_told_and_made_up_for(
    elsewhere: Elsewhere, broker: Server, new_loop: NewLoop, log: Any
) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), hubs(broker.url) as (here, there):
            plain, kept = await listen(here, "a"), await listen(here, "kept:a")
            for topic, messages in (("a", plain), ("kept:a", kept)):
                await publish(there, topic, "before")
                last = await anext(messages)
                assert (last.text, last.gap) == ("before", 0)
            elsewhere.cut()
            for _ in range(2):  # the second one when it is known already
                with pytest.raises(
                    BusUnavailable, match=f"{broker.url} is not available: .*answer"
                ):
                    async with asyncio.timeout(9):
                        await publish(there, "kept:a", "perhaps")
                await until(lambda: not here.bus.healthy() and not there.bus.healthy())
            with pytest.raises(BusUnavailable):
                await listen(there, "kept:b")
            told = [record.getMessage() for record in log]
            away = f"Topics: {broker.url} is away, trying again: "
            assert len([line for line in told if line.startswith(away)]) == 2
            await speak(elsewhere, broker.url, texts(0, 5))
            elsewhere.heal()
            await until(lambda: here.bus.healthy() and there.bus.healthy())
            for topic in ("a", "kept:a"):
                await publish(there, topic, "after")
            found = await anext(plain)
            assert (found.text, found.gap) == ("after", 1)
            # What had been written when it was cut may arrive now; it was never promised.
            again = await listen(there, "kept:a", since=last.position)
            assert again.recovered is True
            for messages in (kept, again):
                came = await take(messages, 1)
                while came[-1] != "after":
                    came += await take(messages, 1)
                while "perhaps" in came:
                    came.remove("perhaps")
                assert came == [*texts(0, 5), "after"]
                assert messages.dropped == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
