"""Every option, declared once.

The declaration is a field of ``Config``: its name, its default and, in
``option(...)``, its group, its kind and its help. The command line, the
``ASGIWS_*`` environment, the ``[tool.asgiws]`` table, ``Config(...)`` in Python,
the table in docs/options.md and the tests are readings of that declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

from ..asgi import Application
from ..errors import ConfigError
from ..log import LEVELS
from ..text import clip
from ..wire.deflate import LIBRARIES
from .addresses import Address, Descriptor, Inet, Unix, parse_address
from .kinds import (
    BROKERS,
    Option,
    addresses,
    application,
    asks_for_nothing,
    bind_addresses,
    broker,
    choice,
    close_code,
    close_reason,
    convert,
    directory,
    file,
    header_lines,
    hosts,
    level,
    log_settings,
    option,
    origins,
    permissions,
    seconds,
    several,
    switch,
    text,
    whole,
)
from .typed import Options

APPLICATION = "Application"
RELOAD = "Reload"
LISTENING = "Listening"
WORKERS = "Workers"
HTTP = "HTTP"
WEBSOCKET = "WebSocket"
COMPRESSION = "WebSocket compression"
TOPICS = "Topics"
LIMITS = "Limits and shutdown"
PROXIES = "Proxies"
TLS = "TLS"
LOGGING = "Logging"

MOST_WORKERS = 128

# The distributions of the packages that speak with brokers, and their least major versions.
OLDEST = {"redis": ("redis", 8), "nats": ("nats-py", 2)}


@dataclass(frozen=True, init=False)
class Config:
    """The configuration of one server. A value that cannot work raises ``ConfigError``.

    The fields are the options in their final form; ``Options`` has the types in which they may be
    given. Only the arguments are read, no environment and no file.
    """

    app: Any = option(  # noqa: RUF009
        dataclasses.MISSING,
        APPLICATION,
        application(),
        "The application: its import string, module:attribute.",
    )
    app_dir: str = option(
        "",
        APPLICATION,
        directory(),
        "Directory in which APP is looked for first.",
        shown="the current directory",
        nothing=(None,),
    )
    factory: bool = option(
        False, APPLICATION, switch(), "APP is a function that returns the application."
    )
    lifespan: str = option(
        "auto",
        APPLICATION,
        choice("auto", "on", "off"),
        "The lifespan protocol; auto goes on without it if the application does not have one.",
    )
    root_path: str = option(
        "",
        APPLICATION,
        text("empty or a path that begins with /", "PATH", "(/.*)?"),
        "Path under which a proxy mounts the application (ASGI root_path).",
    )
    env_file: str | None = option(
        None,
        APPLICATION,
        file(),
        "Environment variables for the application, in dotenv format; set variables win. "
        "Needs asgiws[dotenv].",
    )

    reload: bool = option(
        False,
        RELOAD,
        switch(),
        "For development: restart when a file of the application changes. Needs asgiws[reload].",
    )
    reload_dirs: tuple[str, ...] = option(
        (),
        RELOAD,
        several(directory()),
        "Directory to watch with all below it. May be repeated.",
        flag="reload-dir",
        shown="the current one and --app-dir",
        nothing=(None,),
    )
    reload_includes: tuple[str, ...] = option(
        (),
        RELOAD,
        several(text("a pattern of paths", "PATTERN", ".+")),
        "Files to watch besides *.py, as in '*.html' or .env. May be repeated.",
        flag="reload-include",
        nothing=(None,),
    )
    reload_excludes: tuple[str, ...] = option(
        (),
        RELOAD,
        several(text("a pattern of paths", "PATTERN", ".+")),
        "Files and directories not to watch, as in 'test_*.py' or migrations, even if "
        "another option includes them. May be repeated.",
        flag="reload-exclude",
        nothing=(None,),
    )
    # uvicorn's 0.25 is a pause between two looks; here each restart would wait for it.
    reload_delay: float = option(
        0.1,
        RELOAD,
        seconds(zero=True),
        "How long no file must have changed before the restart.",
        nothing=(0.25,),
    )

    bind: tuple[str, ...] = option(
        (),
        LISTENING,
        bind_addresses(),
        "Address to listen on: host:port, [v6]:port, unix:path or fd://N. May be repeated.",
    )
    host: str = option(
        "127.0.0.1",
        LISTENING,
        text(metavar="ADDRESS"),
        "Address to listen on, as in --bind HOST:PORT; localhost and '' listen on IPv4 and IPv6.",
    )
    port: int = option(
        8000, LISTENING, whole(0, 65535), "Port to listen on; 0 picks a free one and prints it."
    )
    uds: str | None = option(
        None,
        LISTENING,
        text("the path of a socket", "PATH", ".+", typed="StrPath"),
        "Listen on a Unix socket instead, as with --bind unix:PATH.",
    )
    uds_permissions: int = option(
        0o666,
        LISTENING,
        permissions(),
        "Permissions of the file of a Unix socket.",
        shown="666",
    )
    fd: int | None = option(
        None,
        LISTENING,
        whole(0, none=True),
        "Listen on the socket with this file descriptor, as with --bind fd://NUMBER.",
    )
    backlog: int = option(
        2048, LISTENING, whole(1), "Connections that may wait in the kernel to be accepted."
    )
    loop: str = option(
        "auto",
        LISTENING,
        choice("auto", "uvloop", "asyncio", none="asyncio"),
        "Event loop; auto takes uvloop where it is installed.",
    )

    workers: int = option(
        1,
        WORKERS,
        whole(1, MOST_WORKERS),
        "Processes that serve; with several a supervisor hands each connection to the emptiest.",
        fallback="WEB_CONCURRENCY",
        nothing=(None,),
    )
    timeout_worker_healthcheck: float | None = option(
        5.0,
        WORKERS,
        seconds(none=True),
        "How long the event loop of a worker may stand still before the worker is killed and "
        "replaced; none waits for ever.",
    )
    timeout_worker_start: float | None = option(
        300.0,
        WORKERS,
        seconds(none=True),
        "How long a worker may take to start before it is killed; none waits for ever.",
    )

    http: str = option(
        "auto",
        HTTP,
        choice("auto", "h11", "httptools"),
        "Parser of the heads of requests; auto takes httptools where it is installed "
        "(asgiws[httptools]). Both give the same results.",
        nothing=(None,),
    )
    headers: tuple[tuple[bytes, bytes], ...] = option(
        (),
        HTTP,
        header_lines(),
        "Header to add to every response, 'Name: value'. May be repeated.",
        flag="header",
        nothing=(None,),
    )
    allowed_hosts: str = option(
        "*",
        HTTP,
        hosts(),
        "Hosts that are served, compared with the Host header: example.com, "
        "*.example.com, 127.0.0.1, [::1] with commas between, or * for all; others get "
        "421.",
    )
    pathsend: bool = option(
        False,
        HTTP,
        switch(),
        "Announce http.response.pathsend: FileResponse gives the path of a file instead of its "
        "bytes. Middlewares that do not know it lose such a response.",
    )
    server_header: bool = option(True, HTTP, switch(), "Send 'server: asgiws'.")
    date_header: bool = option(True, HTTP, switch(), "Send the date.")
    timeout_request_head: float = option(
        10.0, HTTP, seconds(), "How long a request's head, or a TLS handshake, may take to arrive."
    )
    # nginx also waits 60 s for the next bytes of a body.
    timeout_request_body: float | None = option(
        60.0,
        HTTP,
        seconds(none=True),
        "How long a client may send nothing of a body that the application waits for, "
        "before it gets 408; none waits for ever.",
    )
    timeout_keep_alive: float = option(
        5.0, HTTP, seconds(zero=True), "How long a connection may be idle between two requests."
    )
    h11_max_incomplete_event_size: int = option(
        65536,
        HTTP,
        whole(256),
        "Most bytes of a request's head; a longer one is answered 431.",
        nothing=(None,),
    )

    ws_max_size: int = option(
        16777216,
        WEBSOCKET,
        whole(1),
        "Most bytes of a message, inflated; a longer one fails the connection with 1009.",
    )
    ws_max_queue: int = option(
        32,
        WEBSOCKET,
        whole(1),
        "Messages that may wait for the application before the server stops reading.",
    )
    ws_ping_interval: float | None = option(
        20.0, WEBSOCKET, seconds(none=True), "Time between keepalive pings; none sends no pings."
    )
    ws_ping_timeout: float | None = option(
        20.0,
        WEBSOCKET,
        seconds(none=True),
        "How long a client may be silent after a ping before its connection is closed with 1011; "
        "none waits for ever.",
    )
    ws_close_timeout: float = option(
        10.0, WEBSOCKET, seconds(), "How long a client has to answer a close frame."
    )
    # Browsers wait 20 seconds to 4 minutes for the answer to a handshake.
    ws_accept_timeout: float | None = option(
        300.0,
        WEBSOCKET,
        seconds(none=True),
        "How long the application may take to accept or deny before the client gets 504; "
        "none waits for ever.",
    )
    ws_idle_timeout: float | None = option(
        None,
        WEBSOCKET,
        seconds(none=True),
        "How long a WebSocket may be without a message in either direction before it is closed "
        "with 1001; none keeps idle WebSockets.",
    )
    ws_origins: str = option(
        "*",
        WEBSOCKET,
        origins(),
        "Pages that may open a WebSocket, by their Origin: same-host, null, "
        "https://example.com, https://*.example.com with commas between, or * for all; "
        "others get 403. A client that sends no Origin is not a browser, and is let in.",
    )

    ws_per_message_deflate: bool = option(
        True, COMPRESSION, switch(), "Accept permessage-deflate where a client offers it."
    )
    ws_deflate_window_bits: int = option(
        12,
        COMPRESSION,
        whole(9, 15),
        "Window of the compressor; each bit doubles its memory.",
    )
    ws_deflate_mem_level: int = option(
        5, COMPRESSION, whole(1, 9), "Memory of the compressor beside its window."
    )
    ws_deflate_level: int = option(
        6, COMPRESSION, whole(0, 9), "Effort of the compressor: 1 is fast, 9 is small."
    )
    ws_deflate_context_takeover: bool = option(
        True,
        COMPRESSION,
        switch(),
        "Keep the window from one message to the next: smaller messages, more memory.",
    )
    ws_deflate_min_size: int = option(
        128, COMPRESSION, whole(0), "Messages of fewer bytes are sent uncompressed."
    )
    ws_deflate_library: str = option(
        "zlib",
        COMPRESSION,
        choice("zlib", "zlib-ng"),
        "Library that compresses; zlib-ng is faster with large messages and takes 130 KiB "
        "more for a connection.",
    )

    topics_history: int = option(
        0,
        TOPICS,
        whole(0),
        "How many messages of each topic are kept for later subscribers, unless the application "
        "calls topics.keep for it.",
    )
    topics_history_age: float = option(
        300.0, TOPICS, seconds(), "How long the messages of a topic are kept."
    )
    topics_history_memory: int = option(
        16_777_216,
        TOPICS,
        whole(65_536),
        "Bytes of memory for all messages that are kept; the workers of a machine share it.",
    )

    topics_url: str | None = option(
        None,
        TOPICS,
        broker(),
        "Broker over which topics reach other machines; put a URL with a password into the "
        "environment.",
        secret=True,
    )

    # nginx also cuts off after 60 s.
    timeout_write: float | None = option(
        60.0,
        LIMITS,
        seconds(none=True),
        "How long a client may read nothing while data wait for it before it is cut off; "
        "none waits for ever.",
    )
    limit_concurrency: int | None = option(
        None,
        LIMITS,
        whole(1, none=True),
        "Most connections, or requests in progress; others are answered 503.",
    )
    limit_handshakes: int | None = option(
        None,
        LIMITS,
        whole(1, none=True),
        "Most WebSocket handshakes that begin in a second, all workers together; as many may wait, "
        "and others are answered 503 with Retry-After.",
    )
    limit_max_requests: int | None = option(
        None,
        LIMITS,
        whole(1, none=True),
        "Requests and WebSockets after which the server drains and ends, or a worker is replaced.",
    )
    limit_max_requests_jitter: int = option(
        0,
        LIMITS,
        whole(0),
        "Most requests that are added to --limit-max-requests at random, so that workers do not "
        "end together.",
    )
    limit_max_age: float | None = option(
        None,
        LIMITS,
        seconds(none=True),
        "Age at which the server drains and ends, or a worker is replaced; up to a tenth "
        "is added at random.",
    )
    timeout_graceful_shutdown: float = option(
        10.0,
        LIMITS,
        seconds(zero=True),
        "How long a shutdown waits for requests in progress before it cancels them, "
        "counted from the end of --drain-window.",
        nothing=(None,),
    )
    drain_delay: float = option(
        0.0,
        LIMITS,
        seconds(zero=True),
        "How long connections are accepted after SIGTERM, while the application can "
        "already tell that the server drains (scope['extensions']['asgiws.drain']).",
    )
    drain_window: float | None = option(
        None,
        LIMITS,
        seconds(zero=True),
        "Time over which WebSockets and event streams are closed evenly when the server drains.",
        shown="3 on SIGTERM, 10 where a worker is replaced",
    )
    drain_code: int = option(
        1012, LIMITS, close_code(), "Close code of WebSockets when the server drains."
    )
    drain_reason: str = option(
        "",
        LIMITS,
        close_reason(),
        "Reason that is sent with --drain-code, 123 bytes of UTF-8 at most.",
    )

    proxy_headers: bool = option(
        True,
        PROXIES,
        switch(),
        "Take client address and scheme from X-Forwarded-For and X-Forwarded-Proto if the "
        "peer is trusted.",
    )
    forwarded_allow_ips: str = option(
        "127.0.0.1",
        PROXIES,
        addresses(),
        "Trusted proxies: IP addresses and networks with commas between, or * for every peer.",
        fallback="FORWARDED_ALLOW_IPS",
        nothing=(None,),
    )

    ssl_certfile: str | None = option(
        None, TLS, file(), "Certificate chain (PEM); switches to https:// and wss://."
    )
    ssl_keyfile: str | None = option(
        None, TLS, file(), "Private key (PEM), if --ssl-certfile does not hold it."
    )
    ssl_keyfile_password: str | None = option(
        None, TLS, text(), "Password of the private key.", secret=True
    )
    ssl_ca_certs: str | None = option(
        None, TLS, file(), "Certificates (PEM) that client certificates are checked against."
    )
    ssl_cert_reqs: int = option(
        0,
        TLS,
        whole(0, 2),
        "Client certificates: 0 does not ask for them, 1 accepts them, 2 requires them.",
    )
    ssl_ciphers: str | None = option(
        None,
        TLS,
        text("an OpenSSL cipher list", "CIPHERS", ".+"),
        "Ciphers of TLS 1.2, as an OpenSSL cipher list.",
        shown="OpenSSL's",
        nothing=("TLSv1",),  # uvicorn's default, once
    )

    log_level: str | None = option(
        None,
        LOGGING,
        level(LEVELS),
        "Least level that is logged; trace logs every ASGI event.",
        shown="info",
    )
    log_config: str | dict[str, Any] | None = option(  # noqa: RUF009
        None,
        LOGGING,
        log_settings(),
        "Logging settings (.json, .toml, .yaml with PyYAML, otherwise .ini) for Python's "
        "logging.config.",
    )
    access_log: bool = option(
        True, LOGGING, switch(), "Log one line per HTTP request and per WebSocket session."
    )
    use_colors: bool | None = option(
        None, LOGGING, switch(), "Colours in the log.", shown="on a terminal"
    )

    def __init__(self, app: Application, **options: Unpack[Options]) -> None:
        """``app`` is the application or its import string; with ``factory`` what makes it."""
        given: dict[str, Any] = {"app": app}
        for name, value in options.items():
            if name in BY_NAME:
                given[name] = value
            elif find(name, value, f"Config({name}=...)", lambda declared: declared.name):
                raise ConfigError(f"Config({name}=...): in Python its name is {_BY_KEY[name].name}")
        for declared in OPTIONS:
            raw = given.get(declared.name, declared.default)
            where = f"Config({declared.name}={'...' if declared.secret else repr(raw)})"
            value = convert(declared.check, raw, declared, where, declared.name)
            object.__setattr__(self, declared.name, value)
        for names, message in contradictions(self):
            raise Contradiction(message, names)

    @property
    def listens_by_default(self) -> bool:
        """True if no option says where to listen."""
        return not self.bind and not _short_options(self)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses to listen on: ``bind``, or else the short forms and their defaults."""
        return tuple(map(parse_address, self.bind)) or (_short_form(self),)


