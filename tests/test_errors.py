"""The errors above the wire: who must act, and the status that a process ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


def test_every_failed_start_has_an_exit_status_of_its_own(package: ModuleType) -> None:
    errors = package.errors
    kinds = errors.StartupError.__subclasses__()
    # That of a worker is the worker's.
    codes = [kind.exit_code for kind in kinds if kind is not errors.WorkerFailed]
    assert len(set(codes)) == len(codes) >= 4
    assert 0 not in codes
    assert errors.StartupError.exit_code not in codes


def test_a_failed_start_has_a_message_and_the_application_s_traceback(package: ModuleType) -> None:
    error = package.errors.AppLoadError("it raised", "Traceback ...")
    assert (str(error), error.details) == ("it raised", "Traceback ...")
    assert package.errors.BindError("port 80").details == ""


def test_a_departure_is_an_oserror_and_a_mistake_in_asgi_is_none(package: ModuleType) -> None:
    """ASGI 2.4: ``send`` raises a subclass of OSError once the client is gone."""
    assert issubclass(package.errors.ClientDisconnected, OSError)
    assert not issubclass(package.errors.ASGIError, OSError)
    assert not issubclass(package.errors.StartupError, OSError)


class FrameworkError(Exception):
    pass


class WebSocketDisconnect(FrameworkError):  # Starlette, FastAPI, Litestar
    pass


class WebSocketDisconnected(RuntimeError):  # Starlette, when it is used again; Falcon
    pass


class ClientDisconnect(Exception):  # Starlette, from a request's body
    pass


class RequestAborted(Exception):  # Django
    pass


class GoodBye(WebSocketDisconnect):
    pass


class ServerDisconnectedError(Exception):  # aiohttp's client: of another connection
    pass


def caught(function: Callable[[], Any]) -> BaseException:
    """What ``function`` raises."""
    try:
        function()
    except BaseException as exc:
        return exc
    raise AssertionError("it raised nothing")


def raised(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def call() -> None:
        if cause is None:
            raise error
        raise error from cause

    return call


def while_handled(first: BaseException, then: Callable[[], Any]) -> BaseException:
    """What ``then`` raises while ``first`` is handled, which this module has raised."""

    def call() -> None:
        try:
            raise first
        finally:
            then()

    return caught(call)


def elsewhere(code: str) -> Callable[[], None]:
    """A function of another module that executes ``code``."""
    return lambda: exec(code, {"__name__": "application"})


class TestTheNewsOfADisconnect:
    @pytest.mark.parametrize(
        "news",
        [
            WebSocketDisconnect(1006),
            WebSocketDisconnected("receive"),
            ClientDisconnect(),
            RequestAborted(),
            GoodBye(),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_class_that_is_named_after_asgis_event_tells_it(
        self, package: ModuleType, news: BaseException
    ) -> None:
        tells = package.errors.tells_of_disconnect
        assert tells(news)
        assert tells(caught(raised(FrameworkError(1006), news)))
        assert tells(ExceptionGroup("", [ExceptionGroup("", [news]), GoodBye()]))
        assert tells(while_handled(news, raised(RuntimeError("send once closed"))))
        assert tells(while_handled(news, elsewhere("raise ValueError('closed') from None")))

    def test_our_own_errors_tell_it(self, package: ModuleType) -> None:
        errors = package.errors
        for news in errors.ClientDisconnected("gone"), errors.ApplicationCancelled("by itself"):
            assert errors.tells_of_disconnect(news)
            assert errors.tells_of_disconnect(BaseExceptionGroup("", [news]))
            assert errors.tells_of_disconnect(caught(raised(OSError(), news)))

    def test_what_says_nothing_of_a_disconnect_is_an_error(self, package: ModuleType) -> None:
        tells = package.errors.tells_of_disconnect
        news = package.errors.ClientDisconnected()
        assert not tells(None)
        errors = [
            RuntimeError("no"),
            OSError(),
            ServerDisconnectedError(),
            FrameworkError("disconnect"),
            asyncio.CancelledError(),
            ExceptionGroup("", [news, ValueError()]),
            caught(raised(RuntimeError(), ValueError())),
        ]
        assert not any(map(tells, errors))

    def test_a_bug_in_the_handler_of_a_disconnect_is_an_error(self, package: ModuleType) -> None:
        tells = package.errors.tells_of_disconnect
        news = WebSocketDisconnect(1006)
        bugs: list[Callable[[], Any]] = [
            lambda: {}["missing"],
            raised(FrameworkError("not saved")),
            elsewhere("raise RuntimeError('not saved')"),
            elsewhere("try: {}['missing']\nexcept KeyError: raise RuntimeError('x') from None"),
        ]
        assert [tells(while_handled(news, bug)) for bug in bugs] == [False] * 4

    async def test_a_deadline_in_the_handler_is_an_error(self, package: ModuleType) -> None:
        """It is raised from the cancellation that it is made of."""

        async def clean_up() -> None:
            try:
                raise WebSocketDisconnect(1006)
            finally:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()

        with pytest.raises(TimeoutError) as missed:
            await clean_up()
        assert isinstance(missed.value.__cause__, asyncio.CancelledError)
        assert not package.errors.tells_of_disconnect(missed.value)

    def test_errors_that_cause_one_another_come_to_an_end(self, package: ModuleType) -> None:
        first, second = RuntimeError(), RuntimeError()
        first.__cause__, second.__cause__ = second, first
        assert not package.errors.tells_of_disconnect(first)
        bare = RuntimeError()
        bare.__context__ = RuntimeError()  # neither was raised
        assert not package.errors.tells_of_disconnect(bare)
