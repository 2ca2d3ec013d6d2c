"""The options as Python's type checkers see them; written by docs/options_table.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

StrPath = str | os.PathLike[str]
Header = str | tuple[str | bytes, str | bytes]


class Options(TypedDict, total=False):
    """The keyword arguments of ``run`` and ``Config``."""

    app_dir: StrPath | None
    """Directory in which APP is looked for first. Default: the current directory."""

    factory: bool
    """APP is a function that returns the application. Default: off."""

    lifespan: Literal["auto", "on", "off"]
    """The lifespan protocol; auto goes on without it if the application does not have one.
    Default: auto.
    """

    root_path: str
    """Path under which a proxy mounts the application (ASGI root_path)."""

    env_file: StrPath | None
    """Environment variables for the application, in dotenv format; set variables win. Needs
    asgiws[dotenv].
    """

    reload: bool
    """For development: restart when a file of the application changes. Needs asgiws[reload].
    Default: off.
    """

    reload_dirs: StrPath | Sequence[StrPath] | None
    """Directory to watch with all below it. May be repeated. Default: the current one and
    --app-dir.
    """

    reload_includes: str | Sequence[str] | None
    """Files to watch besides *.py, as in '*.html' or .env. May be repeated."""

    reload_excludes: str | Sequence[str] | None
    """Files and directories not to watch, as in 'test_*.py' or migrations, even if another option
    includes them. May be repeated.
    """

    reload_delay: float
    """How long no file must have changed before the restart. A number of seconds, 0 or more.
    Default: 0.1.
    """

    bind: str | Sequence[str]
    """Address to listen on: host:port, [v6]:port, unix:path or fd://N. May be repeated."""

    host: str
    """Address to listen on, as in --bind HOST:PORT; localhost and '' listen on IPv4 and IPv6.
    Default: 127.0.0.1.
    """

    port: int
    """Port to listen on; 0 picks a free one and prints it. A whole number from 0 to 65535.
    Default: 8000.
    """

    uds: StrPath | None
    """Listen on a Unix socket instead, as with --bind unix:PATH."""

    uds_permissions: int | str
    """Permissions of the file of a Unix socket. Default: 666."""

    fd: int | None
    """Listen on the socket with this file descriptor, as with --bind fd://NUMBER. A whole number,
    0 or more, or None. Default: None.
    """

    backlog: int
    """Connections that may wait in the kernel to be accepted. A whole number, 1 or more. Default:
    2048.
    """

    loop: Literal["auto", "uvloop", "asyncio", "none"]
    """Event loop; auto takes uvloop where it is installed. Default: auto."""

    workers: int | None
    """Processes that serve; with several a supervisor hands each connection to the emptiest. A
    whole number from 1 to 128. Default: 1.
    """

    timeout_worker_healthcheck: float | None
    """How long the event loop of a worker may stand still before the worker is killed and
    replaced; None waits for ever. A number of seconds above 0, or None. Default: 5.
    """

    timeout_worker_start: float | None
    """How long a worker may take to start before it is killed; None waits for ever. A number of
    seconds above 0, or None. Default: 300.
    """

    http: Literal["auto", "h11", "httptools"] | None
    """Parser of the heads of requests; auto takes httptools where it is installed
    (asgiws[httptools]). Both give the same results. Default: auto.
    """

    headers: Sequence[Header] | None
    """Header to add to every response, 'Name: value'. May be repeated."""

    allowed_hosts: str | Sequence[str]
    """Hosts that are served, compared with the Host header: example.com, *.example.com, 127.0.0.1,
    [::1] with commas between, or * for all; others get 421. Default: *.
    """

    pathsend: bool
    """Announce http.response.pathsend: FileResponse gives the path of a file instead of its bytes.
    Middlewares that do not know it lose such a response. Default: off.
    """

    server_header: bool
    """Send 'server: asgiws'. Default: on."""

    date_header: bool
    """Send the date. Default: on."""

    timeout_request_head: float
    """How long a request's head, or a TLS handshake, may take to arrive. A number of seconds above
    0. Default: 10.
    """

    timeout_request_body: float | None
    """How long a client may send nothing of a body that the application waits for, before it gets
    408; None waits for ever. A number of seconds above 0, or None. Default: 60.
    """

    timeout_keep_alive: float
    """How long a connection may be idle between two requests. A number of seconds, 0 or more.
    Default: 5.
    """

    h11_max_incomplete_event_size: int | None
    """Most bytes of a request's head; a longer one is answered 431. A whole number, 256 or more.
    Default: 65536.
    """

    ws_max_size: int
    """Most bytes of a message, inflated; a longer one fails the connection with 1009. A whole
    number, 1 or more. Default: 16777216.
    """

    ws_max_queue: int
    """Messages that may wait for the application before the server stops reading. A whole number,
    1 or more. Default: 32.
    """

    ws_ping_interval: float | None
    """Time between keepalive pings; None sends no pings. A number of seconds above 0, or None.
    Default: 20.
    """

    ws_ping_timeout: float | None
    """How long a client may be silent after a ping before its connection is closed with 1011; None
    waits for ever. A number of seconds above 0, or None. Default: 20.
    """

    ws_close_timeout: float
    """How long a client has to answer a close frame. A number of seconds above 0. Default: 10."""

    ws_accept_timeout: float | None
    """How long the application may take to accept or deny before the client gets 504; None waits
    for ever. A number of seconds above 0, or None. Default: 300.
    """

    ws_idle_timeout: float | None
    """How long a WebSocket may be without a message in either direction before it is closed with
    1001; None keeps idle WebSockets. A number of seconds above 0, or None. Default: None.
    """

    ws_origins: str | Sequence[str]
    """Pages that may open a WebSocket, by their Origin: same-host, null, https://example.com,
    https://*.example.com with commas between, or * for all; others get 403. A client that sends no
    Origin is not a browser, and is let in. Default: *.
    """

    ws_per_message_deflate: bool
    """Accept permessage-deflate where a client offers it. Default: on."""

    ws_deflate_window_bits: int
    """Window of the compressor; each bit doubles its memory. A whole number from 9 to 15. Default:
    12.
    """

    ws_deflate_mem_level: int
    """Memory of the compressor beside its window. A whole number from 1 to 9. Default: 5."""

    ws_deflate_level: int
    """Effort of the compressor: 1 is fast, 9 is small. A whole number from 0 to 9. Default: 6."""

    ws_deflate_context_takeover: bool
    """Keep the window from one message to the next: smaller messages, more memory. Default: on."""

    ws_deflate_min_size: int
    """Messages of fewer bytes are sent uncompressed. A whole number, 0 or more. Default: 128."""

    ws_deflate_library: Literal["zlib", "zlib-ng"]
    """Library that compresses; zlib-ng is faster with large messages and takes 130 KiB more for a
    connection. Default: zlib.
    """

    topics_history: int
    """How many messages of each topic are kept for later subscribers, unless the application calls
    topics.keep for it. A whole number, 0 or more. Default: 0.
    """

    topics_history_age: float
    """How long the messages of a topic are kept. A number of seconds above 0. Default: 300."""

    topics_history_memory: int
    """Bytes of memory for all messages that are kept; the workers of a machine share it. A whole
    number, 65536 or more. Default: 16777216.
    """

    topics_url: str | None
    """Broker over which topics reach other machines; put a URL with a password into the
    environment. Default: None.
    """

    timeout_write: float | None
    """How long a client may read nothing while data wait for it before it is cut off; None waits
    for ever. A number of seconds above 0, or None. Default: 60.
    """

    limit_concurrency: int | None
    """Most connections, or requests in progress; others are answered 503. A whole number, 1 or
    more, or None. Default: None.
    """

    limit_handshakes: int | None
    """Most WebSocket handshakes that begin in a second, all workers together; as many may wait,
    and others are answered 503 with Retry-After. A whole number, 1 or more, or None. Default:
    None.
    """

    limit_max_requests: int | None
    """Requests and WebSockets after which the server drains and ends, or a worker is replaced. A
    whole number, 1 or more, or None. Default: None.
    """

    limit_max_requests_jitter: int
    """Most requests that are added to --limit-max-requests at random, so that workers do not end
    together. A whole number, 0 or more. Default: 0.
    """

    limit_max_age: float | None
    """Age at which the server drains and ends, or a worker is replaced; up to a tenth is added at
    random. A number of seconds above 0, or None. Default: None.
    """

    timeout_graceful_shutdown: float | None
    """How long a shutdown waits for requests in progress before it cancels them, counted from the
    end of --drain-window. A number of seconds, 0 or more. Default: 10.
    """

    drain_delay: float
    """How long connections are accepted after SIGTERM, while the application can already tell that
    the server drains (scope['extensions']['asgiws.drain']). A number of seconds, 0 or more.
    Default: 0.
    """

    drain_window: float | None
    """Time over which WebSockets and event streams are closed evenly when the server drains. A
    number of seconds, 0 or more. Default: 3 on SIGTERM, 10 where a worker is replaced.
    """

    drain_code: int
    """Close code of WebSockets when the server drains. Default: 1012."""

    drain_reason: str
    """Reason that is sent with --drain-code, 123 bytes of UTF-8 at most."""

    proxy_headers: bool
    """Take client address and scheme from X-Forwarded-For and X-Forwarded-Proto if the peer is
    trusted. Default: on.
    """

    forwarded_allow_ips: str | Sequence[str] | None
    """Trusted proxies: IP addresses and networks with commas between, or * for every peer.
    Default: 127.0.0.1.
    """

    ssl_certfile: StrPath | None
    """Certificate chain (PEM); switches to https:// and wss://."""

    ssl_keyfile: StrPath | None
    """Private key (PEM), if --ssl-certfile does not hold it."""

    ssl_keyfile_password: str | None
    """Password of the private key."""

    ssl_ca_certs: StrPath | None
    """Certificates (PEM) that client certificates are checked against."""

    ssl_cert_reqs: int
    """Client certificates: 0 does not ask for them, 1 accepts them, 2 requires them. A whole
    number from 0 to 2. Default: 0.
    """

    ssl_ciphers: str | None
    """Ciphers of TLS 1.2, as an OpenSSL cipher list. Default: OpenSSL's."""

    log_level: (
        Literal[
            "critical",
            "error",
            "warning",
            "info",
            "debug",
            "trace",
            "CRITICAL",
            "ERROR",
            "WARNING",
            "INFO",
            "DEBUG",
            "TRACE",
        ]
        | int
        | None
    )
    """Least level that is logged; trace logs every ASGI event. Default: info."""

    log_config: StrPath | dict[str, Any] | None
    """Logging settings (.json, .toml, .yaml with PyYAML, otherwise .ini) for Python's
    logging.config.
    """

    access_log: bool
    """Log one line per HTTP request and per WebSocket session. Default: on."""

    use_colors: bool | None
    """Colours in the log. Default: on a terminal."""
