"""What one part of the end does to the others when it fails."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import pytest

from asgiws.errors import AppLoadError, LifespanError
from asgiws.http.notice import DrainNotice
from asgiws.process.importer import load_app
from asgiws.process.lifespan import Lifespan
from asgiws.websocket.states import LETS_GO

from ..toolkit.apps import hello_and_wait
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.running import LOOPS, running
from ..toolkit.served import Served


class Broken:
    """A connection that raises whatever is asked of it."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.connections: set[Any] = set()
        self.standing = LETS_GO

    def shutdown(self, code: int, reason: str) -> None:
        if "shutdown" in self.failing:
            raise RuntimeError("no shutdown")
        self.connections.discard(self)

    def abort(self) -> None:
        if "abort" in self.failing:
            raise RuntimeError("no abort")
        self.connections.discard(self)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_fails_at_the_end_does_not_take_the_others_with_it(
    loop: str, package: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with running(hello_and_wait, loop, package, timeout_graceful_shutdown=0.3) as server:
        serving = server.server.serving
        assert serving is not None
        with Client(server) as client, RawWebSocket(server) as websocket:
            assert client.get().body == b"hello"
            broken = [Broken("shutdown"), Broken("shutdown", "abort")]
            for connection in broken:
                connection.connections = serving.connections
                server.call(lambda connection=connection: serving.connections.add(connection))
            server.shutdown()
            assert client.rest() == b""
            assert websocket.rest().startswith(b"\x88\x02\x03\xf4")  # 1012
    assert "cutting it off" in caplog.text
    assert "cannot be cut off" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "within 3 s"), (("--drain-window", "0.2"), "over 0.2 s")],
)
def test_a_window_that_may_end_early_is_announced_as_such(
    options: tuple[str, ...], said: str
) -> None:
    app = "tests.toolkit.apps:hello_and_wait"
    with ExitStack() as stack:
        served = stack.enter_context(Served("asgiws", app, "--port", "0", *options))
        for _ in range(21):
            stack.enter_context(RawWebSocket(served))
        assert served.stop() == 0
        assert served.lines(f"Closing 21 connections {said}")


def eagerly(
    loop: asyncio.AbstractEventLoop, call: Generator[Any, None, Any], **options: Any
) -> asyncio.Future[Any]:
    """As ``asyncio.eager_task_factory`` of Python 3.12: the first step is done at once."""
    try:
        waits_for = call.send(None)
    except StopIteration as done:
        result = loop.create_future()
        result.set_result(done.value)
        return result

    @types.coroutine
    def rest() -> Generator[Any, None, Any]:
        yield waits_for
        return (yield from call)

    return asyncio.Task(rest(), loop=loop, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("receives", [True, False])
def test_an_eager_task_factory_is_no_obstacle_to_a_lifespan(receives: bool) -> None:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        if receives:
            assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        if not receives:
            assert (await receive())["type"] == "lifespan.startup"
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    async def session() -> None:
        asyncio.get_running_loop().set_task_factory(eagerly)  # type: ignore[arg-type]
        lifespan = Lifespan(call, "on", DrainNotice())
        await lifespan.startup()
        await lifespan.shutdown(1)

    asyncio.run(session())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), SystemExit("no database")])
def test_an_exit_is_a_failure_of_the_lifespan_as_any_other(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def raises_at_the_end(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise error

    async def session() -> None:
        with pytest.raises(LifespanError) as caught:
            await Lifespan(raises, "on", DrainNotice()).startup()
        assert type(error).__name__ in caught.value.details
        lifespan = Lifespan(raises_at_the_end, "on", DrainNotice())
        await lifespan.startup()
        await lifespan.shutdown(1)

    asyncio.run(session())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_message_that_is_no_text_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": ValueError("busy")})

    async def session() -> None:
        lifespan = Lifespan(call, "on", DrainNotice())
        await lifespan.startup()
        await lifespan.shutdown(1)

    asyncio.run(session())
    assert "busy" in caplog.text


def test_an_error_that_cannot_be_put_into_words_is_told_all_the_same() -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def factory() -> Any:
        raise Wordless

    with pytest.raises(AppLoadError, match=r"the factory failed: Wordless$"):
        load_app(factory, factory=True)
