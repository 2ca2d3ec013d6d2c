"""One worker process: event loop, listening sockets, signals, start and end.

The order of a start: load the application, bind, lifespan.startup, listen. The
order of an end: accept what waits in the backlog and stop listening; tell every
WebSocket (1012) and let HTTP requests finish; after the graceful timeout cancel what
is left, and abandon what will not be cancelled; lifespan.shutdown; the process ends,
whatever threads remain.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from .._build import build
from ..errors import ConfigError, StartupError
from ..http.connection import HTTPProtocol
from ..http.forwarded import Proxies
from ..http.heads import parser, reader
from ..http.serving import DefaultHeaders, Limits, Serving
from ..log import configure, error_log
from ..options.config import Config
from ..options.tls import ssl_context
from ..websocket.limits import Limits as WebSocketLimits
from ..websocket.pulse import Pulse
from ..wire.deflate import Settings
from ..wire.host import ANY, Hosts
from ..wire.origin import Origins
from .arrivals import Arrivals
from .descriptors import fill_standard_descriptors
from .importer import load_app
from .lifespan import Lifespan
from .listener import Listeners
from .memory import keep_for_the_next
from .signals import Signals, let_threads_go
from .sockets import Bound

CANCEL_SECONDS = 1.0  # for what was cancelled at the graceful timeout
WATCHDOG_SECONDS = 5.0  # for an event loop that is blocked, beyond all other deadlines
POLL_SECONDS = 0.02


class Entrance(Protocol):
    """Where the connections of one event loop come in."""

    def start(self) -> None:
        """Take them from now on."""

    def stop(self) -> None:
        """Take those that wait, then nothing more."""


class Server:
    """Serves one application on one event loop.

    ``run()`` makes the loop and listens to signals; ``await serve()`` runs inside
    a loop of yours, and leaves signals to you.
    """

    def __init__(self, config: Config) -> None:
        """Raises ConfigError if ``config`` asks for several processes."""
        if config.workers > 1:
            raise ConfigError("workers: a Server is one process; asgiws.run starts several")
        self.config = config
        self._addresses: list[Any] = []
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = False
        self.serving: Serving | None = None

    @property
    def started(self) -> bool:
        """Whether connections are accepted, or have been."""
        return self._started.is_set()

    async def wait_started(self) -> None:
        """Wait until connections are accepted; ``serve`` must be running in this loop."""
        await self._started.wait()

    @property
    def addresses(self) -> list[Any]:
        """What is listened on: ``(host, port, ...)`` of each socket, or the path of a Unix one."""
        return list(self._addresses)

    @property
    def urls(self) -> list[str]:
        """The addresses as URLs; ``unix:PATH`` for a Unix socket."""
        return urls_of(self._addresses, self.config.ssl_certfile is not None)

    def shutdown(self) -> None:
        """Begin the shutdown; from any thread or signal handler, more than once."""
        self._stop_requested = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                pass  # the loop is closed: it is over

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises StartupError."""
        threads = set(threading.enumerate())
        status = 0
        try:
            fill_standard_descriptors()
            config = self.config
            configure(config.log_level, config.log_config, config.access_log, config.use_colors)
            keep_for_the_next()
            app = self._load_app()
            loop = _new_event_loop(config.loop)
            asyncio.set_event_loop(loop)
            patience = 2 * config.timeout_graceful_shutdown + CANCEL_SECONDS + WATCHDOG_SECONDS
            with self._signals(patience) as signals:
                try:
                    _run(loop, self._serve(app), signals.follow)
                finally:
                    _close(loop, signals.follow)
        except BaseException as exc:
            status = exc.exit_code if isinstance(exc, StartupError) else 1
            raise
        finally:
            let_threads_go(threads, status)

    async def serve(self) -> None:
        """Serve until ``shutdown()``, in the running loop; raises StartupError.

        Installs no signal handlers and no logging settings. A cancelled call shuts
        down without waiting for requests in progress.
        """
        await self._serve(self._load_app())

    def _signals(self, patience: float) -> Signals:
        """What listens to signals while the loop runs; the end may take ``patience`` seconds."""
        return Signals(self.shutdown, patience)

    @contextmanager
    def _entrance(
        self, loop: asyncio.AbstractEventLoop, _serving: Serving, arrivals: Arrivals
    ) -> Iterator[Entrance]:
        """Where connections come in, not open yet."""
        config = self.config
        with Bound(config.addresses, config.uds_permissions) as bound:
            self._addresses = [sock.getsockname() for sock in bound.sockets]
            yield Listeners(loop, bound.sockets, arrivals, config.backlog)

    def _announce(self) -> None:
        """Connections are accepted: tell it."""
        for url in self.urls:
            runs = what_runs(self.config)
            error_log.info("Serving on %s with asgiws, %s (Ctrl-C to stop)", url, runs)

    def _load_app(self) -> Any:
        config = self.config
        return load_app(
            config.app, app_dir=config.app_dir, factory=config.factory, env_file=config.env_file
        )

    async def _serve(self, app: Any) -> None:
        config = self.config
        loop = self._loop = asyncio.get_running_loop()
        stop = self._stop
        if self._stop_requested:
            return
        tls = ssl_context(config)
        lifespan = Lifespan(app, config.lifespan)
        serving = self.serving = _serving(config, app, loop, lifespan.state)
        arrivals = Arrivals(loop, partial(HTTPProtocol, serving), tls, config.timeout_request_head)
        patience = 0.0
        try:
            with self._entrance(loop, serving, arrivals) as entrance:
                if not await _unless(stop, lifespan.startup()):
                    lifespan.cancel()
                    return
                try:
                    entrance.start()
                    self._started.set()
                    self._announce()
                    await stop.wait()
                    patience = config.timeout_graceful_shutdown
                finally:
                    entrance.stop()
        finally:
            await self._drain(serving, arrivals, patience)
            await lifespan.shutdown(max(patience, CANCEL_SECONDS))
            if self.started:
                error_log.info("Stopped")

    async def _drain(self, serving: Serving, arrivals: Arrivals, patience: float) -> None:
        """Let go of what is alive: ask, wait, cancel, abandon."""
        serving.draining = True

        def alive() -> int:
            return len(serving.connections) + len(arrivals)

        def over() -> bool:
            return not serving.tasks and not alive()

        if over():
            return
        error_log.info(
            "Waiting for %d connections and %d calls of the application to end",
            alive(),
            len(serving.tasks),
        )
        for connection in tuple(serving.connections):
            try:
                connection.shutdown()
            except Exception:
                # The others are told all the same.
                error_log.exception("A connection does not end as it should: cutting it off")
                _abort(connection)
        if await _within(patience, over):
            return
        left = tuple(serving.tasks)
        if left:
            error_log.warning(
                "Cancelling %d calls of the application after %g s", len(left), patience
            )
        for task in left:
            serving.cancel(task)
        for connection in tuple(serving.connections):
            _abort(connection)
        arrivals.abort()
        if not await _within(CANCEL_SECONDS, over) and serving.tasks:
            error_log.error("Abandoning %d calls of the application that go on", len(serving.tasks))
            for task in serving.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is said


