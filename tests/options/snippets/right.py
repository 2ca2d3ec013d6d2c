"""What type checkers must accept. Nothing of this runs."""

# pyright: strict

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.types import ASGIApp as StarletteApp
from starlette.types import Receive, Scope, Send

import asgiws
import asgiws.testing
from asgiws.pytest_plugin import Servers

# --- Applications


async def ours(scope: asgiws.Scope, receive: asgiws.Receive, send: asgiws.Send) -> None:
    event: asgiws.Event = await receive()
    await send({"type": "websocket.send", "text": event["text"]})


async def starlettes(scope: Scope, receive: Receive, send: Send) -> None:
    await Starlette()(scope, receive, send)


async def with_dicts(
    scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]
) -> None: ...


class Middleware:
    def __init__(self, app: asgiws.ASGIApp) -> None:
        self.app = app

    async def __call__(
        self, scope: asgiws.Scope, receive: asgiws.Receive, send: asgiws.Send
    ) -> None:
        await self.app(scope, receive, send)


def typed_as_starlettes(app: StarletteApp) -> None:
    asgiws.run(app)


def make() -> asgiws.ASGIApp:
    return Middleware(Middleware(FastAPI()))


async def starlette_in_a_middleware(
    scope: asgiws.Scope, receive: asgiws.Receive, send: asgiws.Send
) -> None:
    await FastAPI()(scope, receive, send)


def applications() -> None:
    asgiws.run("main:app")
    asgiws.run(app="main:app")
    asgiws.run(Starlette())
    asgiws.run(FastAPI())
    asgiws.run(ours)
    asgiws.run(starlettes)
    asgiws.run(with_dicts)
    asgiws.run(starlette_in_a_middleware)
    asgiws.run(Middleware(ours))
    asgiws.run(make(), port=8000)
    asgiws.run(make, factory=True)
    asgiws.run(lambda: Starlette(), factory=True)


# --- Options


def headers(pairs: list[tuple[str, str]], raw: list[tuple[bytes, bytes]]) -> None:
    asgiws.run("main:app", headers=["X-Own: yes"])
    asgiws.run("main:app", headers=[("x-own", "yes"), (b"x-own", b"yes"), "X-Own: yes"])
    asgiws.run("main:app", headers=(("x-own", b"yes"),))
    asgiws.run("main:app", headers=pairs)
    asgiws.run("main:app", headers=raw)
    asgiws.run("main:app", headers=None)


def listening(addresses: list[str], directory: Path) -> None:
    asgiws.run("main:app", host="0.0.0.0", port=0, backlog=100)
    asgiws.run("main:app", bind="127.0.0.1:8000,[::1]:8000")
    asgiws.run("main:app", bind=["127.0.0.1:8000", "unix:/run/app.sock"])
    asgiws.run("main:app", bind=addresses)
    asgiws.run("main:app", uds=directory / "socket", uds_permissions=0o660)
    asgiws.run("main:app", uds="socket", uds_permissions="660")
    asgiws.run("main:app", fd=3)


def tls(directory: Path) -> None:
    asgiws.run(
        "main:app",
        ssl_certfile=directory / "chain.pem",
        ssl_keyfile="key.pem",
        ssl_keyfile_password="secret",
        ssl_ca_certs=directory / "ca.pem",
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        ssl_ciphers="ECDHE+AESGCM",
    )


def others(settings: dict[str, Any], paths: list[Path]) -> None:
    asgiws.run("main:app", reload=True, reload_dirs=paths, reload_includes=["*.html", ".env"])
    asgiws.run("main:app", reload_dirs=paths[0], reload_excludes="test_*.py", reload_delay=1)
    asgiws.run("main:app", ws_ping_interval=30, ws_ping_timeout=None, ws_max_size=2**20)
    asgiws.run("main:app", ws_origins="same-host", allowed_hosts=["example.com", "*.example.com"])
    asgiws.run("main:app", log_level="INFO", log_config=settings, access_log=False)
    asgiws.run("main:app", log_level=logging.WARNING, log_config=paths[0], use_colors=None)
    asgiws.run("main:app", loop="uvloop", http="h11", lifespan="on", workers=4)
    # What uvicorn.run takes for its defaults.
    asgiws.run("main:app", workers=None, reload_dirs=None, app_dir=None, forwarded_allow_ips=None)


def kept(**options: Any) -> None:
    chosen: asgiws.Options = {"port": 8000, "log_level": "debug"}
    asgiws.run("main:app", **chosen)
    asgiws.run("main:app", **options)


def fields(config: asgiws.Config) -> tuple[int, tuple[tuple[bytes, bytes], ...], str | None]:
    return config.port, config.headers, config.log_level


# --- Servers and tests


async def a_server() -> list[str]:
    async with asgiws.Server(asgiws.Config(ours, port=0, lifespan="off")) as server:
        await server.wait_started()
        return server.urls


def a_test() -> str:
    with asgiws.testing.serve(ours, lifespan="off", headers=["X-Own: yes"]) as served:
        first: int = served.call(lambda: len(served.logged))
        return f"{served.ws_url} {served.port + first}"


async def a_test_here() -> str:
    async with asgiws.testing.serve_here("main:app", ws_max_size=100) as served:
        await asyncio.sleep(0)
        return served.url


def test_with_the_fixture(asgiws_server: Servers) -> None:
    served = asgiws_server(FastAPI(), port=0)
    served.stop()


async def test_here_with_the_fixture(asgiws_server: Servers) -> None:
    async with asgiws_server.here(Starlette(), workers=1) as served:
        levels: Mapping[str, int] = {record.levelname: record.levelno for record in served.log}
        assert levels
