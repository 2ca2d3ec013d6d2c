"""Fixtures that all tests share: both builds, both event loops, servers on real sockets."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

import asgiws.log
from asgiws._build import is_pure_chosen, stale

from .toolkit.builds import BUILDS, LIBRARIES, deflating_with
from .toolkit.running import LOOPS, NewLoop

TEST_DEADLINE = 20.0  # seconds; for what never comes

# A busy machine may take its time with an example.
hypothesis.settings.register_profile("asgiws", deadline=None)
hypothesis.settings.load_profile("asgiws")


def pytest_configure(config: pytest.Config) -> None:
    if not is_pure_chosen() and (names := stale()):
        again = "python setup.py build_ext --inplace"
        pytest.exit(f"older than their sources: {', '.join(names)}; run: {again}", 4)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting the tests makes stays to their end: the garbage collector leaves it alone.

    Otherwise each of its full runs, of which some tests make several, goes through all of it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes that share the tests: several for all, none for tests that are named.

    Two for a core: many tests wait for a process or a deadline. What measures has the
    machine to itself (``-m slow``).
    """
    everything = all(Path(arg).resolve() == Path(__file__).parent for arg in config.args)
    return (
        min(2 * (os.cpu_count() or 1), 8)
        if everything and "not slow" in config.option.markexpr
        else 0
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def test_...`` in an event loop of its own, within a deadline.

    The loop is asyncio's, or what the test's ``new_loop`` makes, be it an argument or a mark
    (``usefixtures``).
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        async with asyncio.timeout(TEST_DEADLINE):
            await pyfuncitem.obj(**arguments)

    with asyncio.Runner(loop_factory=pyfuncitem.funcargs.get("new_loop")) as runner:
        runner.run(bounded())
    return True


def pytest_report_header() -> str:
    return f"asgiws builds under test: {', '.join(BUILDS)}"


@pytest.fixture(params=BUILDS)
def package(request: pytest.FixtureRequest) -> ModuleType:
    """The package in each of its builds; take submodules as ``package.wire.frames``."""
    return BUILDS[request.param]


@pytest.fixture(scope="class", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each library for permessage-deflate, as the default of both builds."""
    with deflating_with(request.param):
        yield request.param


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """The name of each event loop."""
    return str(request.param)


@pytest.fixture
def new_loop(loop: str) -> NewLoop:
    """What makes such an event loop; an ``async def test_...`` that asks for it runs in one."""
    return LOOPS[loop]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Whatever a test configures ends with it."""
    loggers = [logging.getLogger(name) for name in ("asgiws", "asgiws.error", "asgiws.access")]
    loggers.append(logging.getLogger())
    before = [(log, log.handlers[:], log.level, log.propagate, log.disabled) for log in loggers]
    yield
    for log, handlers, level, propagate, disabled in before:
        log.handlers[:], log.propagate, log.disabled = handlers, propagate, disabled
        log.setLevel(level)


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """What goes to asgiws.error."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("asgiws.error")
    level, logger.level = logger.level, logging.DEBUG
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def noticed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, tuple[object, ...]]]:
    """What waits to be logged until the log is configured; nothing of another test's."""
    waiting: list[tuple[int, str, tuple[object, ...]]] = []
    monkeypatch.setattr(asgiws.log, "_early", waiting)
    return waiting


@pytest.fixture(params=["data_received", "get_buffer"])
def buffered(request: pytest.FixtureRequest) -> bool:
    """How the event loop hands on bytes: asyncio's way or uvloop's."""
    return bool(request.param == "get_buffer")
