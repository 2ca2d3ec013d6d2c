"""What all clients share, with a client that is told what its broker does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asgiws.errors import BusUnavailable
from asgiws.fanout.brokers import keeping
from asgiws.fanout.brokers.client import Appended, Page
from asgiws.fanout.brokers.keeping import Keeping, Name
from asgiws.fanout.history import Retention


class Told(Keeping[Name]):
    """Confirms what it is told to."""

    def __init__(self) -> None:
        super().__init__("told://")
        self.adjusted: list[list[str]] = []

    async def _keep(self) -> None:
        await asyncio.Event().wait()

    def _named(self, name: str) -> Name:
        return Name()

    def _adjust(self) -> None:
        self.adjusted.append(sorted(self._changed))
        self._changed = set()

    def confirm(self, name: str) -> None:
        self._names[name].confirmed.set_result(None)

    def unsubscribe(self, name: str) -> None:
        raise NotImplementedError

    async def publish(self, name: str, body: bytes) -> int | None:
        raise NotImplementedError

    async def append(self, name: str, body: bytes, retention: Retention) -> Appended:
        raise NotImplementedError

    async def read(self, name: str, since: str | None, most: int, retention: Retention) -> Page:
        raise NotImplementedError

    async def tops(self, names: Sequence[str]) -> list[str]:
        raise NotImplementedError


@pytest.fixture
def owner() -> Any:
    return object()


async def rounds() -> None:
    """A few iterations of the event loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_names_of_one_iteration_are_asked_for_together_and_once(owner: Any) -> None:
    told = Told()
    told.start(owner)
    waiting = [asyncio.ensure_future(told.subscribe(name)) for name in ("a", "b", "a")]
    await rounds()
    assert told.adjusted == [["a", "b"]]
    told.confirm("a")
    told.confirm("b")
    await asyncio.gather(*waiting)
    await told.subscribe("a")
    assert told.adjusted == [["a", "b"]]
    await told.close()


async def test_who_waits_goes_on_waiting_over_a_loss(owner: Any) -> None:
    told = Told()
    told.start(owner)
    waiting = asyncio.ensure_future(told.subscribe("a"))
    await rounds()
    told.confirm("a")
    told._names["a"].forget()  # before it has come round
    await rounds()
    assert not waiting.done()
    assert told._names["a"].was
    told.confirm("a")
    await waiting
    await told.close()


async def test_nobody_waits_for_ever_and_the_reason_is_told(
    owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 0.01)
    told = Told()
    told.start(owner)
    for told._reason, why in (("it is ill", "it is ill"), ("", "no answer")):
        with pytest.raises(BusUnavailable, match=f"told:// is not available: {why}"):
            await told.subscribe("a")
    await told.close()


async def test_the_end_is_told_to_who_waits_and_who_comes(owner: Any) -> None:
    told = Told()
    told.start(owner)
    waiting = asyncio.ensure_future(told.subscribe("a"))
    await rounds()
    await told.close()
    for call in (waiting, told.subscribe("a")):
        with pytest.raises(BusUnavailable, match="the server has ended"):
            await call
    assert told._keeper is not None
    assert told._keeper.cancelled()
