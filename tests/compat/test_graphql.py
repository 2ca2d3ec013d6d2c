"""GraphQL subscriptions: Strawberry serves, gql asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import httpx
import pytest

from ..toolkit.served import Served

pytestmark = pytest.mark.slow

APPLICATION = "graphql"
TIMEOUT = 20.0


def open_subscriptions(server: Served) -> list[str]:
    """Those that the server runs, asked over HTTP."""
    answer = httpx.post(f"{server.url}/", json={"query": "{ openSubscriptions }"})
    assert answer.status_code == 200
    names: list[str] = answer.json()["data"]["openSubscriptions"]
    return names


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


def run(use: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


@pytest.mark.parametrize("subprotocol", ["graphql-transport-ws", "graphql-ws"])
def test_a_subscription_delivers_everything_and_ends(server: Served, subprotocol: str) -> None:
    from gql import Client, gql
    from gql.transport.websockets import WebsocketsTransport

    async def use() -> None:
        transport = WebsocketsTransport(server.ws_url, subprotocols=[subprotocol])
        async with Client(transport=transport) as session:
            document = gql('subscription { count(name: "all", to: 300) }')
            seen = [result["count"] async for result in session.subscribe(document)]
            assert seen == list(range(1, 301))

    run(use)
    assert open_subscriptions(server) == []


def test_several_subscriptions_share_a_connection_and_one_ends_by_itself(server: Served) -> None:
    from gql import Client, gql
    from gql.transport.websockets import WebsocketsTransport

    async def use() -> None:
        transport = WebsocketsTransport(server.ws_url, subprotocols=["graphql-transport-ws"])
        async with Client(transport=transport) as session:

            def subscribe(name: str) -> AsyncIterator[dict[str, str]]:
                return session.subscribe(gql(f'subscription {{ forever(name: "{name}") }}'))

            async with aclosing(subscribe("first")) as first:
                assert await anext(first) == {"forever": "first"}
                async with aclosing(subscribe("second")) as second:
                    assert await anext(second) == {"forever": "second"}
                    assert sorted(open_subscriptions(server)) == ["first", "second"]
                await until(lambda: open_subscriptions(server) == ["first"])
            await until(lambda: open_subscriptions(server) == [])

    run(use)


def test_a_client_that_vanishes_ends_its_subscriptions(server: Served) -> None:
    from websockets.asyncio.client import connect

    async def use() -> None:
        async with connect(server.ws_url, subprotocols=["graphql-transport-ws"]) as socket:
            await socket.send('{"type": "connection_init"}')
            assert "connection_ack" in await socket.recv()
            query = 'subscription { forever(name: \\"gone\\") }'
            await socket.send(
                f'{{"type": "subscribe", "id": "1", "payload": {{"query": "{query}"}}}}'
            )
            assert "gone" in await socket.recv()
            socket.transport.abort()
        await until(lambda: open_subscriptions(server) == [])

    run(use)
