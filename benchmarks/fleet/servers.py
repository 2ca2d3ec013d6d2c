"""The servers with several workers, each with its default configuration and without a log."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ..measure import OWN
from ..servers import Server
from .shared import __file__ as SHARED

OWN["shared.py"] = SHARED

TLS = "--ssl-certfile {certificate} --ssl-keyfile {key}"


@dataclass(frozen=True)
class Fleet:
    """How a server is started with several workers, and how it restarts them.

    ``restart`` is the signal by which it replaces its workers one by one, if there is one.
    """

    name: str
    command: str
    port: str = "--port {address}"
    restart: signal.Signals | None = None
    tls: str = TLS

    def server(
        self, workers: int, certificate: str = "", key: str = "", options: str = ""
    ) -> Server:
        """The server with so many workers; with TLS if there is a ``certificate``."""
        words = [self.command.replace("{workers}", str(workers)), options]
        if certificate:
            words.append(self.tls.format(certificate=certificate, key=key))
        return Server(self.name, " ".join(filter(None, words)), "", port=self.port)


_QUIET = "--log-level critical --no-access-log"

ASGIWS = Fleet(
    "asgiws",
    f"asgiws {{app}} {{listen}} --workers {{workers}} {_QUIET}",
    restart=signal.SIGHUP,
)
# The same workers without a supervisor.
ACCEPTING = tuple(
    Fleet(
        name,
        f"python shared.py {way} {{workers}} {{listen}} asgiws {{app}} {_QUIET}",
        port="{address}",
    )
    for way, name in (("one", "one socket for all"), ("each", "a socket for each"))
)
PEERS = (
    Fleet(
        "uvicorn",
        f"uvicorn {{app}} {{listen}} --workers {{workers}} {_QUIET}",
        restart=signal.SIGHUP,
    ),
    Fleet(
        "gunicorn",
        "gunicorn -k asgi -w {workers} {app} {listen} --log-level critical",
        port="-b 127.0.0.1:{address}",
        restart=signal.SIGHUP,
        tls="--certfile {certificate} --keyfile {key}",
    ),
    Fleet(
        "gunicorn with uvicorn",
        "gunicorn -k uvicorn.workers.UvicornWorker -w {workers} {app} {listen}"
        " --log-level critical",
        port="-b 127.0.0.1:{address}",
        restart=signal.SIGHUP,
        tls="--certfile {certificate} --keyfile {key}",
    ),
    Fleet(
        "granian",
        "granian --interface asgi {app} {listen} --workers {workers} --no-log"
        " --respawn-failed-workers",
        restart=signal.SIGHUP,
        tls="--ssl-certificate {certificate} --ssl-keyfile {key}",
    ),
    Fleet(
        "hypercorn",
        "hypercorn {app} {listen} -k uvloop -w {workers} --log-level CRITICAL",
        port="-b 127.0.0.1:{address}",
        tls="--certfile {certificate} --keyfile {key}",
    ),
)
FLEETS = {fleet.name: fleet for fleet in (ASGIWS, *PEERS)}
