"""The uvicorn that is installed, serving with asgiws.

    python -m asgiws.uvicorn SCRIPT [ARGUMENT ...]
    python -m asgiws.uvicorn -m MODULE [ARGUMENT ...]

run a program that calls uvicorn; in a program, ``install()`` does the same.

Two parts of ``uvicorn.Server`` are replaced: the part of ``startup`` after the application has
started, and the part of ``shutdown`` until the application is told. So sockets, connections and
their end are asgiws's. All else stays uvicorn's: Config, the lifespan, signals, the main loop,
loggers, exit codes, its processes for ``workers`` and ``reload``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import os
import runpy
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

try:
    import uvicorn
except ModuleNotFoundError as error:
    if __name__ != "__main__" or error.name != "uvicorn":
        raise
    sys.exit(
        f"python -m asgiws.uvicorn: uvicorn is not installed for {sys.executable}: install asgiws "
        "beside the program, and use the Python of that environment"
    )

import uvicorn._subprocess as subprocess
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ._build import build, remarks
from .asgi import ASGIApp, Receive, Scope, Send
from .errors import ConfigError, StartupError
from .fanout.current import Place
from .fanout.history import Wanted
from .http.connection import HTTPProtocol
from .http.notice import DrainNotice
from .log import SILENT, access_log, error_log
from .options.addresses import Address, Descriptor, Inet, Unix
from .options.config import COMPRESSION, HTTP, OPTIONS, TOPICS, WEBSOCKET, Config, find, parser
from .options.sources import read_variables
from .process.arrivals import Arrivals
from .process.drain import DEFAULT_WINDOWS, INTERRUPTED, TERMINATED, Drain, Terms
from .process.listener import Listeners
from .process.server import make_serving
from .process.sockets import PERMISSIONS, Bound

# The options that mean the same in both.
SAME = (
    "backlog",
    "date_header",
    "h11_max_incomplete_event_size",
    "headers",
    "http",
    "limit_concurrency",
    "root_path",
    "server_header",
    "timeout_keep_alive",
    "ws_max_queue",
    "ws_max_size",
    "ws_per_message_deflate",
    "ws_ping_interval",
    "ws_ping_timeout",
)
# Options that asgiws does not have, and that uvicorn's Config does not carry out either.
FOREIGN = ("http2", "reset_contextvars", "ws")

# Those that uvicorn does not have, and that the environment can set: ASGIWS_TOPICS_URL.
OWN = {option.name for option in OPTIONS if option.group in (HTTP, WEBSOCKET, COMPRESSION, TOPICS)}
OWN |= {"limit_handshakes", "timeout_write"}

STARTUP_FAILURE = 3  # uvicorn's exit code; where it has the name depends on its version
FORCED_SECONDS = 0.1  # between two looks at ``force_exit``

logger = logging.getLogger("uvicorn.error")
# uvicorn's own methods, which install() replaces.
_their_shutdown = uvicorn.Server.shutdown
_subprocess_started = subprocess.subprocess_started
_told: set[str] = set()


def install() -> None:
    """Let every ``uvicorn.Server`` that starts from now on serve with asgiws.

    Subclasses are included, and the processes that uvicorn starts for ``workers`` and
    ``reload``. To be called before the server starts; a second call changes nothing.
    """
    uvicorn.Server.startup = _startup  # type: ignore[method-assign]
    uvicorn.Server.shutdown = _shutdown  # type: ignore[method-assign]
    subprocess.subprocess_started = start_process


def start_process(*args: Any, **options: Any) -> None:
    """Install, and go on: a process of uvicorn's runs this after it has imported the program."""
    install()
    _subprocess_started(*args, **options)


# --- In place of uvicorn's methods -----------------------------------------------------


