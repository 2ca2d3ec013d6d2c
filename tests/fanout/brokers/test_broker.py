"""What topics promise over any broker, with one that loses what the test wants to be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asgiws.errors import BusUnavailable
from asgiws.fanout.brokers import broker as module
from asgiws.fanout.brokers.broker import Broker
from asgiws.fanout.brokers.client import Appended, Client, Entry, Owner, Page
from asgiws.fanout.brokers.record import ANSWER, Record, encode
from asgiws.fanout.history import Retention
from asgiws.fanout.message import TEXT, Publication

KEPT = Retention(10, 60.0)
NOTHING = Retention(0, 0.0)


class Service:
    """What all clients connect to, in memory."""

    def __init__(self) -> None:
        self.clients: list[Fake] = []
        self.epoch = "e"
        self.entries: list[Entry] = []
        self.number = 0

    @property
    def top(self) -> str:
        return f"{self.epoch}:{self.number}"

    def forget(self) -> None:
        """Everything is lost."""
        self.epoch, self.entries, self.number = self.epoch + "e", [], 0


class Fake(Client):
    """A client whose owner hears nothing while it is ``deaf``."""

    name = "fake://service"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.names: set[str] = set()
        self.deaf = False
        self.away = False
        self.asked = asyncio.Event()  # that something was read
        self.answer: asyncio.Event | None = None  # what an answer waits for

    def start(self, owner: Owner) -> None:
        self.owner = owner
        self.service.clients.append(self)
        owner.health(None)

    def check(self) -> None:
        if self.away:
            raise BusUnavailable(f"{self.name} is not available: unplugged")

    async def subscribe(self, name: str) -> None:
        self.check()
        self.names.add(name)

    def unsubscribe(self, name: str) -> None:
        self.names.discard(name)

    def give(self, name: str, *what: Any) -> int:
        reached = [each for each in self.service.clients if name in each.names]
        for each in reached:
            if not each.deaf:
                each.owner.take(name, *what)
        return len(reached)

    async def publish(self, name: str, body: bytes) -> int | None:
        self.check()
        return self.give(name, body, None, None)

    async def append(self, name: str, body: bytes, retention: Retention) -> Appended:
        self.check()
        before = self.service.top
        self.service.number += 1
        position = self.service.top
        self.service.entries.append(Entry(position, before, body))
        del self.service.entries[: -retention.messages]
        return Appended(position, self.give(name, body, position, before))

    async def read(self, name: str, since: str | None, most: int, retention: Retention) -> Page:
        self.check()
        entries, top = list(self.service.entries), self.service.top
        if since is None:
            page = Page(entries[len(entries) - most :] if most else [], True, top)
        else:
            behind = [n for n, entry in enumerate(entries) if entry.before == since]
            page = Page(entries[behind[0] :] if behind else [], bool(behind) or since == top, top)
        self.asked.set()
        if self.answer is not None:
            await self.answer.wait()
        return page

    async def tops(self, names: Sequence[str]) -> list[str]:
        self.check()
        return [self.service.top for _ in names]

    async def close(self) -> None:
        self.service.clients.remove(self)


class Hub:
    """What a broker has told its hub: texts, and gaps as numbers."""

    def __init__(self, retention: Retention = KEPT) -> None:
        self.kept = retention
        self.got: list[str | int] = []
        self.excluded: list[object] = []

    def deliver(self, publication: Publication) -> int:
        self.got.append(publication.payload.decode())
        self.excluded.append(publication.exclude)
        return 1

    def miss(self, topic: str, messages: int) -> None:
        self.got.append(messages)

    def retention(self, topic: str) -> Retention:
        return self.kept

    def members(self, topic: str, exclude: object = None) -> int:
        return 1


class World:
    """Two workers, of which the first one listens."""

    def __init__(self, retention: Retention = KEPT) -> None:
        self.service = Service()
        self.hub = Hub(retention)
        self.client, self.other = Fake(self.service), Fake(self.service)
        self.broker = Broker(self.hub, self.client)
        self.publisher = Broker(Hub(retention), self.other)
        self.kept = retention

    async def __aenter__(self) -> World:
        await self.broker.follow("a", True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.close()
        await self.publisher.close()

    async def publish(self, *texts: str, own: bool = False, exclude: object = None) -> None:
        for text in texts:
            publication = Publication("a", TEXT, text.encode(), exclude=exclude)
            await (self.broker if own else self.publisher).publish(publication, self.kept)

    async def lose(self, *texts: str) -> None:
        """These do not come."""
        self.client.deaf = True
        await self.publish(*texts)
        self.client.deaf = False

    async def got(self, *expected: str | int) -> None:
        while len(self.hub.got) < len(expected):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert self.hub.got == list(expected)


async def test_what_was_lost_is_read_and_delivered_before_what_comes_then() -> None:
    async with World() as world:
        await world.publish("1", "2")
        await world.lose("3", "4")
        await world.publish("5")
        await world.publish("6")
        await world.got("1", "2", "3", "4", "5", "6")


async def test_what_is_lost_and_not_kept_any_more_is_told_with_its_number() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose(*map(str, range(2, 20)))
        await world.publish("20")
        await world.got("1", 9, *map(str, range(11, 21)))


async def test_what_comes_while_something_is_read_keeps_its_place() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        await world.publish("3")
        await world.client.asked.wait()
        await world.publish("4", "5")
        world.client.answer.set()
        await world.got("1", "2", "3", "4", "5")


async def test_a_second_loss_while_the_first_is_read() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        await world.publish("3")
        await world.client.asked.wait()
        await world.lose("4")
        await world.publish("5")
        world.client.answer.set()
        await world.got("1", "2", "3", "4", "5")


async def test_who_comes_while_something_is_read_waits_for_it() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        world.client.answer = asyncio.Event()
        await world.publish("3")
        following = asyncio.ensure_future(world.broker.follow("a", False))
        done, _ = await asyncio.wait([following], timeout=0.05)
        assert not done
        world.client.answer.set()
        await following
        assert world.hub.got == ["1", "2", "3"]


async def test_what_is_kept_of_an_epoch_before_the_last_two_is_not_delivered() -> None:
    async with World() as world:
        await world.publish("1")
        old = world.service.entries[:]
        world.service.forget()
        await world.publish("2")
        await world.got("1", 1, "2")
        # A worker that began just now has never met the first epoch.
        late = Broker(hub := Hub(), client := Fake(world.service))
        await late.follow("a", True)
        world.service.forget()
        world.service.entries = old
        client.owner.restored(["ta"])
        while not hub.got:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await late.publish(Publication("a", TEXT, b"3"), KEPT)
        while "3" not in hub.got:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert hub.got == [1, "3"]
        await late.close()


async def test_more_than_can_be_held_is_read_from_the_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 2)
    async with World() as world:
        await world.lose("1")
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        await world.publish("2")
        await world.client.asked.wait()
        await world.publish("3", "4", "5", "6")
        world.client.answer.set()
        await world.got("1", "2", "3", "4", "5", "6")


async def test_a_restored_connection_reads_what_has_come_meanwhile() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        world.client.owner.restored(["ta"])
        await world.got("1", "2")


async def test_a_restored_connection_is_a_gap_without_history() -> None:
    async with World(NOTHING) as world:
        await world.publish("1")
        await world.lose("2")
        world.client.owner.restored(["ta", "tb", "wx"])
        await world.publish("3")
        await world.got("1", 1, "3")


async def test_an_emptied_history_is_a_gap_and_what_is_new_in_it_comes() -> None:
    async with World() as world:
        await world.publish("1", "2")
        world.service.forget()
        await world.lose("3")
        await world.publish("4")
        await world.got("1", "2", 1, "3", "4")


async def test_a_broker_that_is_away_while_something_is_read_is_asked_again() -> None:
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        world.client.away = True
        await world.publish("3")
        await asyncio.sleep(0.01)
        assert world.hub.got == ["1"]
        world.client.away = False
        await world.got("1", "2", "3")


async def test_a_silent_loss_is_found_out_without_anything_that_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(module, "LATE_SECONDS", 0.01)
    async with World() as world:
        await world.publish("1")
        await world.lose("2", "3")
        await world.got("1", "2", "3")


async def test_a_newcomer_and_a_loss_that_nobody_has_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It must not get what is read for the others a second time."""
    monkeypatch.setattr(module, "LATE_SECONDS", 0.01)
    async with World() as world:
        await world.publish("1")
        await world.lose("2")
        recovery = await world.broker.recover("a", "e:1", 0, KEPT)
        assert world.hub.got == ["1", "2"]  # first to those who were there
        assert [each.payload for each in recovery.publications] == [b"2"]
        assert recovery[1:] == (True, "e:2", "e:1")


