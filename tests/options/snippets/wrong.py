"""What type checkers must refuse: each line that ends with ``# no``, and no other."""

# pyright: strict

from __future__ import annotations

from pathlib import Path

import asgiws
from asgiws.pytest_plugin import Servers
from asgiws.testing import Background, serve, serve_here


async def app(scope: asgiws.Scope, receive: asgiws.Receive, send: asgiws.Send) -> None: ...


def wsgi(environ: dict[str, object], start_response: object) -> list[bytes]:
    return []


def not_async(scope: asgiws.Scope, receive: asgiws.Receive, send: asgiws.Send) -> None: ...


asgiws.run(app, prot=8000)  # no
asgiws.run(app, port="8000")  # no
asgiws.run(app, port=None)  # no
asgiws.run(app, host=127)  # no
asgiws.run(app, 8000)  # no
asgiws.run(wsgi)  # no
asgiws.run(not_async)  # no
asgiws.run(Path("main.py"))  # no
asgiws.run(None)  # no
asgiws.run()  # no
asgiws.run(app, loop="trio")  # no
asgiws.run(app, http="h12")  # no
asgiws.run(app, lifespan=True)  # no
asgiws.run(app, log_level="loud")  # no
asgiws.run(app, log_config=["a"])  # no
asgiws.run(app, access_log="off")  # no
asgiws.run(app, bind=8000)  # no
asgiws.run(app, bind=[("127.0.0.1", 8000)])  # no
asgiws.run(app, headers={"x-own": "yes"})  # no
asgiws.run(app, headers=[("x-own", 1)])  # no
asgiws.run(app, headers=[("x-own", "yes", "no")])  # no
asgiws.run(app, reload_dirs=[1])  # no
asgiws.run(app, ws_ping_interval="20s")  # no
asgiws.run(app, ws_max_size=1e6)  # no
asgiws.run(app, ssl_certfile=b"chain.pem")  # no
asgiws.run(app, allowed_hosts=None)  # no
asgiws.run(app, forwarded_allow_ips=[1])  # no
asgiws.run(app, ws="auto")  # no

asgiws.Config(app, prot=8000)  # no
asgiws.Config(app, port="8000")  # no
asgiws.Config("main:app").port = 1  # no
Background(app, prot=8000)  # no
Background(app, port="8000")  # no

options: asgiws.Options = {"prot": 8000}  # no
more: asgiws.Options = {"port": "8000"}  # no


def test(asgiws_server: Servers) -> None:
    asgiws_server(app, prot=8000)  # no
    asgiws_server(app, port="8000")  # no
    asgiws_server.here(app, prot=8000)  # no
    serve(app, prot=8000)  # no
    serve(app, port="8000")  # no
    serve_here(app, prot=8000)  # no
    serve_here(app, port="8000")  # no