async def _startup(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
    try:
        served = _Served(self)
    except ConfigError as error:
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    try:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        try:
            served.listen(sockets)
        except (StartupError, OSError) as error:
            logger.error("%s", error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
    except BaseException:
        await served.leave()
        raise
    _servings[self] = served
    self.servers = served.entrances  # type: ignore[assignment]  # as far as they are looked at
    if sockets is None:
        self._log_started_message(served.sockets)
    self.started = True


async def _shutdown(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
    served = _servings.pop(self, None)
    if served is None:  # it was started before install(), or by a subclass in another way
        await _their_shutdown(self, sockets)
        return
    logger.info("Shutting down")
    try:
        await served.end()
        for sock in sockets or ():
            sock.close()
        if not self.force_exit:
            await self.lifespan.shutdown()
    finally:
        await served.leave()


class _Served:
    """One server's topics, sockets and connections, from startup to shutdown."""

    def __init__(self, server: uvicorn.Server) -> None:
        """Let all code that runs from now on, also the lifespan, find its topics here."""
        self._server = server
        theirs = server.config
        loop = self._loop = asyncio.get_running_loop()
        _take_over_logging()
        app: Any = theirs.loaded_app
        proxies = None
        if type(app) is ProxyHeadersMiddleware and hasattr(
            app.trusted_hosts, "get_trusted_client_address"
        ):
            # The access log, too, is to tell the client, and not the proxy.
            app, proxies = app.app, _Proxies(app.trusted_hosts)
        if theirs.ws_protocol_class is None:
            app = _without_websockets(app)
        config = self._config = translated(theirs, app)
        state = server.server_state

        def count() -> None:
            state.total_requests += 1

        serving = make_serving(config, app, loop, server.lifespan.state, DrainNotice(), count)
        serving.proxies = proxies  # type: ignore[assignment]  # as far as it is asked
        state.connections = serving.connections
        state.tasks = serving.tasks.keys()  # type: ignore[assignment]  # a set that follows it
        self._arrivals = Arrivals(
            loop,
            partial(HTTPProtocol, serving, theirs.ssl is not None),
            theirs.ssl,
            config.timeout_request_head,
        )
        self._drain = Drain(serving, self._arrivals)
        self._bound = Bound(())
        self.sockets: Sequence[socket.socket] = ()
        self.entrances: list[Entrance] = []
        self._place = Place(
            Wanted(
                config.topics_history,
                config.topics_history_age,
                config.topics_history_memory,
                None,
                config.topics_url,
            )
        )
        self._place.settle(loop)

    def listen(self, sockets: list[socket.socket] | None) -> None:
        """Listen on these sockets, or where the Config says; raises StartupError or OSError."""
        theirs = self._server.config
        if sockets is None:
            self._bound.change([_address(theirs)], _permissions(theirs))
        self.sockets = self._bound.sockets if sockets is None else sockets
        # uvicorn has one server for all addresses of a host, and one for each socket given.
        groups = [self.sockets] if sockets is None else [[sock] for sock in sockets]
        self.entrances = [
            Entrance(self._loop, group, self._arrivals, self._config.backlog) for group in groups
        ]
        try:
            for entrance in self.entrances:
                entrance.open()
        except StartupError:
            self._bound.close()
            raise
        logger.info("Serving with asgiws, %s, %s", build(), parser(self._config.http))
        for remark in remarks():
            logger.warning(remark)

    async def end(self) -> None:
        """End all connections; at once when the server's ``force_exit`` is set."""
        self._drain.ask(_terms(self._server))
        for entrance in self.entrances:
            entrance.close()
        drained = asyncio.ensure_future(self._drain.run())
        while not drained.done():
            await asyncio.wait([drained], timeout=FORCED_SECONDS)
            if self._server.force_exit:
                self._drain.ask(Terms(0.0, 0.0))
        self._bound.close()
        drained.result()

    async def leave(self) -> None:
        """The application has ended: end its topics."""
        await self._place.leave()


_servings: WeakKeyDictionary[uvicorn.Server, _Served] = WeakKeyDictionary()


class Entrance(asyncio.AbstractServer):
    """Listening sockets, as asyncio shows those of its servers: ``uvicorn.Server.servers``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        arrivals: Arrivals,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._sockets = tuple(sockets)
        self._listeners = Listeners(loop, sockets, arrivals, backlog)
        self._closed = asyncio.Event()

    def open(self) -> None:
        """Begin to accept; raises BindError, and ConfigError if the loop cannot."""
        self._listeners.start()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that are listened on."""
        return () if self._closed.is_set() else self._sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return not self._closed.is_set()

    async def start_serving(self) -> None:
        pass  # it does

    async def serve_forever(self) -> None:
        await self._closed.wait()

    def close(self) -> None:
        """Accept the connections in the backlogs, then close the sockets."""
        if not self._closed.is_set():
            self._closed.set()
            self._listeners.stop()
            for sock in self._sockets:
                sock.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()


# --- Options ---------------------------------------------------------------------------


def translated(theirs: uvicorn.Config, app: ASGIApp) -> Config:
    """The options of asgiws for a loaded Config of uvicorn; those left out are told, once.

    ``proxy_headers``, ``interface`` and ``log_level`` trace are not among them: uvicorn has
    wrapped the application for these. Neither are ``ssl_*``, of which it has made a context.
    Options that uvicorn does not have come from ``ASGIWS_*``; raises ConfigError for these.
    """
    variables: dict[str, Any] = {}
    read_variables(os.environ, variables, {})
    options = {n: v for n, v in variables.items() if n in OWN and not hasattr(theirs, n)}
    options["proxy_headers"] = False
    for name in SAME:
        if not hasattr(theirs, name):  # an older uvicorn
            continue
        value = getattr(theirs, name)
        try:
            Config(app, **{name: value})
        except ConfigError as error:
            _tell(f"{error}; asgiws goes by its own default")
        else:
            options[name] = value
    for name in FOREIGN:
        value = getattr(theirs, name, None)
        # Without a WebSocket implementation there are no WebSockets here either.
        if value is not None and value != "none":
            try:
                find(name, value, f"Config({name}={value!r})", lambda declared: declared.name)
            except ConfigError as error:
                _tell(str(error))
    return Config(app, **options)


def _tell(what: str) -> None:
    if what not in _told:
        _told.add(what)
        logger.warning("%s", what)


def _address(config: uvicorn.Config) -> Address:
    if config.fd is not None:
        return Descriptor(os.dup(config.fd))  # the caller's stays open, as with uvicorn
    return Inet(config.host or "", config.port) if config.uds is None else Unix(config.uds)


def _permissions(config: uvicorn.Config) -> int:
    """The permissions for the file of a Unix socket: its present ones, if it exists."""
    if config.uds is not None and os.path.exists(config.uds):
        return os.stat(config.uds).st_mode & 0o777
    return PERMISSIONS


def _terms(server: uvicorn.Server) -> Terms:
    """The end of the connections: evenly on SIGTERM, all at once if somebody waits for it."""
    config = server.config
    paced = signal.SIGTERM in getattr(server, "_captured_signals", ()) and not config.reload
    patience = config.timeout_graceful_shutdown
    return Terms(
        window=DEFAULT_WINDOWS[TERMINATED if paced else INTERRUPTED],
        patience=math.inf if patience is None else patience,
    )


class _Proxies:
    """Stands in for asgiws's Proxies: uvicorn decides whom a forwarded request is from."""

    def __init__(self, trusted: Any) -> None:
        self._trusted = trusted

    def trust(self, address: str | None) -> bool:
        """Return whether the peer at ``address`` (None for a Unix socket) is believed."""
        return address in self._trusted

    def client(self, forwarded: list[bytes]) -> tuple[str, int] | None:
        """The client according to all X-Forwarded-For values of a trusted peer's request."""
        text = b", ".join(forwarded).decode("latin-1")
        host, port = self._trusted.get_trusted_client_address(text)
        return (host, port) if host else None


def _without_websockets(app: ASGIApp) -> ASGIApp:
    """The same application; opening handshakes are refused with 403."""

    async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await app(scope, receive, send)

    return http_only


# --- The log ---------------------------------------------------------------------------


class _Handover(logging.Handler):
    """Gives records to another logger, with its filters and handlers."""

    def __init__(self, to: logging.Logger) -> None:
        super().__init__()
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        record.name = self._to.name
        self._to.handle(record)


def _take_over_logging() -> None:
    """Pass our log records on to uvicorn's loggers, at their levels."""
    for ours, name in ((error_log, "uvicorn.error"), (access_log, "uvicorn.access")):
        theirs = logging.getLogger(name)
        ours.parent = theirs  # its level counts
        ours.propagate = ours.disabled = False
        ours.handlers[:] = [_Handover(theirs)]
        # access_log=False takes the handlers away; then a line is not even made.
        ours.setLevel(logging.NOTSET if theirs.hasHandlers() else SILENT)


# --- The command line ------------------------------------------------------------------

USAGE = """\
usage: python -m asgiws.uvicorn SCRIPT [ARGUMENT ...]
       python -m asgiws.uvicorn -m MODULE [ARGUMENT ...]

Runs a program that calls uvicorn, and serves with asgiws instead. SCRIPT is a file, or a
command that is a Python program.
"""


def main(arguments: Sequence[str]) -> None:
    """Run the program of the arguments as Python would, with asgiws installed."""
    match arguments:
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return
        case ["-m", module, *rest]:
            _find(module)
            install()
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *rest] if script[:1] != "-":
            path = _script(script)
            install()
            sys.argv = [path, *rest]
            if not sys.flags.safe_path:
                sys.path[0] = str(Path(path).resolve().parent)
            runpy.run_path(path, run_name="__main__")
        case _:
            print(USAGE, end="", file=sys.stderr)
            sys.exit(2)


def _find(module: str) -> None:
    """Exit if the module, or the ``__main__`` of a package, does not exist."""
    try:
        spec = find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{module}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, and another one that it imports does not
        spec = None
    if spec is None:
        _refuse(module, "there is no such module, or it cannot be run")


def _script(name: str) -> str:
    """The file to run: the one given, or the command of that name beside this Python or in PATH."""
    path = Path(name)
    if path.is_file() or (path / "__main__.py").is_file():
        return name
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    if found is None:
        _refuse(name, "there is no such file or command")
    if b"python" not in Path(found).read_bytes()[:256]:
        _refuse(name, f"{found} is not in Python")
    return found


def _refuse(what: str, reason: str) -> NoReturn:
    print(f"python -m asgiws.uvicorn: {what}: {reason}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    # Under the name by which others, and the processes of uvicorn's, know it.
    importlib.import_module(f"{__package__}.uvicorn").main(sys.argv[1:])
