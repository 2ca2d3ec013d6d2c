"""One connection to Redis: answers in their order, pushes among them, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from asgiws.fanout.brokers import link as module
from asgiws.fanout.brokers.link import Link, LinkLost, NotSent

from .hubs import on_both_loops
from .redis_server import RedisServer

pytestmark = on_both_loops


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Opened:
    """A link, and what it has told."""

    def __init__(self, port: int) -> None:
        self.told: list[Any] = []
        connection = Connection(host="127.0.0.1", port=port, protocol=3)
        self.link = Link(connection, self._push, self._lost)

    def _push(self, _link: Link, values: list[Any]) -> None:
        self.told.append(values)

    def _lost(self, _link: Link, reason: str) -> None:
        self.told.append(reason)


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[Opened]:
    one = Opened(port)
    await one.link.open()
    try:
        yield one
    finally:
        one.link.lose("the test is over")
        await asyncio.sleep(0)  # the transport closes


async def test_each_answer_comes_to_who_has_asked(server: RedisServer) -> None:
    async with opened(server.port) as one:
        asked = [one.link.call("ECHO", str(number)) for number in range(1_000)]
        wrong = one.link.call("NONSENSE")
        last = one.link.call("ECHO", b"\r\n$5\r\n")
        answers = await asyncio.gather(*asked)
        assert answers == [str(number).encode() for number in range(1_000)]
        with pytest.raises(ResponseError, match="unknown command"):
            await wrong
        assert await last == b"\r\n$5\r\n"
        one.link.lose("enough")
        assert one.told == ["enough"]


async def test_an_answer_tells_what_was_pushed_before_it(server: RedisServer) -> None:
    async with opened(server.port) as one, opened(server.port) as other:
        confirmed: list[bool] = []
        await one.link.confirm("SUBSCRIBE", [b"a", b"b"], confirmed.append)
        assert confirmed == [True]
        for number in range(3_000):  # also beyond any recursion
            other.link.call("PUBLISH", "a", str(number))
        await other.link.call("PING")
        await one.link.call("PING")
        messages = [values[2] for values in one.told if values[0] == b"message"]
        assert messages == [str(number).encode() for number in range(3_000)]
        # The answer to what one says oneself is behind its push, or before it; not among others.
        assert await one.link.call("PUBLISH", "b", "x") == 1
        await one.link.confirm("UNSUBSCRIBE", [b"a", b"b"])
        assert await other.link.call("PUBLISH", "a", "y") == 0


async def test_what_is_refused_is_not_taken_for_something_else(server: RedisServer) -> None:
    server.cli("ACL", "SETUSER", "default", "resetchannels", "&a")
    try:
        async with opened(server.port) as one:
            confirmed: list[bool] = []
            before = one.link.call("ECHO", "1")
            refused = one.link.confirm("SUBSCRIBE", [b"a", b"b"], confirmed.append)
            behind = one.link.call("ECHO", "2")
            assert (await before, await behind) == (b"1", b"2")
            with pytest.raises(ResponseError, match="permissions"):
                await refused
            assert confirmed == [False]
    finally:
        server.cli("ACL", "SETUSER", "default", "allchannels")


async def test_one_that_is_cancelled_before_it_was_written_is_not_sent(
    server: RedisServer,
) -> None:
    async with opened(server.port) as one:
        one.link.call("SET", "cancelled", "1").cancel()
        sent = one.link.call("SET", "sent", "1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sent.cancel()  # too late
        assert await one.link.call("EXISTS", "cancelled") == 0
        assert await one.link.call("EXISTS", "sent") == 1


async def test_its_end_is_told_once_and_to_all_who_wait(server: RedisServer) -> None:
    async with opened(server.port) as one, opened(server.port) as other:
        number = await one.link.call("CLIENT", "ID")
        waiting = one.link.call("BLPOP", "nothing", "0")
        subscribing = one.link.confirm("SUBSCRIBE", [b"a"])
        await other.link.call("CLIENT", "KILL", "ID", number)
        for future in (waiting, subscribing):
            with pytest.raises(LinkLost):
                await future
        with pytest.raises(NotSent):
            await one.link.call("PING")
        assert len(one.told) == 1
        assert one.link.lost


async def test_one_that_answers_no_more_is_given_up_and_one_that_is_silent_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.3)
    pings, ended = asyncio.Event(), asyncio.Event()
    answers = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        while data := await reader.read(1_000):
            said += data
            if answers:
                writer.write(b"%0\r\n" * data.count(b"HELLO") + b"+OK\r\n" * data.count(b"SETINFO"))
                writer.write(b"+PONG\r\n" * data.count(b"PING"))
            if said.count(b"PING") > 30:
                pings.set()
        writer.close()
        await writer.wait_closed()
        ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, opened(port) as one:
        await pings.wait()
        assert one.link.lost is None
        answers = False
        waiting = one.link.call("GET", "a")
        with pytest.raises(LinkLost, match=r"has not answered for 0\.3 s"):
            await waiting
        await ended.wait()


async def test_one_from_which_something_comes_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while a large answer comes, or much is published."""
    ended = asyncio.Event()
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.3)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        while said.count(b"SETINFO") < 2:
            data = await reader.read(1_000)
            writer.write(b"%0\r\n" * data.count(b"HELLO") + b"+OK\r\n" * data.count(b"SETINFO"))
            said += data
        for number in range(20):
            writer.write(b">3\r\n+message\r\n+a\r\n:%d\r\n" % number)
            await asyncio.sleep(0.05)
        writer.write(b"+at last\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, opened(port) as one:
        assert await one.link.call("GET", "a") == b"at last"
        assert len(one.told) == 20
        one.link.lose("enough")
        await ended.wait()


async def test_a_failure_of_the_owner_does_not_end_the_reader_silently(
    server: RedisServer, log: Any
) -> None:
    def fail(_link: Link, values: list[Any]) -> None:
        raise RuntimeError("the owner's")

    async with opened(server.port) as one:
        one.link._on_push = fail
        one.link.confirm("SUBSCRIBE", [b"a"])
        with pytest.raises(LinkLost):
            await one.link.call("PING")
        assert one.told == ["the owner's"]
        assert "Exception in topics" in log[0].getMessage()
