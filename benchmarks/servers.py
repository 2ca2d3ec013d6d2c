"""The servers, each with its default configuration and its logging switched off.

One process serves, as each server does by default (granian and gunicorn add one
that only supervises). What stands in braces is filled in by measure.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BASE = "uvicorn"


@dataclass(frozen=True)
class Server:
    """How a server is started and what it is able to do.

    ``port`` and ``uds`` are its options, for ``{listen}``, to listen on a port or on a Unix
    socket; without the latter it is not measured there.
    ``only`` names the scenarios a variant is measured in, where measuring it in
    all would say nothing new.
    """

    name: str
    command: str
    note: str
    port: str = "--port {address}"
    uds: str = ""
    env: dict[str, str] = field(default_factory=dict)
    deflate: bool = False
    http: bool = True
    floor: bool = False
    tcp: bool = False
    only: tuple[str, ...] = ()

    def measures(self, scenario: str) -> bool:
        return not self.only or any(scenario.startswith(name) for name in self.only)


_ASGIWS = "asgiws {app} {listen} --log-level critical --no-access-log"
_UVICORN = "uvicorn {app} {listen} --log-level critical --no-access-log"
_GUNICORN = "gunicorn -k asgi {app} {listen} --log-level critical"
_UDS = "--uds {address}"
_LOOPS = ("echo-125-64", "hello")
_HTTP = ("handshake", "hello", "post", "download", "file", "json", "connections", "requests")

_ALL = [
    Server("asgiws", _ASGIWS, "compiled, uvloop", uds=_UDS, deflate=True),
    Server(
        "asgiws-pure",
        _ASGIWS,
        "the same source, interpreted",
        uds=_UDS,
        env={"ASGIWS_PURE": "1"},
        deflate=True,
    ),
    Server("uvicorn", _UVICORN, "uvloop, httptools, websockets-sansio", uds=_UDS, deflate=True),
    Server(
        "uvicorn-wsproto",
        _UVICORN + " --ws wsproto",
        "WebSocket by wsproto",
        uds=_UDS,
        deflate=True,
        http=False,
    ),
    Server(
        "uvicorn-h11",
        _UVICORN + " --http h11",
        "HTTP by h11",
        only=_HTTP,
    ),
    Server("uvicorn-zttp", _UVICORN + " --http zttp", "HTTP by zttp", only=_HTTP),
    Server(
        "hypercorn",
        "hypercorn {app} {listen} -k uvloop --log-level CRITICAL",
        "uvloop, h11, wsproto",
        port="-b 127.0.0.1:{address}",
        uds="-b unix:{address}",
    ),
    Server(
        "granian",
        "granian --interface asgi {app} {listen} --no-log",
        "Rust: hyper, tungstenite",
        uds=_UDS,
    ),
    Server(
        "gunicorn",
        _GUNICORN + " --http-parser python",
        "its own ASGI worker on uvloop, without its C parser, as it is installed",
        port="-b 127.0.0.1:{address}",
        uds="-b unix:{address}",
    ),
    Server(
        "gunicorn-h1c",
        _GUNICORN + " --http-parser fast",
        "the same with its C parser, gunicorn_h1c",
        port="-b 127.0.0.1:{address}",
        only=_HTTP,
    ),
    Server(
        "daphne",
        "daphne {listen} -v 0 {app}",
        "Twisted, autobahn",
        port="-p {address}",
        uds="-u {address}",
    ),
    Server(
        "socketify",
        "python -m socketify {app} --interface asgi {listen} --disable-listen-log True",
        "its ASGI mode: uWebSockets in C++ through cffi",
        # no uds: over a Unix socket it fails in every opening handshake
    ),
    Server(
        "asgiws-zlib-ng",
        _ASGIWS + " --ws-deflate-library zlib-ng",
        "permessage-deflate by zlib-ng",
        deflate=True,
        only=("deflate",),
    ),
    Server("asgiws-h11", _ASGIWS + " --http h11", "HTTP by h11", uds=_UDS, only=_HTTP),
    Server(
        "asgiws-pathsend",
        _ASGIWS + " --pathsend",
        "FileResponse hands the path of the file over",
        only=("file",),
    ),
    Server(
        "asgiws-topics",
        _ASGIWS,
        "asgiws.topics sends to all, not the application",
        env={"BENCHMARK_TOPICS": "1"},
        deflate=True,
        only=("broadcast",),
    ),
    Server("asgiws-asyncio", _ASGIWS + " --loop asyncio", "on asyncio's own loop", only=_LOOPS),
    Server("uvicorn-asyncio", _UVICORN + " --loop asyncio", "on asyncio's own loop", only=_LOOPS),
    Server(
        "picows",
        "python floors.py picows {listen}",
        "floor: WebSocket without ASGI",
        port="{address}",
        floor=True,
        http=False,
    ),
    Server(
        "uvloop-h11",
        "python floors.py h11 {listen}",
        "floor: request heads parsed by h11, no ASGI",
        port="{address}",
        floor=True,
        only=("hello",),
    ),
    Server(
        "uvloop-httptools",
        "python floors.py httptools {listen}",
        "floor: request heads parsed by httptools, no ASGI",
        port="{address}",
        floor=True,
        only=("hello",),
    ),
    Server(
        "uvloop-tcp",
        "python floors.py tcp {listen} {mode}",
        "floor: the same bytes over TCP, no WebSocket",
        port="{address}",
        uds="{address}",
        floor=True,
        http=False,
        tcp=True,
    ),
    Server(
        "c-epoll",
        "c-epoll {listen} {mode}",
        "floor: epoll, read and write in C, what the kernel alone costs",
        port="{address}",
        uds="{address}",
        floor=True,
        http=False,
        tcp=True,
    ),
    Server(
        "c-websocket",
        "c-epoll {listen} {mode}",
        "floor: one WebSocket after another in C, without a parser, a check or a deadline",
        port="{address}",
        floor=True,
        http=False,
        only=("handshake",),
    ),
]
SERVERS = {server.name: server for server in _ALL}
QUICK = ("asgiws", "uvicorn", "picows")
