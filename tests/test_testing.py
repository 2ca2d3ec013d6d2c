"""asgiws.testing: a server for the tests of applications."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as connect_here
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .toolkit.apps import hello


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await hello(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event["text"] == "boom":
                raise ValueError("boom")
            await send({"type": "websocket.send", "text": event["text"]})
    else:
        raise LookupError(scope["type"])


def kit(package: ModuleType) -> Any:
    return import_module(f"{package.__name__}.testing")


def test_a_server_in_a_thread_gives_its_urls_and_ends_with_the_block(
    package: ModuleType, loop: str
) -> None:
    with kit(package).serve(echo, loop=loop) as served:
        assert httpx.get(served.url).text == "hello"
        assert served.url == f"http://127.0.0.1:{served.port}"
        with connect(f"{served.ws_url}/") as websocket:
            websocket.send("hello")
            assert websocket.recv(5) == "hello"
        assert served.call(lambda: served.server.started) is True
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url)
    served.stop()  # once more does nothing


async def test_a_server_in_the_loop_of_the_test(package: ModuleType) -> None:
    async with kit(package).serve_here(echo) as served:
        async with httpx.AsyncClient() as client:
            assert (await client.get(served.url)).text == "hello"
        async with connect_here(f"{served.ws_url}/") as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
    assert served.server.started


def test_what_the_server_logs_is_kept(package: ModuleType) -> None:
    with (
        kit(package).serve(echo) as served,
        kit(package).serve(echo) as other,
        connect(f"{served.ws_url}/") as websocket,
    ):
        websocket.send("boom")
        with pytest.raises(ConnectionClosed, match="1011"):
            websocket.recv(5)
    assert served.logged == ["ERROR: Exception in ASGI application"]
    assert served.log[0].exc_info is not None
    assert other.logged == []


def test_a_server_that_cannot_start_raises_where_it_is_asked_for(package: ModuleType) -> None:
    with pytest.raises(package.errors.BindError):
        kit(package).Background(echo, bind="unix:/no/such/place")
    with pytest.raises(package.errors.ConfigError):
        kit(package).Background(echo, prot=80)
    with pytest.raises(package.errors.LifespanError):
        kit(package).Background(echo, lifespan="on")


async def test_a_server_is_a_context_manager(package: ModuleType) -> None:
    config = package.Config(echo, port=0)
    async with package.Server(config) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.urls[0])).text == "hello"
    with pytest.raises(package.errors.BindError):
        async with package.Server(package.Config(echo, bind="unix:/no/such/place")):
            raise AssertionError("it cannot start")