async def test_what_is_recovered_is_complete_or_nothing() -> None:
    async with World() as world:
        await world.publish(*map(str, range(1, 15)))
        recovery = await world.broker.recover("a", "e:4", 0, KEPT)
        assert [each.position for each in recovery.publications] == [f"e:{n}" for n in range(5, 15)]
        assert recovery[1:] == (True, "e:14", "e:4")
        for since in ("e:3", "x:4", "e:99", "", "e", "e:x", "e:-1"):
            assert await world.broker.recover("a", since, 0, KEPT) == ([], False, "e:14", "e:14")
        assert await world.broker.recover("a", "e:14", 0, KEPT) == ([], True, "e:14", "e:14")
        recovery = await world.broker.recover("a", None, 3, KEPT)
        assert [each.payload for each in recovery.publications] == [b"12", b"13", b"14"]
        assert recovery.begin == "e:11"
        assert await world.broker.recover("a", None, 0, KEPT) == ([], True, "e:14", "e:14")


async def test_whom_a_message_excludes_is_known_where_it_came_from() -> None:
    async with World() as world:
        someone = object()
        await world.publish("1", own=True, exclude=someone)
        await world.publish("2", exclude=object())
        world.client.deaf = True
        await world.publish("3", own=True, exclude=someone)
        world.client.deaf = False
        await world.publish("4")
        await world.got("1", "2", "3", "4")
        assert world.hub.excluded == [someone, None, someone, None]
        assert not world.broker._followed["a"].excluded


