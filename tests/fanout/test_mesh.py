"""Topics between workers: real processes, over the mesh of a fleet.

And what one worker keeps for another that does not read, on a transport that is a plain object.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from asgiws.errors import BusUnavailable
from asgiws.fanout.mesh import MAX_WAITING, Mesh, Peer
from asgiws.fanout.message import TEXT, Publication
from tests.toolkit.certificates import NO_TLS

from .fleet import WORKERS, Client, Fleet


@pytest.fixture(scope="module")
def lasting() -> Iterator[Fleet]:
    with Fleet() as running:
        yield running


@pytest.fixture
def fleet(lasting: Fleet) -> Iterator[Fleet]:
    """One for all tests that leave it as it was, each with topics of its own."""
    with lasting.stack:
        yield lasting


@pytest.fixture
def victims() -> Iterator[Fleet]:
    """One for a test that does something to its workers."""
    with Fleet() as running, running.stack:
        yield running


def one_for_each_worker(fleet: Fleet, path: str) -> list[Client]:
    """As many clients as there are workers; those of the last test may be counted for a moment."""
    clients: dict[int, Client] = {}
    while len(clients) < WORKERS:
        client = fleet.subscribe(path)
        if clients.setdefault(client.pid, client) is not client:
            client.socket.close()
    topic = path.partition("?")[0]
    fleet.wait_until(lambda: fleet.count(topic)["everywhere"] == WORKERS, "the count")
    return list(clients.values())


def test_a_message_reaches_the_subscribers_of_all_workers_in_order(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "a")
    publisher, *others = clients
    for number in range(200):
        publisher.socket.send(str(number))
    for client in others:
        assert [client.next() for _ in range(200)] == [str(n) for n in range(200)]
    assert fleet.publish("a", "for all") == WORKERS
    assert {client.next() for client in clients} == {"for all"}
    assert fleet.count("a")["everywhere"] == WORKERS


@pytest.mark.parametrize("prefix", ["", "kept:"])
def test_whoever_has_subscribed_misses_nothing_that_is_published_then(
    fleet: Fleet, prefix: str
) -> None:
    """Wherever that is: the other workers have heard of it before."""
    with httpx.Client(
        base_url=fleet.url, headers={"connection": "close"}, verify=NO_TLS
    ) as publisher:
        for number in range(60):
            client = fleet.subscribe(f"{prefix}{number}")
            assert publisher.post(f"/{prefix}{number}", content="x").json() == 1
            assert client.next() == "x"


def test_a_large_message_reaches_all(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "large")
    large = "é" * 400_000
    assert fleet.publish("large", large) == WORKERS
    assert all(client.next() == large for client in clients)


def test_all_workers_see_the_messages_of_a_topic_with_history_in_one_order(fleet: Fleet) -> None:
    clients = one_for_each_worker(fleet, "kept:order?envelope=true")
    for number in range(40):
        for index, client in enumerate(clients):
            client.socket.send(f"{index} {number}")
    seen = []
    for client in clients:
        messages = [client.next() for _ in range(40 * (WORKERS - 1))]
        offsets = [int(message["position"].split(":")[1]) for message in messages]
        assert offsets == sorted(set(offsets))
        seen.append(
            {offset: message["data"] for offset, message in zip(offsets, messages, strict=True)}
        )
    together: dict[int, str] = {}
    for one in seen:
        for offset, data in one.items():
            assert together.setdefault(offset, data) == data
    assert len(together) == 40 * WORKERS


def test_who_comes_back_to_another_worker_misses_nothing(fleet: Fleet) -> None:
    client = fleet.subscribe("kept:b?envelope=true")
    fleet.publish("kept:b", "0")
    position = client.next()["position"]
    client.socket.close()
    for number in range(1, 6):
        fleet.publish("kept:b", str(number))
    for again in one_for_each_worker(fleet, f"kept:b?envelope=true&since={position}"):
        assert again.notices[0]["recovered"] is True
        assert [message["data"] for message in again.recovered] == ["1", "2", "3", "4", "5"]


def test_a_killed_worker_is_not_missed_and_its_successor_is_known(victims: Fleet) -> None:
    clients = one_for_each_worker(victims, "kept:a?envelope=true")
    victims.publish("kept:a", "before")
    position = [client.next()["position"] for client in clients].pop()
    victim, *others = clients
    os.kill(victim.pid, signal.SIGKILL)
    victims.wait_for_line("died")
    assert victims.publish("kept:a", "meanwhile") >= WORKERS - 1
    assert [client.next()["data"] for client in others] == ["meanwhile"] * (WORKERS - 1)
    victims.wait_for_count("is ready", WORKERS + 1)
    again = victims.subscribe(f"kept:a?envelope=true&since={position}")
    assert again.pid not in {client.pid for client in clients}
    assert again.notices[0]["recovered"] is True
    assert [message["data"] for message in again.recovered] == ["meanwhile"]
    assert victims.publish("kept:a", "after") == WORKERS
    assert [client.next()["data"] for client in [*others, again]] == ["after"] * WORKERS
    assert victims.count("kept:a")["everywhere"] == WORKERS


def test_a_gap_is_told_when_a_worker_is_killed_and_not_when_one_ends(victims: Fleet) -> None:
    clients = one_for_each_worker(victims, "a?envelope=true")
    ended, killed, *others = clients
    os.kill(ended.pid, signal.SIGTERM)
    victims.wait_for_count("is ready", WORKERS + 1)
    victims.wait_until(lambda: not os.path.exists(f"/proc/{ended.pid}"), "its end")
    assert victims.publish("a", "one has ended") == WORKERS - 1
    assert [client.next()["data"] for client in others] == ["one has ended"] * (WORKERS - 2)
    os.kill(killed.pid, signal.SIGKILL)
    assert [client.next().get("gap") for client in others] == [1] * (WORKERS - 2)
    victims.wait_for_line("died")
    assert victims.publish("a", "one was killed") == WORKERS - 2
    assert [client.next()["data"] for client in others] == ["one was killed"] * (WORKERS - 2)


def test_a_stopped_worker_does_not_hold_up_the_others(victims: Fleet) -> None:
    clients = one_for_each_worker(victims, "a")
    victim, *others = clients
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        # What is published comes to a worker that runs, once the supervisor sees who does not.
        victims.wait_until(lambda: victims.publish("a", "?") and True)
        while others[0].next() != "?":
            pass
        for number in range(100):
            others[0].socket.send(str(number))
        for client in others[1:]:
            expected = iter(range(100))
            wanted = next(expected)
            while wanted is not None:
                if client.next() == str(wanted):
                    wanted = next(expected, None)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    received = 0
    while received < 100:
        received += victim.next() == str(received)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_history_and_order_survive_a_restart_of_all_workers(
    victims: Fleet, number: signal.Signals
) -> None:
    clients = one_for_each_worker(victims, "kept:a?envelope=true")
    victims.publish("kept:a", "before")
    position = clients[0].next()["position"]
    victims.send(number)
    victims.wait_for_line("All workers are replaced")
    victims.publish("kept:a", "after")
    again = victims.subscribe(f"kept:a?envelope=true&since={position}")
    assert again.notices[0]["recovered"] is True
    assert [message["data"] for message in again.recovered] == ["after"]
    others = [victims.subscribe("kept:a?envelope=true") for _ in range(WORKERS - 1)]
    assert victims.publish("kept:a", "new") == WORKERS
    assert [client.next()["data"] for client in [again, *others]] == ["new"] * WORKERS


class Hub:
    """What a mesh has told its hub."""

    def __init__(self, **members: int) -> None:
        self.members = members
        self.got: list[bytes] = []
        self.missed: dict[str, int] = {}
        self.numbers_of_news: list[int] = []

    def deliver(self, publication: Publication) -> int:
        self.got.append(publication.payload)
        return 1

    def miss(self, topic: str, messages: int) -> None:
        self.missed[topic] = self.missed.get(topic, 0) + messages

    def miss_live(self, topic: str | None = None) -> None:
        self.miss(topic or "all", 1)

    def news(self, number: int) -> None:
        self.numbers_of_news.append(number)

    def numbers(self) -> dict[str, int]:
        return self.members


class Transport:
    """One to a worker that does not read before ``read`` is called."""

    def __init__(self, peer: Peer, other: Peer) -> None:
        self.peer, self.other = peer, other
        self.waiting = bytearray()

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes) -> None:
        was = len(self.waiting)
        self.waiting += data
        if was <= self.high < len(self.waiting):
            self.peer.pause_writing()

    def read(self) -> None:
        data, self.waiting = bytes(self.waiting), bytearray()
        if len(data) > self.high:
            self.peer.resume_writing()
        self.other.data_received(data)

    def abort(self) -> None:
        if self.peer._transport is not None:
            self.peer.connection_lost(None)

    def is_closing(self) -> bool:
        return self.peer._transport is None

    def write_eof(self) -> None:
        """What waits is still to be read."""


async def meeting(here: Hub, there: Hub) -> tuple[Mesh, Transport, Transport]:
    """Two workers that have met: the mesh of the first one, and the way to the other and back."""
    loop = asyncio.get_running_loop()
    meshes = [
        Mesh(loop, number, lambda known: None, hub) for number, hub in enumerate((here, there))
    ]
    peers = [Peer(meshes[0], 1), Peer(meshes[1], 0)]
    ways = [Transport(peers[0], peers[1]), Transport(peers[1], peers[0])]
    for mesh, peer, way in zip(meshes, peers, ways, strict=True):
        mesh._peers[peer.number] = peer
        peer.connection_made(way)
    await asyncio.sleep(0)
    for way in ways:
        way.read()
    return meshes[0], *ways


async def test_what_waits_for_a_worker_that_does_not_read_is_bounded_and_told() -> None:
    there = Hub(a=1, kept=1)
    mesh, way, _ = await meeting(Hub(), there)
    message = Publication("a", TEXT, b"x" * 1_000_000)
    reached = [mesh.send(message) for _ in range(40)]
    await asyncio.sleep(0)
    assert sum(reached) == 9
    size = len(way.waiting)
    assert MAX_WAITING < size < MAX_WAITING + 1_100_000
    for number in range(10_000):
        mesh.tell("b", number)
        mesh.tell("c", number)
        mesh.news("kept", number)
    mesh.tell("c", 0)
    await asyncio.sleep(0)
    assert len(way.waiting) == size
    way.read()
    await asyncio.sleep(0)
    way.read()
    assert len(there.got) == 9
    assert there.missed == {"a": 31}
    assert there.numbers_of_news == [0]
    assert way.other.members == {"b": 9_999}
    assert mesh.send(message) == 1


async def test_a_worker_that_hangs_is_not_waited_for_and_what_it_published_is_told_as_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgiws.fanout.mesh.HEARD_SECONDS", 0.01)
    hub = Hub()
    mesh, way, back = await meeting(hub, Hub())
    await asyncio.wait_for(mesh.heard_by_all("late"), 5)
    waiting = asyncio.ensure_future(mesh.heard_by_all("in time"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    way.read()
    await asyncio.sleep(0)
    assert hub.missed == {}
    back.read()
    await asyncio.wait_for(waiting, 5)
    assert hub.missed == {"late": 1}
    assert way.peer.questions == {}


async def test_a_worker_that_does_not_read_is_asked_when_it_does() -> None:
    hub = Hub(a=1)
    there = Hub(a=1)
    mesh, way, back = await meeting(hub, there)
    while not way.peer._paused:
        mesh.send(Publication("a", TEXT, b"x" * 1_000_000))
        await asyncio.sleep(0)
    mesh.tell("b", 1)
    await asyncio.wait_for(mesh.heard_by_all("b"), 5)
    for step in (way, way, back):
        assert hub.missed == {}
        step.read()
        await asyncio.sleep(0)
    assert way.other.members == {"a": 1, "b": 1}
    assert hub.missed == {"b": 1}


async def test_what_a_worker_heard_before_it_answers_comes_before_the_gap() -> None:
    hub = Hub(a=1)
    told: list[object] = []
    mesh, way, back = await meeting(hub, Hub())
    hub.got, hub.miss = told, lambda *missed: told.append(missed)  # type: ignore[assignment]
    asking = asyncio.ensure_future(mesh.heard_by_all("a"))
    await asyncio.sleep(0)
    asking.cancel()
    for question in way.peer.questions.values():
        question.answer.cancel()
    mesh_there = way.other._mesh
    mesh_there.send(Publication("a", TEXT, b"before"))
    await asyncio.sleep(0)
    way.read()
    mesh_there.send(Publication("a", TEXT, b"after"))
    await asyncio.sleep(0)
    back.read()
    assert told == [b"before", ("a", 1), b"after"]


async def test_a_worker_that_has_not_said_what_it_wants_gets_all() -> None:
    """It had subscribed before, and hangs."""
    loop = asyncio.get_running_loop()
    there = Hub(a=1)
    meshes = [
        Mesh(loop, number, lambda known: None, hub) for number, hub in ((0, Hub()), (1, there))
    ]
    here = Peer(meshes[0], 1)
    other = Peer(meshes[1], 0)
    way, back = Transport(here, other), Transport(other, here)
    meshes[0]._peers[1] = here
    here.connection_made(way)
    assert meshes[0].send(Publication("a", TEXT, b"early")) == 0
    await asyncio.sleep(0)
    other.connection_made(back)
    way.read()
    await asyncio.sleep(0)
    back.read()
    assert there.got == [b"early"]
    assert meshes[0].send(Publication("b", TEXT, b"nobody's")) == 0
    await asyncio.sleep(0)
    assert not way.waiting


async def test_a_worker_that_is_gone_without_a_word_may_have_said_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(a=1)
    _, way, back = await meeting(hub, Hub(a=1))
    way.peer.connection_lost(None)
    assert hub.missed == {"all": 1}
    # One that has ended has said all, and tells what did not fit.
    hub, there = Hub(a=1), Hub(a=1)
    mesh, way, back = await meeting(hub, there)
    message = Publication("a", TEXT, b"x" * 1_000_000)
    assert [mesh.send(message) for _ in range(10)] == [1] * 9 + [0]
    await asyncio.sleep(0)
    monkeypatch.setattr("asgiws.fanout.mesh.CLOSE_SECONDS", 0.01)
    closing = asyncio.ensure_future(mesh.close())
    await asyncio.sleep(0)
    way.read()
    way.other.connection_lost(None)
    await asyncio.wait_for(closing, 5)
    assert there.missed == {"a": 1}
    # One that has ended before it has heard of a topic may have published there.
    hub = Hub(a=1)
    mesh, way, back = await meeting(hub, Hub())
    asking = asyncio.ensure_future(mesh.heard_by_all("a"))
    await asyncio.wait_for(asking, 5)
    await asyncio.wait_for(way.other._mesh.close(), 5)
    back.read()
    way.peer.connection_lost(None)
    assert hub.missed == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x00",  # longer than any record
        b"\x06\x00\x00\x00\x00\x63\x00\x00\x00\x00\x00",  # another version
        b"\x00\x00\x00\x00\x63",  # a kind that does not exist
        b"\x01\x00\x00\x00\x02x",  # a message that is not whole
        b"\x05\x00\x00\x00\x01\x01\x00\x00\x00\xff",  # a name that is not UTF-8
    ],
)
async def test_a_worker_whose_records_cannot_be_read_is_let_go(data: bytes, log: Any) -> None:
    mesh, _, back = await meeting(Hub(), Hub(a=1))
    back.other.data_received(data)
    assert mesh.count("a") == 0
    assert mesh._peers == {}
    assert "cannot be read" in log[0].getMessage()


async def test_the_end_waits_until_the_others_have_what_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Hub(a=1)
    mesh, way, _ = await meeting(Hub(), there)
    assert mesh.send(Publication("a", TEXT, b"the last words")) == 1
    closing = asyncio.ensure_future(mesh.close())
    await asyncio.sleep(0)
    assert not closing.done()
    way.read()
    way.peer.connection_lost(None)
    await asyncio.wait_for(closing, 5)
    assert there.got == [b"the last words"]
    # One that hangs is not waited for.
    monkeypatch.setattr("asgiws.fanout.mesh.CLOSE_SECONDS", 0.01)
    mesh, _, _ = await meeting(Hub(), there)
    await asyncio.wait_for(mesh.close(), 5)


async def test_one_that_was_lost_is_asked_for_and_a_loss_is_told_when_it_is_met_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So ends a meeting for which one side had no descriptor."""
    monkeypatch.setattr("asgiws.fanout.mesh.AGAIN_SECONDS", 0.0)
    hub = Hub(a=1)
    mesh, way, _ = await meeting(hub, Hub())
    asked: asyncio.Queue[list[int]] = asyncio.Queue()
    mesh._ask = asked.put_nowait
    way.peer.connection_lost(None)
    assert await asyncio.wait_for(asked.get(), 5) == []
    near, far = socket.socketpair()
    with far:
        mesh.meet(1, near)
        mesh.joined(True)
        assert hub.missed == {"all": 1}
        await mesh.close()


async def test_a_supervisor_without_descriptors_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgiws.fanout.mesh.AGAIN_SECONDS", 0.0)
    mesh, _, _ = await meeting(Hub(), Hub())
    asked: asyncio.Queue[list[int]] = asyncio.Queue()
    mesh._ask = asked.put_nowait
    ready = asyncio.ensure_future(mesh.ready())
    assert await asyncio.wait_for(asked.get(), 5) == [1]
    mesh.joined(False)
    await asyncio.wait_for(ready, 5)
    assert await asyncio.wait_for(asked.get(), 5) == [1]
    assert mesh.healthy()


async def test_a_supervisor_that_does_not_answer_is_an_error_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgiws.fanout.mesh.READY_SECONDS", 0.01)
    asked: list[list[int]] = []
    mesh = Mesh(asyncio.get_running_loop(), 1, asked.append, Hub())
    assert mesh.healthy()
    for _ in range(2):
        with pytest.raises(BusUnavailable, match="supervisor"):
            await mesh.ready()
    assert asked == [[], []]
