"""One worker process: event loop, listening sockets, signals, start and end.

The order of a start: load the application, bind, lifespan.startup, listen. The
order of an end: accept what waits in the backlog and stop listening; drain the
connections (``drain``); lifespan.shutdown; the process ends, whatever threads remain.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, Self

from .._build import build, remarks
from ..errors import ConfigError, StartupError, tells_of_disconnect
from ..fanout.current import Place
from ..fanout.history import Wanted
from ..http.admission import Admission
from ..http.connection import HTTPProtocol
from ..http.forwarded import Proxies
from ..http.heads import reader
from ..http.notice import DrainNotice
from ..http.serving import STOPPING, Counting, DefaultHeaders, Limits, Serving
from ..log import configure, error_log
from ..options.addresses import Address
from ..options.config import Config, parser
from ..options.tls import ssl_context
from ..websocket.limits import Limits as WebSocketLimits
from ..websocket.pulse import Pulse
from ..wire.deflate import Settings
from ..wire.host import ANY, Hosts
from ..wire.origin import Origins
from .activation import take_passed, where_to_listen
from .arrivals import Arrivals
from .descriptors import fill_standard_descriptors
from .drain import CANCEL_SECONDS, INTERRUPTED, REPLACED, TERMINATED, Drain, Terms, terms
from .importer import load_app
from .lifespan import Lifespan
from .listener import Listeners
from .memory import keep_for_the_next
from .notify import Notifier
from .recycling import Recycling
from .signals import Signals, let_threads_go
from .sockets import Bound, url_of

WATCHDOG_SECONDS = 5.0  # for an event loop that is blocked, beyond all other deadlines


REASONS: dict[int, str] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Entrance(Protocol):
    """The entrance of the connections of one event loop."""

    def start(self) -> None:
        """Begin to take connections."""

    def stop(self) -> None:
        """Take those that wait, then no more."""


class Server:
    """Serves one application on one event loop.

    ``run()`` makes the loop and listens to signals; ``await serve()`` runs inside
    a loop of yours, and leaves signals to you; ``async with`` does so for a block.
    """

    def __init__(self, config: Config) -> None:
        """Raises ConfigError if ``config`` asks for several processes, or to reload."""
        if not isinstance(config, Config):
            raise TypeError(f"expected a Config, as in Server(Config(app)), got {config!r:.200}")
        if config.workers > 1:
            raise ConfigError("workers: a Server is one process; asgiws.run starts several")
        if config.reload:
            raise ConfigError("reload: a Server cannot load the application anew; asgiws.run can")
        self.config = config
        self._wanted: tuple[Address, ...] = config.addresses
        self._addresses: list[Any] = []
        self._started = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: Drain | None = None
        self._stop_requested = False
        self._interrupted = False  # by SIGINT, before it was started
        self._task: asyncio.Task[None] | None = None
        self._notifier = Notifier({})
        self._beat_timer: asyncio.TimerHandle | None = None
        self.serving: Serving | None = None

    @property
    def started(self) -> bool:
        """True if connections are accepted, or have been."""
        return self._started.is_set()

    async def wait_started(self) -> None:
        """Wait until connections are accepted; ``serve`` must be running in this loop."""
        await self._started.wait()

    @property
    def addresses(self) -> list[Any]:
        """The addresses of the sockets: ``(host, port, ...)``, or the path of a Unix socket."""
        return list(self._addresses)

    @property
    def urls(self) -> list[str]:
        """The addresses as URLs; ``unix:PATH`` for a Unix socket."""
        return [url_of(address, bool(self.config.ssl_certfile)) for address in self.addresses]

    def shutdown(self, window: float = 0.0, delay: float = 0.0) -> None:
        """Begin the shutdown; from any thread or signal handler, more than once.

        Connections are accepted for ``delay`` seconds more, and then WebSockets and event
        streams are closed evenly over ``window`` seconds. Another call can only make it end
        sooner.
        """
        self.drain(
            terms(self.config, INTERRUPTED)._replace(
                window=window, delay=delay, drawn_out=window > 0
            )
        )

    def _on_signal(self, number: int) -> None:
        self._interrupted = number == signal.SIGINT and not self.started
        self.drain(terms(self.config, REASONS[number]))

    def drain(self, how: Terms) -> None:
        """Begin the shutdown on any terms."""
        self._stop_requested = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._ask, how)
            except RuntimeError:
                pass  # the loop is closed: it is over

    def retire(self, reason: str) -> None:
        """The server has served long enough: end, without hurry."""
        error_log.info("Ending: %s", reason)
        self.drain(terms(self.config, REPLACED)._replace(final=True))

    def _ask(self, how: Terms) -> None:
        if self._drain is not None:
            self._drain.ask(how)

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises StartupError.

        SIGINT during the start raises KeyboardInterrupt.
        """
        threads = set(threading.enumerate())
        status = 0
        try:
            fill_standard_descriptors()
            if asyncio._get_running_loop() is not None:
                raise ConfigError(
                    "asgiws.run was called in an event loop that runs: "
                    "call `await asgiws.Server(asgiws.Config(app)).serve()` there"
                )
            config = self.config
            configure(config.log_level, config.log_config, config.access_log, config.use_colors)
            keep_for_the_next()
            self._ask_the_manager()
            app = self._load_app()
            loop = new_event_loop(config.loop)
            asyncio.set_event_loop(loop)
            with self._signals() as signals:
                try:
                    run_in(loop, self._serve(app), signals.follow)
                finally:
                    close_loop(loop, signals.follow)
            if self._interrupted:
                raise KeyboardInterrupt
        except BaseException as exc:
            status = exc.exit_code if isinstance(exc, StartupError) else 1
            if isinstance(exc, KeyboardInterrupt):
                status = 128 + signal.SIGINT
            raise
        finally:
            let_threads_go(threads, status)

    async def serve(self) -> None:
        """Serve until ``shutdown()``, in the running loop; raises StartupError.

        A second time raises RuntimeError.

        It installs no signal handlers and no logging settings, takes no sockets from
        systemd and tells it nothing. A cancelled call shuts down without waiting for
        requests in progress.
        """
        await self._serve(self._load_app())

    async def __aenter__(self) -> Self:
        """Serve in the running loop, as ``serve`` does, until the block ends.

        The block begins when connections are accepted; raises StartupError if that fails,
        or if it is shut down before.
        """
        loop = asyncio.get_running_loop()  # raises before there is a coroutine to await
        self._task = loop.create_task(self.serve())
        started = loop.create_task(self.wait_started())
        try:
            await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        finally:
            started.cancel()
        if self._task.done():
            await self._task
        if not self.started:
            raise StartupError("the server was shut down before it had started")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Shut down, and wait for its end; raises what ended the server before."""
        assert self._task is not None
        self.shutdown()
        await self._task

    def _ask_the_manager(self) -> None:
        """Take the sockets that a service manager has for this process, and tell it from now on."""
        config = self.config
        passed = take_passed(os.environ)
        self._wanted = where_to_listen(config.addresses, config.listens_by_default, passed)
        self._notifier = Notifier(os.environ)

    def _signals(self) -> Signals:
        """The object that listens to signals while the loop runs."""
        patience = {
            number: terms(self.config, why).most_seconds + WATCHDOG_SECONDS
            for number, why in REASONS.items()
        }
        return Signals(self._on_signal, patience, self._stops)

    def _stops(self) -> bool:
        return self.serving is not None and self.serving.phase == STOPPING

    @contextmanager
    def _entrance(
        self, loop: asyncio.AbstractEventLoop, _serving: Serving, arrivals: Arrivals
    ) -> Iterator[Entrance]:
        """Make the entrance of connections, not open yet."""
        config = self.config
        with Bound(self._wanted, config.uds_permissions) as bound:
            self._addresses = bound.names
            yield Listeners(loop, bound.sockets, arrivals, config.backlog)

    def _place(self, _loop: asyncio.AbstractEventLoop) -> Place:
        """Make the place where the application finds its topics."""
        return Place(self._wanted_topics())

    def _wanted_topics(self, log: int | None = None) -> Wanted:
        config = self.config
        return Wanted(
            config.topics_history,
            config.topics_history_age,
            config.topics_history_memory,
            log,
            config.topics_url,
        )

    def _announce(self) -> None:
        """Connections are accepted: tell it."""
        remarked = remarks()
        for url in self.urls:
            error_log.info(
                "Serving on %s with asgiws, %s, %s (Ctrl-C to stop)",
                url,
                build(),
                parser(self.config.http),
            )
        for remark in remarked:
            error_log.warning(remark)
        self._notifier.ready(f"Serving on {', '.join(self.urls)}")

    def _load_app(self) -> Any:
        config = self.config
        return load_app(
            config.app, app_dir=config.app_dir, factory=config.factory, env_file=config.env_file
        )

    async def _serve(self, app: Any) -> None:
        if self._loop is not None:
            raise RuntimeError("a Server can serve only once: make another one")
        config = self.config
        loop = self._loop = asyncio.get_running_loop()
        if self._stop_requested:
            return
        tls = ssl_context(config)
        notice = DrainNotice()
        lifespan = Lifespan(app, config.lifespan, notice)
        recycling = Recycling(
            config.limit_max_requests,
            config.limit_max_requests_jitter,
            config.limit_max_age,
            self.retire,
        )
        serving = self.serving = make_serving(
            *(config, app, loop, lifespan.state, notice),
            recycling.count if recycling.counts else None,
        )
        protocol = partial(HTTPProtocol, serving, tls is not None)
        arrivals = Arrivals(loop, protocol, tls, config.timeout_request_head)
        drain = self._drain = Drain(serving, arrivals)
        place = self._place(loop)
        place.settle(loop)
        try:
            with self._entrance(loop, serving, arrivals) as entrance:
                begun = False
                try:
                    begun = await _unless(drain.asked, lifespan.startup())
                finally:
                    if not begun:
                        lifespan.cancel()
                if not begun:
                    return
                try:
                    entrance.start()
                    self._started.set()
                    recycling.start(loop)
                    self._announce()
                    self._beat()
                    await drain.asked.wait()
                    self._notifier.stopping()
                    self._beat()
                    recycling.stop()
                    await drain.delay()
                finally:
                    entrance.stop()
        finally:
            try:
                await drain.run()
                await lifespan.shutdown(max(drain.patience, CANCEL_SECONDS))
            finally:
                await place.leave()
            self._notifier.close()
            if self.started:
                self._announce_end()

    def _announce_end(self) -> None:
        """Nothing is served any more: tell it."""
        error_log.info("Stopped")

    def _beat(self) -> None:
        """Show the service manager that the loop runs, now and as often as it wants."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_timer = None
        delay = self._notifier.beat()
        if delay is not None:
            assert self._loop is not None
            self._beat_timer = self._loop.call_later(delay, self._beat)