class Contradiction(ConfigError):
    """Options that are right one by one but not together; ``names`` are the fields."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


def _short_form(config: Config) -> Address:
    """The address of ``host``, ``port``, ``uds`` and ``fd``."""
    if config.fd is not None:
        return Descriptor(config.fd)
    return Inet(config.host, config.port) if config.uds is None else Unix(config.uds)


def _short_options(config: Config) -> tuple[str, ...]:
    """The short forms that do not have their default, by name."""
    names = ("host", "port", "uds", "fd")
    return tuple(name for name in names if getattr(config, name) != BY_NAME[name].default)


def contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options that contradict each other: their fields, and the message about them."""
    if config.uds is not None and config.fd is not None:
        yield ("uds", "fd"), "--uds and --fd each name the one socket to listen on: give one"
    short = _short_options(config)
    if config.bind and short:
        flags = " and ".join(BY_NAME[name].flag for name in short)
        message = f"{flags} cannot stand beside --bind: write it as --bind {_short_form(config)}"
        yield ("bind", *short), message
    if config.ssl_certfile is None:
        for name in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs", "ssl_ciphers"):
            if getattr(config, name) is not None:
                yield (name,), f"{BY_NAME[name].flag} does nothing without --ssl-certfile"
    if config.ssl_cert_reqs and config.ssl_ca_certs is None:
        message = "--ssl-cert-reqs asks for client certificates: --ssl-ca-certs must say whose"
        yield ("ssl_cert_reqs",), message
    if config.reload and not isinstance(config.app, str):
        message = '--reload imports the application anew: give its import string, as in "main:app"'
        yield ("reload",), f"{message}, not the object"
    if config.reload and importlib.util.find_spec("watchfiles") is None:
        message = "--reload: watchfiles is not installed (pip install 'asgiws[reload]')"
        yield ("reload",), message
    if config.workers > 1 and not isinstance(config.app, str):
        message = 'each worker imports the application anew: give it as "module:attribute"'
        yield ("workers",), f"--workers {config.workers}: {message}"
    if (config.reload or config.workers > 1) and os.name != "posix":
        what = "--reload" if config.reload else f"--workers {config.workers}"
        yield ("reload", "workers"), f"{what}: this system cannot hand over sockets"
    if config.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        yield ("loop",), "--loop uvloop: uvloop is not installed (pip install uvloop)"
    if config.http == "httptools" and importlib.util.find_spec("httptools") is None:
        message = "httptools is not installed (pip install 'asgiws[httptools]')"
        yield ("http",), f"--http httptools: {message}"
    if config.ws_deflate_library not in LIBRARIES:
        message = "zlib-ng is not installed (pip install 'asgiws[zlib-ng]')"
        yield ("ws_deflate_library",), f"--ws-deflate-library zlib-ng: {message}"
    if config.topics_url is not None:
        package = BROKERS[config.topics_url.partition(":")[0]]
        if importlib.util.find_spec(package) is None:
            install = f"pip install 'asgiws[{package}]'"
            yield ("topics_url",), f"--topics-url: {package} is not installed ({install})"
            return
        distribution, oldest = OLDEST[package]
        if int(importlib.metadata.version(distribution).partition(".")[0]) < oldest:
            install = f"pip install -U 'asgiws[{package}]'"
            message = f"{distribution} must be {oldest} or newer ({install})"
            yield ("topics_url",), f"--topics-url: {message}"


