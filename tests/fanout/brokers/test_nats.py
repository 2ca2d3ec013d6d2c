"""Topics over real NATS servers: hubs as in several workers, and what becomes of them when
the server is killed, frozen, emptied, or cuts them off.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client as Connection
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from asgiws.errors import BusUnavailable, ConfigError, TopicError
from asgiws.fanout import hub as module
from asgiws.fanout.brokers import client, keeping, nats
from asgiws.fanout.history import Retention, Wanted
from asgiws.fanout.hub import Hub

from ...toolkit.certificates import Certificates
from .hubs import connections, hubs, listen, on_both_loops, publish, take, texts, until
from .nats_server import NatsServer
from .test_programs import Machines


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"kept:": Retention(100, 60.0), "short:": Retention(5, 60.0), "brief:": Retention(9, 1)}
    monkeypatch.setattr(module, "_rules", rules)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


prefixes = iter(range(1_000_000))


@pytest.fixture
def url(lasting: NatsServer) -> str:
    """One server for all tests that leave it as it was, and a stream for each."""
    return f"{lasting.url}?prefix=test{next(prefixes)}"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[NatsServer]:
    """One for a test that does something to it."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


def _transport(here: Hub) -> Any:
    """That of a hub's connection."""
    broker: Any = here.bus
    return broker._client._link.connection._transport._io_writer.transport


@pytest.mark.parametrize("topic", ["a", "kept:a", "kept:\u00e9 {x}\n.*>", "t" * 255])
async def test_a_message_reaches_all_workers_in_order(url: str, topic: str) -> None:
    async with hubs(url, 3) as workers:
        everywhere = [await listen(worker, topic) for worker in workers]
        here_too = await listen(workers[0], topic)
        await publish(workers[0], topic, "first")
        for number in range(100):
            await publish(workers[1], topic, str(number))
        for messages in [*everywhere, here_too]:
            assert await take(messages, 101) == ["first", *texts(0, 100)]
            assert messages.dropped == 0


async def test_who_has_subscribed_misses_nothing_that_is_published_then(url: str) -> None:
    async with hubs(url) as (here, there):
        for prefix in ("", "kept:"):
            for number in range(50):
                messages = await listen(here, f"{prefix}{number}")
                await publish(there, f"{prefix}{number}", "x")
                assert (await anext(messages)).text == "x"


async def test_all_see_the_messages_of_several_publishers_in_one_order(url: str) -> None:
    async with hubs(url, 3) as workers:
        everywhere = [await listen(worker, "kept:order") for worker in workers]

        async def speak(worker: Hub) -> None:
            for number in range(50):
                await publish(worker, "kept:order", str(number))
                await publish(worker, "kept:other", str(number))

        await asyncio.gather(*map(speak, workers))
        seen = []
        for messages in everywhere:
            got = [await anext(messages) for _ in range(150)]
            seen.append([(each.position, each.text) for each in got])
        assert seen[0] == seen[1] == seen[2]
        offsets = [int(str(position).split(":")[1]) for position, _ in seen[0]]
        assert offsets == sorted(set(offsets))


@on_both_loops
async def test_every_kind_of_message_comes_as_it_was_published(url: str) -> None:
    async with hubs(url) as (here, there):
        for topic in ("a", "kept:a"):
            messages = await listen(here, topic)
            await there.publish(topic, None, b"\x00\xff" * 300_000, (), "a key", None)
            await there.publish(topic, None, None, ({"n": 1},), None, None)
            await there.publish(topic, "", None, (), None, None)
            first = await anext(messages)
            assert (first.data, first.key) == (b"\x00\xff" * 300_000, "a key")
            assert (await anext(messages)).data == {"n": 1}
            assert (await anext(messages)).data == ""
            with pytest.raises(TopicError, match=r"2097152 bytes \(max_payload\)"):
                await there.publish(topic, None, b"x" * 3_000_000, (), None, None)


async def test_the_members_of_all_workers_are_counted_and_who_leaves_is_not(url: str) -> None:
    async with hubs(url, 3) as workers:
        for number, worker in enumerate(workers):
            for _ in range(number):
                messages = await listen(worker, "a")
        assert [tuple(await worker.count("a")) for worker in workers] == [(0, 3), (1, 3), (2, 3)]
        messages._listener.leave()
        assert tuple(await workers[0].count("a")) == (0, 2)


