"""``Server`` in Python: inside a loop of somebody else's, from other threads, several at once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import asgiws
from asgiws.errors import AppLoadError, BindError, ConfigError, LifespanError
from asgiws.options.config import Config
from asgiws.process.server import Server

from ..toolkit.apps import hello_and_wait
from ..toolkit.running import LOOPS, PARSERS, NewLoop, running

DEADLINE = 10.0


def run(new_loop: NewLoop, call: Any) -> Any:
    """Run a coroutine function to its end in a loop of its own, within the deadline."""

    async def limited() -> Any:
        return await asyncio.wait_for(call(), DEADLINE)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(limited())


def server_for(app: Any = hello_and_wait, **options: Any) -> Server:
    return Server(Config(app, **{"port": 0, "lifespan": "off", **options}))


@pytest.mark.parametrize("parser", PARSERS)
def test_the_start_says_which_parser_runs(log: list[logging.LogRecord], parser: str) -> None:
    with running(hello_and_wait, http=parser) as server:
        start = (
            f"Serving on http://127.0.0.1:{server.port} with asgiws, {asgiws.build()}, {parser} "
        )
    assert any(record.getMessage().startswith(start) for record in log)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[asyncio.Task[None]]:
    """Serve while the block runs, and expect a clean end."""
    task = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.wait_started())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield task
    finally:
        server.shutdown()
        await task


async def get(url: str) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text


def test_what_is_public_can_be_imported_from_the_package() -> None:
    assert asgiws.Server is Server
    assert asgiws.Config is Config
    assert inspect.signature(asgiws.run).parameters.keys() == {"app", "options"}


async def test_a_server_runs_beside_other_work_in_one_loop(new_loop: NewLoop) -> None:
    server = server_for()
    assert not server.started
    assert server.addresses == []
    assert server.urls == []
    async with serving(server):
        assert server.started
        ((host, port),) = server.addresses
        assert host == "127.0.0.1"
        assert server.urls == [f"http://127.0.0.1:{port}"]
        assert await get(server.urls[0]) == "hello"
    assert server.started
    assert server.addresses == [("127.0.0.1", port)]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_several_servers_share_one_loop_and_end_one_by_one(new_loop: NewLoop) -> None:
    first, second = server_for(), server_for()
    async with serving(second):
        async with serving(first):
            assert first.urls != second.urls
            assert [await get(url) for url in first.urls + second.urls] == ["hello"] * 2
        assert await get(second.urls[0]) == "hello"


def test_urls_of_ipv6_addresses_have_brackets() -> None:
    server = server_for(ssl_certfile=None)
    server._addresses = [("::1", 8000, 0, 0), "/run/app.socket"]
    assert server.urls == ["http://[::1]:8000", "unix:/run/app.socket"]


@pytest.mark.parametrize("times", [1, 3])
async def test_any_thread_may_begin_the_shutdown_more_than_once(
    new_loop: NewLoop, times: int
) -> None:
    server = server_for()
    async with serving(server) as task:
        threads = [threading.Thread(target=server.shutdown) for _ in range(times)]
        for thread in threads:
            thread.start()
        await task
        for thread in threads:
            thread.join()
    server.shutdown()  # it is over: nothing happens


def test_a_shutdown_after_the_loop_is_closed_does_nothing(new_loop: NewLoop) -> None:
    server = server_for()

    async def session() -> None:
        async with serving(server):
            pass

    run(new_loop, session)
    server.shutdown()


async def test_a_shutdown_before_serve_ends_it_at_once(new_loop: NewLoop) -> None:
    server = server_for()
    server.shutdown()
    await server.serve()
    assert not server.started


@pytest.mark.parametrize("app", ["main:app", hello_and_wait])
def test_a_server_of_an_application_says_that_it_takes_a_config(app: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a Config, as in Server\(Config\(app\)\), got"):
        Server(app)


async def test_a_server_that_has_served_does_not_begin_again(new_loop: NewLoop) -> None:
    server = server_for()
    async with server:
        with pytest.raises(RuntimeError, match="only once"):
            await server.serve()
    with pytest.raises(RuntimeError, match="a Server can serve only once: make another one"):
        async with server:
            raise AssertionError("nothing serves in this block")


async def test_serve_installs_no_signal_handlers(new_loop: NewLoop) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)

    before = [signal.getsignal(number) for number in numbers]
    async with serving(server_for()):
        assert [signal.getsignal(number) for number in numbers] == before


async def test_serve_changes_no_logging(new_loop: NewLoop) -> None:
    loggers = [logging.getLogger(name) for name in ("", "asgiws", "asgiws.error", "asgiws.access")]

    def settings() -> list[Any]:
        return [(log.level, log.propagate, tuple(log.handlers), log.disabled) for log in loggers]

    before = settings()
    async with serving(server_for(log_level="debug")):
        assert settings() == before


async def test_a_cancelled_serve_tells_everybody_and_ends_the_lifespan(new_loop: NewLoop) -> None:
    record = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            record.append((await receive())["code"])
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        record.append("lifespan.shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    server = server_for(app, lifespan="on")
    task = asyncio.create_task(server.serve())
    await server.wait_started()
    async with connect(server.urls[0].replace("http", "ws")) as websocket:
        task.cancel()
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    with pytest.raises(asyncio.CancelledError):
        await task
    assert record == [1012, "lifespan.shutdown"]


async def test_a_server_that_cannot_start_raises_in_serve(new_loop: NewLoop) -> None:
    with pytest.raises(AppLoadError):
        await Server(Config("no_such_module:app", port=0)).serve()


async def test_a_port_in_use_raises_before_the_application_is_started(new_loop: NewLoop) -> None:
    called = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])

    first = server_for()
    async with serving(first):
        port = first.addresses[0][1]
        with pytest.raises(BindError, match=f"127.0.0.1:{port}: Address already in use"):
            await server_for(app, port=port, lifespan="on").serve()
    assert called == []


async def test_a_lifespan_that_fails_raises_and_gives_the_port_back(new_loop: NewLoop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = server_for(app, lifespan="on")
    with pytest.raises(LifespanError):
        await server.serve()
    assert not server.started
    async with serving(server_for(port=server.addresses[0][1])):
        pass


@pytest.mark.parametrize("name", ["auto", "asyncio", "uvloop"])
def test_run_serves_with_a_loop_of_its_own_and_returns(name: str) -> None:
    """Outside of the main thread it installs no signal handlers: shutdown() ends it."""
    loops = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)
        server.shutdown()
        await receive()

    server = Server(Config(app, port=0, loop=name, lifespan="on", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert loops == ["asyncio.unix_events" if name == "asyncio" else "uvloop"]


def test_run_gives_the_signals_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    during = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        during.extend(signal.getsignal(number) for number in numbers)
        server.shutdown()
        await receive()

    server = Server(Config(app, port=0, lifespan="on", log_level="critical"))
    server.run()
    assert [signal.getsignal(number) for number in numbers] == before
    assert len(during) == 2
    assert not set(during) & set(before)


def test_run_says_what_is_wrong_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        asgiws.run(hello_and_wait, prot=1)
    assert caught.value.code == ConfigError.exit_code
    assert "no such option" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        asgiws.run("no_such_module:app", port=0, log_level="critical")
    assert caught.value.code == AppLoadError.exit_code


def test_a_loop_that_cannot_watch_sockets_is_named() -> None:
    class Proactor(asyncio.SelectorEventLoop):
        """As on Windows, by default."""

        def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
            if callback.__name__ == "_on_readable":
                raise NotImplementedError
            return super().add_reader(fd, callback, *args)

    with pytest.raises(ConfigError, match="use a selector event loop"):
        run(Proactor, server_for().serve)


@pytest.mark.parametrize("loop", LOOPS)
def test_connections_that_open_while_it_ends_are_answered_or_refused(loop: str) -> None:
    """Nobody is left hanging between the backlog and the registry."""
    answers = []

    async def visit(port: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            try:
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answers.append(await asyncio.wait_for(reader.read(), 5))
            except ConnectionError:
                return
            finally:
                writer.close()

    async def session(port: int, shutdown: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(0.2, shutdown)
        await asyncio.gather(*(visit(port) for _ in range(8)))

    with running(hello_and_wait, loop) as server:
        run(asyncio.SelectorEventLoop, lambda: session(server.port, server.shutdown))
    assert len(answers) > 8
    assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
