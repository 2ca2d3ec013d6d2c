"""The servers, each with its default configuration and its logging switched off.

One process serves, as each server does by default (granian and gunicorn add one
that only supervises). ``{app}`` and ``{port}`` are filled in by measure.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BASE = "uvicorn"


@dataclass(frozen=True)
class Server:
    """How a server is started and what it is able to do.

    ``only`` names the scenarios a variant is measured in, where measuring it in
    all would say nothing new.
    """

    name: str
    command: str
    note: str
    env: dict[str, str] = field(default_factory=dict)
    deflate: bool = False
    http: bool = True
    floor: bool = False
    tcp: bool = False
    only: tuple[str, ...] = ()

    def measures(self, scenario: str) -> bool:
        return not self.only or any(scenario.startswith(name) for name in self.only)


_ASGIWS = "asgiws {app} --port {port} --log-level critical --no-access-log"
_UVICORN = "uvicorn {app} --port {port} --log-level critical --no-access-log"
_LOOPS = ("echo-125-64", "hello")

_ALL = [
    Server("asgiws", _ASGIWS, "compiled, uvloop", deflate=True),
    Server(
        "asgiws-pure",
        _ASGIWS,
        "the same source, interpreted",
        env={"ASGIWS_PURE": "1"},
        deflate=True,
    ),
    Server("uvicorn", _UVICORN, "uvloop, httptools, websockets-sansio", deflate=True),
    Server(
        "uvicorn-wsproto",
        _UVICORN + " --ws wsproto",
        "WebSocket by wsproto",
        deflate=True,
        http=False,
    ),
    Server(
        "uvicorn-h11",
        _UVICORN + " --http h11",
        "HTTP by h11",
        only=("handshake", "hello", "post", "download"),
    ),
    Server(
        "hypercorn",
        "hypercorn {app} -b 127.0.0.1:{port} -k uvloop --log-level CRITICAL",
        "uvloop, h11, wsproto",
    ),
    Server(
        "granian",
        "granian --interface asgi {app} --port {port} --no-log",
        "Rust: hyper, tungstenite",
    ),
    Server(
        "gunicorn",
        "gunicorn -k asgi {app} -b 127.0.0.1:{port} --log-level critical",
        "its own ASGI worker on uvloop",
    ),
    Server("daphne", "daphne -p {port} -v 0 {app}", "Twisted, autobahn"),
    Server(
        "socketify",
        "python -m socketify {app} --interface asgi --port {port} --disable-listen-log True",
        "its ASGI mode: uWebSockets in C++ through cffi",
    ),
    Server("asgiws-asyncio", _ASGIWS + " --loop asyncio", "on asyncio's own loop", only=_LOOPS),
    Server("uvicorn-asyncio", _UVICORN + " --loop asyncio", "on asyncio's own loop", only=_LOOPS),
    Server(
        "picows",
        "python {floors} picows {port}",
        "floor: WebSocket echo without ASGI",
        floor=True,
        http=False,
    ),
    Server(
        "uvloop-tcp",
        "python {floors} tcp {port}",
        "floor: TCP echo of the same bytes, no WebSocket",
        floor=True,
        http=False,
        tcp=True,
    ),
]
SERVERS = {server.name: server for server in _ALL}
QUICK = ("asgiws", "uvicorn", "picows")