OPTIONS = tuple(Option.of(field) for field in dataclasses.fields(Config))
BY_NAME = {declared.name: declared for declared in OPTIONS}
# Keys are compared with underscores. An option with a plural field answers to both names.
_BY_KEY = {declared.key.replace("-", "_"): declared for declared in OPTIONS}
_BY_KEY |= BY_NAME


def parser(name: str) -> str:
    """The parser that ``--http`` selects: h11 or httptools."""
    if name != "auto":
        return name
    return "h11" if importlib.util.find_spec("httptools") is None else "httptools"


class Foreign(NamedTuple):
    """An option of uvicorn that asgiws does not have.

    ``hint`` explains why, ``nothing`` are the values that ask for nothing that asgiws does not do.
    """

    hint: str = ""
    nothing: tuple[object, ...] = (None,)


UVICORN_ONLY = {
    "http2": Foreign("it speaks HTTP/1.1", (False,)),
    "ws": Foreign("it has a WebSocket implementation of its own and needs no choice", ("auto",)),
    "interface": Foreign("it serves ASGI 3 applications", ("auto", "asgi3")),
    "ssl-version": Foreign(
        "the newest version that both sides know is taken", (ssl.PROTOCOL_TLS_SERVER.value,)
    ),
    "ssl-context-factory": Foreign(),
    "timeout-notify": Foreign(nothing=(30,)),
    "callback-notify": Foreign(),
    "reset-contextvars": Foreign(nothing=(False,)),
}


def uvicorn_only(key: str) -> str:
    """The message about one of uvicorn's options."""
    hint = UVICORN_ONLY[key].hint
    return f"--{key} is uvicorn's; asgiws does not have it" + (f" ({hint})" if hint else "")


def find(key: str, value: object, where: str, spelling: Callable[[Option], str]) -> Option | None:
    """The option that ``key`` names, with dashes or underscores.

    None for an option of uvicorn whose ``value`` asks for nothing. Raises ``ConfigError`` for other
    options of uvicorn, and for words that are not options.
    """
    name = key.replace("-", "_")
    if name in _BY_KEY:
        return _BY_KEY[name]
    dashed = name.lower().replace("_", "-")
    for word in (dashed, dashed.removesuffix("s")):  # reload_dirs in Python
        if word in UVICORN_ONLY:
            if asks_for_nothing(value, UVICORN_ONLY[word].nothing):
                return None
            raise ConfigError(f"{clip(where)}: {uvicorn_only(word)}")
    close = difflib.get_close_matches(name.lower(), _BY_KEY, n=1)
    hint = f"; did you mean {spelling(_BY_KEY[close[0]])}?" if close else ""
    raise ConfigError(f"{clip(where)}: there is no such option{hint}")