async def test_whom_a_message_excludes_is_known_if_it_comes_and_is_read_as_well() -> None:
    async with World() as world:
        someone = object()
        await world.publish("1")
        await world.lose("2")
        await world.publish("3", own=True, exclude=someone)
        world.client.answer = asyncio.Event()
        await world.publish("4", own=True, exclude=someone)
        world.client.answer.set()
        await world.got("1", "2", "3", "4")
        assert world.hub.excluded == [None, None, someone, someone]
        assert not world.broker._followed["a"].excluded


async def test_what_is_excluded_from_messages_that_never_come_is_bounded() -> None:
    async with World(NOTHING) as world:
        world.client.deaf = True
        for _ in range(2 * module.MAX_EXCLUDED):
            await world.publish("x", own=True, exclude=object())
        assert len(world.broker._followed["a"].excluded) == module.MAX_EXCLUDED


async def test_those_who_do_not_answer_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNT_SECONDS", 0.05)
    async with World() as world:
        assert await world.publisher.count("a") == 1
        world.client.deaf = True
        assert await world.publisher.count("a") == 0


async def test_a_change_of_health_is_logged_once(log: Any) -> None:
    async with World() as world:
        assert world.broker.healthy()
        for reason in ("unplugged", "still unplugged", None, None):
            world.client.owner.health(reason)
            assert world.broker.healthy() is (reason is None)
        told = [record.getMessage() for record in log]
        assert told[-2:] == [
            "Topics: fake://service is away, trying again: unplugged",
            "Topics: connected to fake://service",
        ]
        assert len(told) == 4  # two workers have connected before


