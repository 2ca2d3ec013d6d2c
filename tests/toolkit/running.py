"""A server in a thread, on either event loop, in either build."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import uvloop

import asgiws

DEADLINE = 5.0
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, NewLoop] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
#: The parsers of requests (``--http``).
PARSERS = ("h11", "httptools")
LOOPS_AND_PARSERS = [(loop, parser) for loop in LOOPS for parser in PARSERS]


class Running:
    """A server that runs in a thread; ``port`` is the one it listens on.

    ``package`` is the build of asgiws to run.
    """

    def __init__(
        self, app: Any, loop: str = "uvloop", package: ModuleType = asgiws, **options: Any
    ) -> None:
        where = {} if "bind" in options else {"port": 0}
        options = {**where, "lifespan": "off", "timeout_graceful_shutdown": 2.0, **options}
        self.server = package.Server(package.Config(app, **options))
        self._new_loop = LOOPS[loop]
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(DEADLINE) or self._error is not None:
            raise RuntimeError("the server did not start") from self._error
        address = self.server.addresses[0]
        self.port = address[1] if isinstance(address, tuple) else 0

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as exc:
                self._error = exc
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self.server.serve())
        started = asyncio.ensure_future(self.server.wait_started())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        self._ready.set()
        await serving

    def call(self, function: Callable[[], Any]) -> Any:
        """What ``function`` returns when it is called in the server's loop."""

        async def calling() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(calling(), self.loop).result(DEADLINE)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at in the server's loop, holds."""

        deadline = time.monotonic() + DEADLINE
        while not self.call(condition):
            assert time.monotonic() < deadline, "it does not happen"
            threading.Event().wait(0.005)

    def shutdown(self) -> None:
        """Begin the shutdown, and do not wait for its end."""
        self.server.shutdown()

    def stop(self) -> None:
        """End it; raises what the server raised."""
        self.shutdown()
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "the server does not stop"
        if self._error is not None:
            raise self._error


@contextmanager
def running(
    app: Any, loop: str = "uvloop", package: ModuleType = asgiws, **options: Any
) -> Iterator[Running]:
    """Serve ``app`` while the block runs."""
    server = Running(app, loop, package, **options)
    try:
        yield server
    finally:
        server.stop()


def timers_set(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the callbacks for which the server's asyncio loop sets timers from now on."""
    names: list[str] = []
    call_at = server.loop.call_at

    def noted(when: float, callback: Any, *args: Any, **context: Any) -> Any:
        names.append(getattr(callback, "__name__", ""))
        return call_at(when, callback, *args, **context)

    monkeypatch.setattr(server.loop, "call_at", noted)
    return names
