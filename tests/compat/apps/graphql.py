"""Strawberry GraphQL: queries over HTTP and subscriptions over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import strawberry
from strawberry.asgi import GraphQL

open_subscriptions: list[str] = []


@strawberry.type
class Query:
    @strawberry.field
    def open_subscriptions(self) -> list[str]:
        return open_subscriptions


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, name: str, to: int) -> AsyncIterator[int]:
        open_subscriptions.append(name)
        try:
            for number in range(1, to + 1):
                yield number
                await asyncio.sleep(0)
        finally:
            open_subscriptions.remove(name)

    @strawberry.subscription
    async def forever(self, name: str) -> AsyncIterator[str]:
        open_subscriptions.append(name)
        try:
            yield name
            await asyncio.Event().wait()
        finally:
            open_subscriptions.remove(name)


app = GraphQL(strawberry.Schema(query=Query, subscription=Subscription))