async def test_who_comes_back_gets_what_it_missed_or_hears_that_it_is_gone(url: str) -> None:
    async with hubs(url) as (here, there):
        messages = await listen(here, "short:a", since="other:1")
        assert messages.recovered is False
        await publish(there, "short:a", "first")
        position = (await anext(messages)).position
        for number in range(6):
            await publish(there, "kept:noise", "x")
            again = await listen(here, "short:a", since=position)
            assert again.recovered is (number <= 5)
            assert await take(again, number) == texts(0, number)
            await publish(there, "short:a", str(number))
        # Six are missing now, and five are kept.
        again = await listen(here, "short:a", since=position)
        assert again.recovered is False
        again = await listen(here, "short:a", replay=3)
        assert await take(again, 3) == ["3", "4", "5"]
        assert (await listen(here, "short:a", since=position + "9")).recovered is False


async def test_a_topic_without_messages_has_a_position_to_come_back_to(url: str) -> None:
    async with hubs(url) as (here, there):
        await publish(there, "kept:noise", "x")
        messages = await listen(here, "kept:a", since="")
        for number in range(3):
            await publish(there, "kept:noise", "x")
            await publish(there, "kept:a", str(number))
        again = await listen(here, "kept:a", since=messages.position)
        assert again.recovered is True
        assert await take(again, 3) == texts(0, 3)
        assert await take(messages, 3) == texts(0, 3)


async def test_what_is_too_old_counts_as_gone(url: str) -> None:
    async with hubs(url) as (here, there):
        messages = await listen(here, "brief:a")
        await publish(there, "brief:a", "0")
        position = (await anext(messages)).position
        await publish(there, "brief:a", "1")

        async def is_gone() -> bool:
            return (await listen(here, "brief:a", since=position)).recovered is False

        async with asyncio.timeout(5):
            while not await is_gone():  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_the_stream_grows_with_the_topic_that_keeps_most(url: str) -> None:
    async with hubs(url) as (here, there):
        await publish(here, "short:a", "0")
        for number in range(20):
            await publish(there, "kept:a", str(number))
        assert await take(await listen(here, "kept:a", replay=50), 20) == texts(0, 20)


@pytest.mark.parametrize("topic", ["a", "kept:a"])
async def test_a_socket_is_excluded_from_its_own(url: str, topic: str) -> None:
    async with hubs(url) as (here, there):
        mean = object()
        messages = await listen(here, topic)
        messages._listener._means = (mean,)
        other = await listen(there, topic)
        await publish(here, topic, "own", exclude=mean)
        await publish(here, topic, "for all")
        assert await take(other, 2) == ["own", "for all"]
        assert await take(messages, 1) == ["for all"]


@on_both_loops
async def test_a_server_that_is_killed_and_starts_again_is_found_and_a_loss_is_told(
    victim: NatsServer, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 1.0)
    async with hubs(victim.url) as (here, there):
        plain, kept = await listen(here, "a"), await listen(here, "kept:a")
        await publish(there, "kept:a", "before")
        position = (await anext(kept)).position
        victim.kill()
        await until(lambda: not here.bus.healthy() and not there.bus.healthy())
        started = asyncio.get_running_loop().time()
        for topic in ("a", "kept:a"):
            with pytest.raises(BusUnavailable, match=rf"nats://127.0.0.1:{victim.port}"):
                await publish(there, topic, "x")
        assert asyncio.get_running_loop().time() - started < 6
        victim.start()
        await until(lambda: here.bus.healthy() and there.bus.healthy())
        for topic, messages in (("a", plain), ("kept:a", kept)):
            await publish(there, topic, "after")
            message = await anext(messages)
            # It may have lost what it had confirmed: nobody says it has not.
            assert (message.text, message.gap) == ("after", 1)
        assert message.position.split(":")[0] != str(position).split(":")[0]
        assert (await listen(here, "kept:a", since=position)).recovered is False
    told = [record.getMessage() for record in log]
    assert any("is away" in line for line in told)


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_durable_server_goes_on_where_it_was_unless_its_store_is_gone(
    victim: NatsServer, forgets: bool
) -> None:
    async with hubs(f"{victim.url}?durable=true") as (here, there):
        messages = await listen(here, "kept:a")
        await publish(there, "kept:a", "0")
        position = (await anext(messages)).position
        await publish(there, "kept:a", "1")
        assert await take(messages, 1) == ["1"]
        victim.kill()
        await until(lambda: not here.bus.healthy() and not there.bus.healthy())
        if forgets:
            victim.forget()
        victim.start()
        await until(lambda: here.bus.healthy() and there.bus.healthy())
        await publish(there, "kept:a", "2")
        message = await anext(messages)
        assert (message.text, message.gap) == ("2", 1 if forgets else 0)
        again = await listen(here, "kept:a", since=position)
        assert again.recovered is not forgets
        if not forgets:
            assert await take(again, 2) == ["1", "2"]