def what_runs(config: Config) -> str:
    """The build and the parser of requests, in words."""
    return f"{build()}, {parser(config.http)}"


def urls_of(addresses: list[Any], secure: bool) -> list[str]:
    """The addresses of sockets as URLs."""
    scheme = "https" if secure else "http"
    urls = []
    for address in addresses:
        if isinstance(address, tuple):
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            urls.append(f"{scheme}://{host}:{address[1]}")
        else:
            urls.append(f"unix:{address}")
    return urls


def _serving(
    config: Config, app: Any, loop: asyncio.AbstractEventLoop, state: dict[str, Any]
) -> Serving:
    """What all connections of one loop share, as ``config`` says."""
    limits = WebSocketLimits(
        max_size=config.ws_max_size,
        max_queue=config.ws_max_queue,
        ping_interval=config.ws_ping_interval,
        ping_timeout=config.ws_ping_timeout,
        close_timeout=config.ws_close_timeout,
        accept_timeout=config.ws_accept_timeout,
        write_timeout=config.timeout_write,
        idle_timeout=config.ws_idle_timeout,
        deflate=Settings(
            window_bits=config.ws_deflate_window_bits,
            mem_level=config.ws_deflate_mem_level,
            level=config.ws_deflate_level,
            context_takeover=config.ws_deflate_context_takeover,
            min_size=config.ws_deflate_min_size,
            library=config.ws_deflate_library,
        )
        if config.ws_per_message_deflate
        else None,
    )
    hosts = config.allowed_hosts.split(",")
    return Serving(
        app,
        loop,
        state,
        Limits(
            max_head=config.h11_max_incomplete_event_size,
            request_head=config.timeout_request_head,
            request_body=config.timeout_request_body,
            keep_alive=config.timeout_keep_alive,
            write=config.timeout_write,
            concurrency=config.limit_concurrency,
            root_path=config.root_path,
        ),
        Pulse(loop, limits),
        None if ANY in hosts else Hosts(hosts),
        Origins(config.ws_origins.split(",")),
        Proxies(config.forwarded_allow_ips) if config.proxy_headers else None,
        DefaultHeaders(config.headers, config.date_header, config.server_header),
        reader(config.http),
    )


def _new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass  # Config has refused --loop uvloop then: this is auto
        else:
            return uvloop.new_event_loop()
    # A selector loop on every system: the proactor cannot watch a listening socket.
    return asyncio.SelectorEventLoop()


async def _unless(stop: asyncio.Event, call: Any) -> bool:
    """Await ``call`` unless ``stop`` is set first; whether it came to a good end."""
    task = asyncio.ensure_future(call)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not (stop.is_set() and task.exception()):
            task.result()
            return True
        return False
    finally:
        task.cancel()
        stopped.cancel()


def _abort(connection: Any) -> None:
    try:
        connection.abort()
    except Exception:
        error_log.exception("A connection cannot be cut off")


async def _within(patience: float, over: Callable[[], bool]) -> bool:
    """Wait until it is ``over``, ``patience`` seconds at most; whether it is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not over():
        # Without patience, too, who is told may react.
        await asyncio.sleep(POLL_SECONDS)
        if loop.time() >= deadline:
            return over()
    return True


def _run(
    loop: asyncio.AbstractEventLoop,
    call: Coroutine[Any, Any, object],
    follow: Callable[[], object],
) -> None:
    """Run the loop until ``call`` has ended, though tasks of the application want to exit.

    A SystemExit or KeyboardInterrupt in a task or a callback ends the running of its
    loop, and nothing else: the loop can go on. ``follow`` is called whenever it does.
    """
    task = loop.create_task(call)
    while True:
        loop.call_soon(follow)
        try:
            loop.run_until_complete(task)
            return
        except (SystemExit, KeyboardInterrupt) as exc:
            if task.done():
                raise
            error_log.error(
                "%s in a task of the application's own", type(exc).__name__, exc_info=exc
            )


def _close(loop: asyncio.AbstractEventLoop, follow: Callable[[], object]) -> None:
    """Close the loop; the tasks that the application started elsewhere get one second."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _run(loop, _waited(tasks), follow)
    try:
        _run(loop, asyncio.wait_for(loop.shutdown_asyncgens(), timeout=CANCEL_SECONDS), follow)
    except TimeoutError:
        pass
    asyncio.set_event_loop(None)
    loop.close()


async def _waited(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
