"""What a session sees of its client through TLS, where what was encrypted hides from it.

Real sockets, with certificates made here; plain TCP beside TLS, for the same must hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.certificates import Certificates
from ..toolkit.client_frames import PING, client_frame
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.running import DEADLINE, Running, running

CHUNK = bytes(65536)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> dict[str, Any]:
    """Options of the server, and of the client."""
    if request.param == "plain":
        return {"server": {}, "client": {}}
    return {"server": certificates.options, "client": {"tls": certificates.client()}}


@contextlib.contextmanager
def flooding(
    loop: str, package: ModuleType, secured: dict[str, Any], **options: Any
) -> Iterator[tuple[Running, queue.Queue[int]]]:
    """A server that sends without end, pings often, and cuts off who takes nothing for 0.5 s."""
    ended: queue.Queue[int] = queue.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": CHUNK})
        ended.put((await receive())["code"])

    options = {"timeout_write": 0.5, "ws_ping_interval": 0.05, "ws_ping_timeout": None, **options}
    with running(app, loop, package, **secured["server"], **options) as server:
        yield server, ended


def is_forgotten(server: Running) -> bool:
    serving = server.server.serving
    return not (serving.connections or serving.tasks or serving.websockets.members)


def test_a_client_that_reads_nothing_is_cut_off_though_the_server_pings(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    with (
        flooding(loop, package, secured) as (server, ended),
        RawWebSocket(server, receive_buffer=4096, **secured["client"]) as client,
    ):
        assert ended.get(timeout=DEADLINE) == 1006
        server.wait_until(lambda: is_forgotten(server))
        assert client.sock.fileno() != -1


def test_a_client_that_reads_nothing_is_cut_off_though_it_pings_too(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    with (
        flooding(loop, package, secured, ws_ping_interval=None) as (server, ended),
        RawWebSocket(server, receive_buffer=4096, **secured["client"]) as client,
    ):
        deadline = time.monotonic() + DEADLINE
        with contextlib.suppress(OSError):
            while ended.empty() and time.monotonic() < deadline:
                client.send(client_frame(PING, b"alive"))
                threading.Event().wait(0.02)
        assert ended.get(timeout=DEADLINE) == 1006
        server.wait_until(lambda: is_forgotten(server))


def test_a_client_that_reads_slowly_is_not_cut_off(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    with (
        flooding(loop, package, secured, timeout_write=1.2) as (server, ended),
        RawWebSocket(server, receive_buffer=4096, **secured["client"]) as client,
    ):
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            assert client.file.read(16384)
            threading.Event().wait(0.02)
            assert ended.empty()


def test_a_client_that_reads_nothing_behind_our_close_is_cut_off(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        sending = asyncio.ensure_future(
            send({"type": "websocket.send", "bytes": bytes(16_000_000)})
        )
        await asyncio.sleep(0)
        assert not sending.done()

    with (
        running(app, loop, package, ws_close_timeout=0.5, **secured["server"]) as server,
        RawWebSocket(server, receive_buffer=4096, **secured["client"]),
    ):
        server.wait_until(lambda: is_forgotten(server))


def test_a_client_that_reads_slowly_gets_all_that_was_sent_before_the_close(
    loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    size = 8_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(size)})

    with (
        running(app, loop, package, ws_close_timeout=0.5, **secured["server"]) as server,
        RawWebSocket(server, receive_buffer=65536, **secured["client"]) as client,
    ):
        assert client.file.read(10) == b"\x82\x7f" + size.to_bytes(8, "big")
        left = size
        while left:
            data = client.file.read(min(left, 200_000))
            assert data, f"cut off {left} bytes before the end"
            left -= len(data)
            threading.Event().wait(0.06)
        assert client.file.read(4) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize("leave", ["reset", "close"])
@pytest.mark.parametrize("sides", ["client", "server"])
def test_a_connection_that_is_lost_while_it_is_accepted_leaves_nothing(
    leave: str, sides: str, loop: str, package: ModuleType, secured: dict[str, Any]
) -> None:
    """Neither in the registries nor of ``--limit-concurrency``."""
    called: queue.Queue[str] = queue.Queue()
    left = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/lost":
            called.put("lost")
            # The loop stands still until the client has left: it reads of it in the iteration
            # in which this goes on.
            left.wait(DEADLINE)
            if sides == "server":
                for connection in tuple(server.server.serving.connections):
                    connection.abort()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    with running(app, loop, package, limit_concurrency=1, **secured["server"]) as server:
        client = Client(server, **secured["client"])
        client.send(upgrade(target="/lost"))
        assert called.get(timeout=DEADLINE) == "lost"
        getattr(client, leave)()
        left.set()
        server.wait_until(lambda: is_forgotten(server))
        with RawWebSocket(server, **secured["client"]):
            pass
