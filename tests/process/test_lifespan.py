"""The ASGI lifespan: startup, shutdown, state, and every way in which an application fails it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from asgiws.errors import LifespanError
from asgiws.http.notice import DrainNotice
from asgiws.options.config import Config
from asgiws.process.lifespan import Lifespan
from asgiws.process.server import Server

from ..toolkit.running import running


class Scripted:
    """An application that answers lifespan events with those of its script, and keeps a record."""

    def __init__(self, *script: dict[str, Any], then: BaseException | None = None) -> None:
        self.script = script
        self.then = then
        self.record: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.record.append(f"{scope['type']} {scope['asgi']['spec_version']}")
        for event in self.script:
            self.record.append((await receive())["type"])
            await send(event)
        if self.then is not None:
            raise self.then
        self.record.append("returned")


STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


async def start_and_stop(app: Any, mode: str = "on", patience: float = 1.0) -> Lifespan:
    lifespan = Lifespan(app, mode, DrainNotice())
    await lifespan.startup()
    await lifespan.shutdown(patience)
    return lifespan


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("mode", ["on", "auto"])
async def test_startup_comes_first_and_shutdown_last(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Scripted(STARTED, STOPPED)
    await start_and_stop(app, mode)
    assert app.record == ["lifespan 2.0", "lifespan.startup", "lifespan.shutdown", "returned"]
    assert not errors_in(caplog)


async def test_off_never_calls_the_application() -> None:
    app = Scripted(STARTED, STOPPED)
    await start_and_stop(app, "off")
    assert app.record == []


async def http_only(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


def http_only_at_the_call(scope: Any, receive: Any, send: Any) -> Any:
    assert scope["type"] == "http"


async def silent_about_lifespan(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        raise AssertionError


WITHOUT = [http_only, http_only_at_the_call, silent_about_lifespan]


@pytest.mark.parametrize("app", WITHOUT)
async def test_auto_goes_on_without_a_lifespan(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgiws.error")
    await start_and_stop(app, "auto")
    assert not errors_in(caplog)
    assert "has no lifespan" in caplog.text


@pytest.mark.parametrize("app", WITHOUT)
async def test_on_insists_on_a_lifespan(app: Any) -> None:
    with pytest.raises(LifespanError):
        await start_and_stop(app, "on")


@pytest.mark.parametrize("mode", ["on", "auto"])
@pytest.mark.parametrize("exit_", [SystemExit("no database"), KeyboardInterrupt()])
async def test_an_application_that_exits_has_failed_to_start(
    mode: str, exit_: BaseException
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise exit_

    with pytest.raises(LifespanError, match="the application's lifespan raised"):
        await Lifespan(app, mode, DrainNotice()).startup()


async def test_what_a_lifespan_raises_is_shown_trimmed_to_the_application() -> None:
    with pytest.raises(LifespanError) as caught:
        await start_and_stop(Scripted(then=ValueError("no database")), "on")
    assert "ValueError: no database" in caught.value.details
    assert "test_lifespan.py" in caught.value.details
    assert "lifespan.py" not in caught.value.details.replace("test_lifespan.py", "")


@pytest.mark.parametrize("mode", ["on", "auto"])
@pytest.mark.parametrize("then", [None, ValueError("no database")])
async def test_a_failed_startup_is_an_error_with_the_applications_words(
    mode: str, then: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    failed = {"type": "lifespan.startup.failed", "message": "no database"}
    with pytest.raises(LifespanError) as caught:
        await start_and_stop(Scripted(failed, then=then), mode)
    assert caught.value.details == "no database"
    del caught
    gc.collect()  # a task whose exception nobody has looked at says so now
    assert not errors_in(caplog)


async def test_a_failed_startup_is_told_once() -> None:
    """Starlette answers startup.failed and raises as well: that is one failure."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    with pytest.raises(LifespanError, match="failed to start") as caught:
        await start_and_stop(Starlette(lifespan=lifespan))
    assert caught.value.details.count("ValueError: no database") == 1


async def test_an_application_that_fails_to_start_and_waits_is_not_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await asyncio.Event().wait()

    with pytest.raises(LifespanError):
        await Lifespan(app, "on", DrainNotice()).startup()


async def test_a_failed_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    failed = {"type": "lifespan.shutdown.failed", "message": "still\nbusy"}
    await start_and_stop(Scripted(STARTED, failed))
    assert errors_in(caplog) == ["The application failed to stop", "still", "busy"]


async def test_a_lifespan_that_raises_at_its_end_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await start_and_stop(Scripted(STARTED, then=ValueError("lost")))
    assert errors_in(caplog) == ["Exception in the application's lifespan"]
    assert "ValueError: lost" in caplog.text


async def test_a_lifespan_that_never_ends_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await start_and_stop(app, patience=0.05)
    assert errors_in(caplog) == ["The application's lifespan did not end within 0.05 s"]
    await cancelled.wait()


@pytest.mark.parametrize(
    "wrong",
    [STOPPED, {"type": "http.response.start"}, {}],
    ids=["shutdown.complete at startup", "another protocol's", "no type"],
)
async def test_an_answer_that_does_not_fit_is_the_applications_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(LifespanError) as caught:
        await start_and_stop(Scripted(wrong), "on")
    expected = "expected one of lifespan.startup.complete or lifespan.startup.failed, once"
    assert expected in caught.value.details


async def test_a_second_answer_is_the_applications_error(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await send(STARTED)

    await start_and_stop(app)
    assert "expected one of lifespan.startup.complete" in caplog.text


def test_every_request_gets_a_copy_of_the_state() -> None:
    """ASGI "Lifespan State": shallow, so what is set for one request is not seen by others."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"shared": []}

    async def show(request: Request) -> JSONResponse:
        request.state.shared.append(1)
        seen = hasattr(request.state, "own")
        request.state.own = True
        return JSONResponse([len(request.state.shared), seen])

    app = Starlette(routes=[Route("/", show)], lifespan=lifespan)
    with running(app, lifespan="on") as server, httpx.Client() as client:
        url = f"http://127.0.0.1:{server.port}"
        assert [client.get(url).json() for _ in range(2)] == [[1, False], [2, False]]


async def test_a_shutdown_during_startup_cancels_it_and_serves_nothing() -> None:
    record = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        record.append("starting")
        server.shutdown()
        try:
            await asyncio.Event().wait()
        finally:
            record.append("ended")

    server = Server(Config(app, port=0, lifespan="on"))
    await server.serve()
    assert record == ["starting", "ended"]
    assert not server.started


async def test_starlette_that_is_cancelled_while_it_starts_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        server.shutdown()
        try:
            await asyncio.Event().wait()
        finally:
            record.append("ended")
        yield

    server = Server(Config(Starlette(lifespan=lifespan), port=0, lifespan="on"))
    await server.serve()
    assert record == ["ended"]
    assert errors_in(caplog) == []


async def test_an_error_of_an_application_that_is_cancelled_while_it_starts_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        server.shutdown()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("the pool is not open")
        yield

    server = Server(Config(Starlette(lifespan=lifespan), port=0, lifespan="on"))
    await server.serve()
    assert errors_in(caplog) == ["Exception in the application's lifespan"]
    error = caplog.records[-1].exc_info
    assert error is not None
    assert isinstance(error[1], RuntimeError)