async def test_another_language_is_told_and_harms_nobody(log: Any) -> None:
    async with World() as world:
        await world.publish("1")
        world.client.owner.take("ta", b"\x80pickle", None, None)
        await world.publish("2")
        await world.got("1", 1, "2")
        assert "cannot be read (version 128 instead of 1)" in log[-1].getMessage()


async def test_a_subscription_that_is_refused_is_an_error_and_can_be_tried_again() -> None:
    async with World() as world:
        world.client.away = True
        with pytest.raises(BusUnavailable, match="unplugged"):
            await world.broker.follow("b", True)
        world.client.away = False
        await world.broker.follow("b", True)
        assert "tb" in world.client.names


async def test_who_waits_when_the_server_ends_is_told_so() -> None:
    async with World() as world:
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        following = asyncio.ensure_future(world.broker.follow("b", True))
        await world.client.asked.wait()
        closing = asyncio.ensure_future(world.broker.close())
        with pytest.raises(BusUnavailable, match="the server has ended"):
            await following
        await closing
        world.service.clients.append(world.client)


async def test_a_join_that_is_cancelled_leaves_nothing() -> None:
    async with World() as world:
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        following = asyncio.ensure_future(world.broker.follow("b", True))
        await world.client.asked.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        world.broker.changed("b", 0)
        assert world.client.names == {"ta"}
        assert list(world.broker._followed) == ["a"]


OF_ANOTHER_VERSION = b"\x02" + bytes(40)


async def test_what_cannot_be_read_is_a_gap_and_the_topic_goes_on(log: Any) -> None:
    async with World() as world:
        await world.publish("1")
        await world.other.append("ta", OF_ANOTHER_VERSION, KEPT)
        await world.other.append("ta", OF_ANOTHER_VERSION, KEPT)
        await world.publish("2")
        await world.got("1", 1, 1, "2")
    told = [record.getMessage() for record in log if "cannot be read" in record.getMessage()]
    assert told == ["Topics: a record at fake://service cannot be read (version 2 instead of 1)"]


async def test_what_cannot_be_read_in_the_history_is_a_gap_too() -> None:
    async with World() as world:
        await world.publish("1")
        world.client.deaf = True
        await world.publish("2")
        await world.other.append("ta", OF_ANOTHER_VERSION, KEPT)
        world.client.deaf = False
        await world.publish("3")
        await world.publish("4")
        await world.got("1", "2", 1, "3", "4")


async def test_a_client_that_comes_back_is_told_of_what_cannot_be_read() -> None:
    async with World() as world:
        await world.publish("1")
        since = world.service.top
        await world.publish("2")
        await world.other.append("ta", OF_ANOTHER_VERSION, KEPT)
        await world.publish("3")
        recovery = await world.broker.recover("a", since, 0, KEPT)
        assert (recovery.publications, recovery.complete) == ([], False)
        assert recovery.begin == recovery.position == world.service.top
        newcomer = await world.broker.recover("a", None, 3, KEPT)
        assert [each.payload for each in newcomer.publications] == [b"2", b"3"]


async def test_an_answer_that_cannot_be_read_harms_nobody() -> None:
    async with World() as world:
        body = encode(Record(ANSWER, bytes(8), 1, payload=b"many"))
        world.broker.take("w", body, None, None)
        await world.publish("1")
        await world.got("1")


async def test_what_waits_while_something_is_read_has_a_bound_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 500)
    async with World(Retention(100, 60.0)) as world:
        await world.publish("1")
        await world.lose("2")
        world.client.answer = asyncio.Event()
        world.client.asked.clear()
        await world.publish("3")
        await world.client.asked.wait()
        texts = [f"{number:0100}" for number in range(4, 30)]
        followed = world.broker._followed["a"]
        for text in texts:
            await world.publish(text)
            assert followed.held is not None
            assert sum(len(each.publication.payload) for each in followed.held) <= 500
        world.client.answer.set()
        await world.got("1", "2", "3", *texts)