def make_serving(
    config: Config,
    app: Any,
    loop: asyncio.AbstractEventLoop,
    state: dict[str, Any],
    notice: DrainNotice,
    count: Callable[[], object] | None,
) -> Serving:
    """The things that all connections of one loop share, as ``config`` says.

    ``count`` is called with every call of the application, if it is given.
    """
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
    rate = config.limit_handshakes
    serving = (Serving if count is None else Counting)(
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
            pathsend=config.pathsend,
        ),
        Pulse(loop, limits),
        None if ANY in hosts else Hosts(hosts),
        Origins(config.ws_origins.split(",")),
        Proxies(config.forwarded_allow_ips) if config.proxy_headers else None,
        DefaultHeaders(config.headers, config.date_header, config.server_header),
        notice,
        None if rate is None else Admission(loop, rate),
        reader(parser(config.http)),
    )
    if isinstance(serving, Counting):
        assert count is not None
        serving.count = count
    return serving


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """An event loop, as ``--loop`` names it; it has no traceback for a disconnect."""
    loop = _bare_event_loop(name)
    loop.set_exception_handler(_report)
    return loop


def _bare_event_loop(name: str) -> asyncio.AbstractEventLoop:
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass  # Config has refused --loop uvloop then: this is auto
        else:
            return uvloop.new_event_loop()
    # A selector loop on every system: the proactor cannot watch a listening socket.
    return asyncio.SelectorEventLoop()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what asyncio has found, such as a task that failed and was never awaited.

    An application's writer ends so when the client leaves. Which client it was is not
    known here, and the disconnect may be another connection's: one line tells of it.
    """
    exc = context.get("exception")
    if tells_of_disconnect(exc):
        error_log.info("%s in a task that the application started", type(exc).__name__)
    else:
        loop.default_exception_handler(context)


async def _unless(stop: asyncio.Event, call: Any) -> bool:
    """Await ``call`` unless ``stop`` is set first; return whether it came to a good end."""
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


def _nothing() -> None:
    pass


def run_in(
    loop: asyncio.AbstractEventLoop,
    call: Coroutine[Any, Any, object],
    follow: Callable[[], object] = _nothing,
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
                "%s in a task that the application started", type(exc).__name__, exc_info=exc
            )


def close_loop(loop: asyncio.AbstractEventLoop, follow: Callable[[], object] = _nothing) -> None:
    """Close the loop; the tasks that the application started elsewhere get one second."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        run_in(loop, _waited(tasks), follow)
    try:
        run_in(loop, asyncio.wait_for(loop.shutdown_asyncgens(), timeout=CANCEL_SECONDS), follow)
    except TimeoutError:
        pass
    asyncio.set_event_loop(None)
    loop.close()


async def _waited(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