@on_both_loops
async def test_what_one_worker_missed_while_it_was_cut_off_is_delivered_in_order(
    victim: NatsServer,
) -> None:
    async with hubs(f"{victim.url}?durable=true") as (here, there):
        messages = await listen(here, "kept:a")
        await publish(there, "kept:a", "0")
        _transport(here).abort()
        for number in range(1, 20):
            await publish(there, "kept:a", str(number))
        await until(here.bus.healthy)
        await publish(there, "kept:a", "20")
        assert await take(messages, 21) == texts(0, 21)
        assert messages.dropped == 0


@on_both_loops
async def test_a_frozen_server_is_given_up_and_taken_again(
    victim: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "PING_SECONDS", 0.3)
    monkeypatch.setattr(nats, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 1.0)
    async with hubs(f"{victim.url}?durable=true") as (here, there):
        messages = await listen(here, "a")
        victim.send(signal.SIGSTOP)
        try:
            with pytest.raises(BusUnavailable, match="not available"):  # noqa: PT012
                while True:  # a signal takes its time
                    await publish(there, "a", "x")
            await until(lambda: not here.bus.healthy())
        finally:
            victim.send(signal.SIGCONT)
        await until(lambda: here.bus.healthy() and there.bus.healthy())
        await publish(there, "a", "after")
        found = [await anext(messages)]
        while found[-1].text != "after":
            found.append(await anext(messages))
        assert sum(message.gap for message in found) == 1


@on_both_loops
async def test_what_a_frozen_server_does_not_take_is_not_kept(
    victim: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "PING_SECONDS", 0.1)
    monkeypatch.setattr(nats, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 1.0)
    async with hubs(victim.url, 1) as (here,):
        victim.send(signal.SIGSTOP)
        large = "x" * 1_900_000
        tasks = [asyncio.ensure_future(publish(here, "a", large)) for _ in range(10)]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, BusUnavailable)
        await until(lambda: not here.bus.healthy())
        await until(lambda: not connections(victim.port))
        victim.send(signal.SIGCONT)
        await until(here.bus.healthy)


@on_both_loops
async def test_a_subscriber_that_the_server_cuts_off_comes_back_and_is_told(
    tmp_path: Path,
) -> None:
    config = "max_pending: 2MB\nwrite_deadline: 500ms"
    with NatsServer(tmp_path / "n", config=config) as server:
        async with hubs(server.url) as (here, there):
            messages = await listen(here, "a", policy="drop_newest")
            transport = _transport(here)
            transport.pause_reading()
            for _ in range(60):
                await there.publish("a", None, bytes(200_000), (), None, None)
            await until(lambda: "Slow Consumer" in (tmp_path / "n" / "log").read_text())
            transport.resume_reading()
            await until(lambda: not here.bus.healthy())
            await until(here.bus.healthy)
            await publish(there, "a", "after")
            found = [await anext(messages)]
            while found[-1].bytes != b"after":
                found.append(await anext(messages))
            assert messages.dropped >= 1


async def test_without_jetstream_topics_work_and_history_says_why_not(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "n", jetstream=False) as server:
        async with hubs(server.url) as (here, there):
            messages = await listen(here, "a")
            await publish(there, "a", "x")
            assert await take(messages, 1) == ["x"]
            with pytest.raises(BusUnavailable, match="JetStream is not enabled"):
                await publish(there, "kept:a", "x")


