"""asgiws.testing: a server for the tests of applications."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as connect_here
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from .toolkit.apps import hello
from .toolkit.raw_http import Client, request


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


class Names:
    """An application that does as its path says, or its lifespan as ``start`` says."""

    def __init__(self, start: str = "") -> None:
        self.start = start
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.left: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = self.start if scope["type"] == "lifespan" else scope["path"][1:]
        self.began.set()
        if name:
            await getattr(self, name)()
        if scope["type"] == "lifespan":
            raise LookupError
        await hello(scope, receive, send)

    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def block(self) -> None:
        self.go_on.wait()

    async def stubborn(self) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    async def leave_behind(self) -> None:
        self.left = asyncio.create_task(self.stubborn())
        asyncio.get_running_loop().run_in_executor(None, self.go_on.wait)

    async def exit(self) -> None:
        self.left = asyncio.create_task(self._raise(SystemExit(3)))

    async def interrupt(self) -> None:
        self.left = asyncio.create_task(self._raise(KeyboardInterrupt()))

    async def _raise(self, error: BaseException) -> None:
        raise error


@pytest.mark.parametrize("how", ["hang", "block"])
def test_a_server_that_does_not_start_in_time_is_given_up(
    package: ModuleType, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit(package), "SECONDS", 0.2)
    monkeypatch.setattr(kit(package), "GRACEFUL_SECONDS", 5.0 if how == "hang" else 0.1)
    app = Names(how)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match=r"does not start within 0\.2 s") as late:
        kit(package).Background(app)
    left = set(threading.enumerate()) - before
    if how == "hang":
        assert not left
    else:
        assert "self.go_on.wait()" in str(late.value)
        app.go_on.set()
        for thread in left:
            thread.join(10)
            assert not thread.is_alive()


def test_ctrl_c_during_a_start_leaves_no_server(package: ModuleType) -> None:
    app = Names("hang")
    before = set(threading.enumerate())

    def interrupt() -> None:
        app.began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        kit(package).Background(app)
    interrupting.join()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_a_task_that_wants_to_exit_ends_neither_the_server_nor_the_tests(
    package: ModuleType, loop: str, how: str
) -> None:
    app = Names()
    with kit(package).serve(app, loop=loop) as served:
        for _ in range(2):
            assert httpx.get(f"{served.url}/{how}").text == "hello"
    name = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt"}[how]
    assert served.logged[:2] == [f"ERROR: {name} in a task that the application started"] * 2


def test_what_an_application_leaves_behind_does_not_hold_up_the_end(
    package: ModuleType, loop: str
) -> None:
    app = Names()
    try:
        with kit(package).serve(app, loop=loop) as served:
            assert httpx.get(f"{served.url}/leave_behind").text == "hello"
        assert app.left is not None
        assert not app.left.done()
    finally:
        app.go_on.set()


def test_a_server_that_does_not_end_says_where_it_is(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Names()
    served = kit(package).Background(app)
    monkeypatch.setattr(kit(package), "SECONDS", 0.2)
    with Client(served) as client:
        app.began.clear()
        client.send(request("Host: localhost", target="/block"))
        app.began.wait()
        with pytest.raises(RuntimeError, match=r"does not stop within 0\.2 s(.|\n)*go_on\.wait"):
            served.stop()
        app.go_on.set()
        monkeypatch.undo()
        served.stop()


def test_a_call_of_a_server_that_is_over_is_an_error_and_leaves_no_coroutine(
    package: ModuleType,
) -> None:
    with kit(package).serve(echo) as served, pytest.raises(ZeroDivisionError):
        served.call(lambda: 1 / 0)
    with warnings.catch_warnings(record=True) as warned:
        with pytest.raises(RuntimeError, match="closed"):
            served.call(lambda: None)
        gc.collect()
    assert not warned


def test_the_address_of_a_unix_socket_is_the_same_for_websockets(
    package: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "http").mkdir()
    path = tmp_path / "http" / "socket"
    with kit(package).serve(echo, uds=str(path)) as served:
        assert served.url == served.ws_url == f"unix:{path}"
        assert served.port == 0
        with unix_connect(str(path), "ws://localhost/") as websocket:
            websocket.send("hello")
            assert websocket.recv(5) == "hello"


async def test_a_server_that_is_shut_down_before_it_has_started_does_not_begin_the_block(
    package: ModuleType,
) -> None:
    server = package.Server(package.Config(Names("hang"), port=0))
    asyncio.get_running_loop().call_soon(server.shutdown)
    with pytest.raises(package.errors.StartupError, match="before it had started"):
        async with server:
            raise AssertionError("it cannot start")


async def test_a_start_that_is_cancelled_does_not_wait_for_the_application(
    package: ModuleType, log: list[logging.LogRecord]
) -> None:
    app = Names("hang")

    async def start() -> None:
        async with kit(package).serve_here(app):
            raise AssertionError("it cannot start")

    starting = asyncio.create_task(start())
    while not app.began.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not [record for record in log if record.levelno >= logging.ERROR]


def test_without_an_event_loop_of_asyncio_no_coroutine_is_left(package: ModuleType) -> None:
    entering = kit(package).serve_here(echo).__aenter__()
    with pytest.raises(RuntimeError, match="no running event loop"):
        entering.send(None)  # as trio does
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        gc.collect()
    assert not warned


async def test_a_server_is_a_context_manager(package: ModuleType) -> None:
    config = package.Config(echo, port=0)
    async with package.Server(config) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.urls[0])).text == "hello"
    with pytest.raises(package.errors.BindError):
        async with package.Server(package.Config(echo, bind="unix:/no/such/place")):
            raise AssertionError("it cannot start")
