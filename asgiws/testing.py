"""A server for tests: on a free port, in a thread or in the event loop of the test.

``serve`` is a context manager for tests that block, ``serve_here`` one for tests that are
coroutines. Both give a ``Served``. The fixture of pytest that stops what it has started is in
pytest_plugin.py.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar, Unpack

from .asgi import Application
from .options.config import Config
from .options.typed import Options
from .process.server import Server, close_loop, new_event_loop, run_in

__all__ = ["Background", "Served", "serve", "serve_here"]

_T = TypeVar("_T")

SECONDS = 10.0  # for a start, an end and a call, each
GRACEFUL_SECONDS = 2.0  # for what still runs at the end of a test


class Served:
    """A server that serves."""

    def __init__(self, server: Server, log: list[logging.LogRecord]) -> None:
        self.server: Server = server
        """The asgiws.Server."""
        self.log: list[logging.LogRecord] = log
        """What it has logged so far: logging's records of asgiws.error and asgiws.access."""

    @property
    def url(self) -> str:
        """Its URL for HTTP: ``http://127.0.0.1:43121``, or ``unix:PATH`` for a Unix socket."""
        return self.server.urls[0]

    @property
    def ws_url(self) -> str:
        """Its URL for WebSockets: ``ws://127.0.0.1:43121``; ``unix:PATH`` for a Unix socket."""
        scheme, colon, rest = self.url.partition(":")
        return scheme.replace("http", "ws") + colon + rest

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        address = self.server.addresses[0]
        return int(address[1]) if isinstance(address, tuple) else 0

    @property
    def logged(self) -> list[str]:
        """The lines that it has logged so far, as in ``ERROR: Exception in ASGI application``.

        An answer that the application failed to give is logged before the client sees it. What
        an application does after its last answer is in the log when the server has ended.
        """
        return [f"{record.levelname}: {record.getMessage()}" for record in self.log]


class Background(Served):
    """A server in a thread with an event loop of its own, from now on until ``stop``."""

    def __init__(self, app: Application, **options: Unpack[Options]) -> None:
        """``options`` are the fields of Config; raises StartupError if it cannot start."""
        super().__init__(_server(app, options), [])
        self.loop = new_event_loop(self.server.config.loop)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="asgiws-testing", daemon=True)
        try:
            self._thread.start()
            if not self._ready.wait(SECONDS):
                raise RuntimeError(f"the server does not start within {SECONDS:g} s{self._where()}")
        except BaseException:  # Ctrl-C among them
            self._end()
            if self._thread.is_alive():
                self._thread.join(GRACEFUL_SECONDS)
            raise
        if self._error is not None:
            self._thread.join(SECONDS)
            raise self._error

    def _run(self) -> None:
        with _recording(self.log):
            try:
                # As a server of its own does: an application that wants to exit, in a task of
                # its own too, does not end the tests, and what it leaves holds nothing up.
                run_in(self.loop, self._serve())
            except BaseException as error:
                self._error = error
            finally:
                self._ready.set()
                close_loop(self.loop)

    async def _serve(self) -> None:
        async with self.server:
            self._ready.set()
            await self._over.wait()

    def call(self, function: Callable[[], _T]) -> _T:
        """Call ``function`` in the server's event loop, and return its result.

        Raises what it raises, and TimeoutError after 10 seconds.
        """
        result: Future[_T] = Future()

        def calling() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(calling)
        return result.result(SECONDS)

    def stop(self) -> None:
        """End it, once or more often; raises the server's error, or one if it does not end."""
        if self._thread.is_alive():
            self._end()
            self._thread.join(SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"the server does not stop within {SECONDS:g} s{self._where()}")
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        """Let it end, even if it has not started."""
        self.server.shutdown()
        try:
            self.loop.call_soon_threadsafe(self._over.set)
        except RuntimeError:
            pass  # the loop is closed: it is over

    def _where(self) -> str:
        """The stack of its thread, because the application may block the event loop."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        lines = traceback.format_stack(frame)[-5:] if frame is not None else []
        return "".join(["; its event loop is at\n", *lines]).rstrip() if lines else ""


@contextmanager
def serve(app: Application, **options: Unpack[Options]) -> Iterator[Background]:
    """Serve ``app`` in a thread while a ``with`` block runs.

    ``options`` are the fields of Config; without ``port`` or ``bind`` a free port is taken. Raises
    StartupError if it cannot start, and RuntimeError if it does not start, or end, in 10 seconds.
    """
    served = Background(app, **options)
    try:
        yield served
    finally:
        served.stop()


@asynccontextmanager
async def serve_here(app: Application, **options: Unpack[Options]) -> AsyncIterator[Served]:
    """The same in the running event loop, for ``async with`` and clients that do not block."""
    log: list[logging.LogRecord] = []
    with _recording(log):
        async with _server(app, options) as server:
            yield Served(server, log)


def _server(app: Application, options: Options) -> Server:
    listens = {"bind", "host", "port", "uds", "fd"} & options.keys()
    defaults: Options = {"timeout_graceful_shutdown": GRACEFUL_SECONDS}
    if listens <= {"host"}:
        defaults["port"] = 0
    return Server(Config(app, **(defaults | options)))


@contextmanager
def _recording(log: list[logging.LogRecord]) -> Iterator[None]:
    """Keep the records that this thread logs in asgiws's loggers; levels and handlers stay."""
    thread = threading.get_ident()
    handler = _Keeper(log)
    handler.addFilter(lambda record: record.thread == thread)
    loggers = [logging.getLogger(name) for name in ("asgiws.error", "asgiws.access")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Keeper(logging.Handler):
    def __init__(self, log: list[logging.LogRecord]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append(record)