async def test_a_jetstream_that_does_not_answer_does_not_hold_up_what_is_not_kept(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a cluster in which they elect."""

    async def api(*_: Any, **__: Any) -> Any:
        raise NatsTimeoutError

    monkeypatch.setattr(nats.Link, "api", api)
    async with hubs(url) as (here, there):
        messages = await listen(here, "a")
        await publish(there, "a", "x")
        assert await take(messages, 1) == ["x"]
        with pytest.raises(BusUnavailable, match="timeout"):
            await publish(there, "kept:a", "x")


@on_both_loops
async def test_tls_and_a_password_that_is_told_to_nobody(tmp_path: Path, log: Any) -> None:
    certificates = Certificates(tmp_path)
    certificates.authority_to(tmp_path / "ca")
    config = (
        f'tls: {{cert_file: "{certificates.chain}", key_file: "{certificates.key}"}}\n'
        'authorization: {user: me, password: "wrong-horse"}'
    )
    with NatsServer(tmp_path / "n", config=config) as server:
        url = f"tls://me:{{}}@localhost:{server.port}?ca={tmp_path}/ca"
        async with hubs(url.format("wrong-horse")) as (here, there):
            messages = await listen(here, "kept:a")
            await publish(there, "kept:a", "x")
            assert await take(messages, 1) == ["x"]
        refused = Hub(Wanted(url=url.format("battery")), asyncio.get_running_loop())
        await until(lambda: log and "is away" in log[-1].getMessage())
        assert not refused.bus.healthy()
        await refused.close()
        other = Hub(Wanted(url=url.format("wrong-horse").partition("?")[0]), refused.loop)
        await until(lambda: "certificate" in log[-1].getMessage())
        await other.close()
        told = " ".join(record.getMessage() for record in log)
        assert "is away" in told  # the server may reset the connection before its reason arrives
        assert "battery" not in told
        assert "horse" not in told


async def test_a_subject_that_is_not_permitted_is_an_error(tmp_path: Path) -> None:
    config = (
        "authorization: {users: [{user: me, password: secret, permissions: {"
        'publish: {deny: "asgiws.t.>"}}}]}'
    )
    with NatsServer(tmp_path / "n", config=config) as server:
        async with hubs(server.url.replace("//", "//me:secret@")) as (here, there):
            messages = await listen(here, "a")
            with pytest.raises(BusUnavailable, match=r"(?i)permissions violation"):
                await publish(there, "a", "x")
            await publish(there, "kept:a", "x")
            assert messages.dropped == 0


async def test_a_subscription_that_is_not_permitted_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WAIT_SECONDS", 1.0)
    config = (
        "authorization: {users: [{user: me, password: secret, permissions: {"
        'subscribe: {deny: "asgiws.t.>"}}}]}'
    )
    with NatsServer(tmp_path / "n", config=config) as server:
        async with hubs(server.url.replace("//", "//me:secret@"), 1) as (here,):
            with pytest.raises(BusUnavailable, match=r"(?i)permissions violation for subscription"):
                await listen(here, "a")


async def test_workers_that_make_the_stream_at_once_agree(lasting: NatsServer) -> None:
    for _ in range(5):
        async with hubs(f"{lasting.url}?prefix=test{next(prefixes)}", 3) as workers:
            topics = ("kept:a", "short:a", "brief:a")
            calls = [publish(worker, topic, topic) for worker in workers for topic in topics]
            await asyncio.gather(*calls)
            for topic in topics:
                assert await take(await listen(workers[0], topic, replay=9), 3) == [topic] * 3


async def test_a_stream_that_the_server_does_not_listen_for_yet_is_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    request = Connection.request

    async def late(self: Connection, subject: str, *args: Any, **options: Any) -> Any:
        if ".h." in subject and len(refused) < 4:
            refused.append(subject)
            raise NoRespondersError
        return await request(self, subject, *args, **options)

    monkeypatch.setattr(Connection, "request", late)
    async with hubs(url, 1) as (here,):
        await publish(here, "kept:a", "x")
        assert await take(await listen(here, "kept:a", replay=9), 1) == ["x"]
    assert len(refused) == 4


async def test_a_topic_that_keeps_little_for_long_takes_nothing_from_others(url: str) -> None:
    module._rules["long:"] = Retention(1, 2 * 86_400)
    async with hubs(url) as (here, there):
        for number in range(20):
            await publish(here, "kept:a", str(number))
        for number in range(3):
            await publish(there, "long:a", str(number))
        assert await take(await listen(here, "kept:a", replay=20), 20) == texts(0, 20)


async def test_what_the_stream_had_no_room_for_counts_as_gone(url: str) -> None:
    async with hubs(f"{url}&max_bytes=100000") as (here, there):
        messages = await listen(here, "kept:a")
        for number in range(6):
            await publish(there, "kept:a", f"{number}{' ' * 30_000}")
        positions = [(await anext(messages)).position for _ in range(6)]
        recovered = [(await listen(here, "kept:a", since=each)).recovered for each in positions]
        assert recovered == sorted(recovered)
        assert (recovered[0], recovered[-1]) == (False, True)


async def test_a_stream_of_somebody_else_is_left_alone(lasting: NatsServer) -> None:
    prefix = f"test{next(prefixes)}"
    connection = Connection()
    await connection.connect(lasting.url)
    body = json.dumps({"name": prefix, "subjects": [f"{prefix}.other"], "storage": "memory"})
    await connection.request(f"$JS.API.STREAM.CREATE.{prefix}", body.encode())
    async with hubs(f"{lasting.url}?prefix={prefix}", 1) as (here,):
        with pytest.raises(BusUnavailable, match=f"the stream {prefix} is not one of asgiws"):
            await publish(here, "kept:a", "x")
    await connection.close()


async def test_what_is_too_old_is_kept_as_a_proof_and_not_given_out(url: str) -> None:
    async with hubs(url, 1) as (here,):
        await publish(here, "brief:a", "x")
        broker: Any = here.bus
        link: Any = broker._client._link
        config = (await link.api(f"INFO.{broker._client._prefix}"))["config"]
        assert config["max_age"] == 86_400 * 10**9

        async def is_gone() -> bool:
            return not (await listen(here, "brief:a", replay=9))._listener._backlog

        while not await is_gone():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_message_keeps_the_position_that_its_publisher_was_told(
    victim: NatsServer,
) -> None:
    async with hubs(victim.url) as (here, there):
        messages = await listen(here, "kept:a")
        await publish(there, "kept:b", "x")
        broker: Any = there.bus
        stream = broker._client._link.stream
        broker._client._link.stream = stream._replace(epoch="0bad")  # it is behind the others
        await publish(there, "kept:a", "1")
        first = await anext(messages)
        assert first.position == "0bad:2"
        victim.kill()
        await until(lambda: not here.bus.healthy() and not there.bus.healthy())
        victim.start()
        await until(here.bus.healthy)
        await publish(here, "kept:a", "2")
        again = await listen(here, "kept:a", replay=2)
        positions = [(await anext(again)).position for _ in range(2)]
        assert positions[0] == first.position
        assert not str(positions[1]).startswith("0bad")


async def test_after_a_success_it_is_tried_again_soon(
    victim: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    class Recorded(nats.Backoff):
        def next(self) -> float:
            delays.append(self._next)
            return super().next() / 10

    monkeypatch.setattr(nats, "Backoff", Recorded)
    async with hubs(victim.url, 1) as (here,):
        victim.kill()
        await until(lambda: len(delays) > 3)
        victim.start()
        await until(here.bus.healthy)
        before = len(delays)
        victim.kill()
        await until(lambda: len(delays) > before)
        assert delays[before] == delays[0] < delays[before - 1]


async def test_nothing_comes_any_more_once_the_last_member_has_left(url: str) -> None:
    async with hubs(url, 1) as (here,):
        broker: Any = here.bus
        connection = broker._client._link.connection
        before = len(connection._subs)
        for number in range(20):
            (await listen(here, f"{number}"))._listener.leave()
        await until(lambda: len(connection._subs) == before)


async def test_a_stream_that_was_deleted_is_made_anew(url: str) -> None:
    async with hubs(url) as (here, there):
        await publish(there, "kept:a", "1")
        await _tell_jetstream(there, "DELETE")
        await publish(there, "kept:a", "2")
        assert await take(await listen(here, "kept:a", replay=9), 1) == ["2"]


async def test_a_topic_of_which_nothing_is_kept_any_more_goes_on(url: str) -> None:
    async with hubs(url) as (here, there):
        messages = await listen(here, "kept:a")
        await publish(there, "kept:a", "1")
        for _ in range(3):
            await publish(there, "kept:b", "x")
        await _tell_jetstream(there, "PURGE")
        await publish(there, "kept:a", "2")
        assert await take(messages, 2) == ["1", "2"]
        assert messages.dropped == 0


async def _tell_jetstream(here: Hub, what: str) -> None:
    broker: Any = here.bus
    await broker._client._link.api(f"{what}.{broker._client._prefix}")


async def test_what_was_lost_in_this_process_is_told(url: str) -> None:
    """nats-py drops what waits for a subscription beyond its bound."""
    async with hubs(url) as (here, there):
        messages = await listen(here, "a")
        broker: Any = here.bus
        broker._client._names["ta"].subscription._pending_bytes_limit = 1_000
        await asyncio.gather(*(publish(there, "a", "x" * 900) for _ in range(50)))
        await until(lambda: messages.dropped)


async def test_what_comes_before_a_subscription_is_confirmed_comes_behind_the_gap(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hubs(url) as (here, there):
        messages = await listen(here, "a")
        client_here: Any = here.bus._client  # type: ignore[union-attr]
        before, others = client_here._link, there.bus._client._link  # type: ignore[union-attr]
        confirm = nats.Link.confirm
        allowed = asyncio.Event()

        async def confirm_later(link: nats.Link) -> None:
            if link is not others:
                await allowed.wait()
            await confirm(link)

        monkeypatch.setattr(nats.Link, "confirm", confirm_later)
        _transport(here).abort()
        known = client_here._names["ta"]
        await until(lambda: client_here._link not in (None, before) and known.subscription)
        await publish(there, "a", "early")
        await until(lambda: known.early)
        allowed.set()
        message = await anext(messages)
        assert (message.text, message.gap) == ("early", 1)


async def test_what_comes_while_the_stream_is_asked_about_keeps_its_order(url: str) -> None:
    async with hubs(url) as (here, there):
        here.retention = lambda _: Retention(0, 0.0)  # type: ignore[method-assign]
        messages = await listen(here, "kept:a")
        await asyncio.gather(*(publish(there, "kept:a", str(n)) for n in range(50)))
        assert sorted(map(int, await take(messages, 50))) == list(range(50))


def test_what_an_earlier_connection_still_gives_does_not_count() -> None:
    async def run() -> None:
        asked = nats.Nats("nats://127.0.0.1")
        known = asked._names["ta"] = nats._Name("asgiws.t.x")
        asked._link = nats.Link()
        asked._take(nats.Link(), "ta", known, object())
        assert known.early == []

    asyncio.run(run())


def test_two_programs_with_several_workers_are_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server: Any = stack.enter_context(NatsServer(tmp_path / "nats"))
        machines = Machines(server, stack)
        for topic in ("a", "kept:a"):
            speaker, *others = machines.clients(topic)
            for number in range(50):
                speaker.socket.send(str(number))
            for client in others:
                assert [client.next() for _ in range(50)] == texts(0, 50)
            speaker.socket.send("own last")
            assert speaker.next() == "own last"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nats://127.0.0.1?frobnicate=1", "frobnicate is not one of"),
        ("nats://127.0.0.1?prefix=a.b", "prefix must be"),
        ("nats://127.0.0.1?durable=maybe", "durable must be true or false"),
        ("nats://127.0.0.1?max_bytes=0", "max_bytes must be"),
        ("nats://127.0.0.1/1", "a path"),
        ("nats://127.0.0.1:port", "ort"),
        ("tls://127.0.0.1?ca=/nowhere", "ca: "),
    ],
)
def test_a_url_that_cannot_be_is_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--topics-url: .*{message}") as caught:
        client(url.replace("//", "//user:secret@"))
    assert "secret" not in str(caught.value)
