"""``--allowed-hosts``: what a page that rebinds its name to our address gets (DNS rebinding)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ..toolkit.apps import respond
from ..toolkit.certificates import Certificates
from ..toolkit.raw_http import Client, request
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import running

ALLOWED = "localhost,127.0.0.1,*.example.com"


class App:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
        else:
            await respond(send, dict(scope["headers"]).get(b"host", b"none"))


def websocket(host: str, *lines: str) -> bytes:
    return upgrade(*lines, host=host)


@pytest.mark.parametrize(
    "sent",
    [
        request("Host: evil.example"),
        request("Host: example.com"),
        request("Host: localhost.evil.example"),
        request(version="1.0"),
        request("Host: localhost", target="http://evil.example/"),
        request("Host: evil.example", "Content-Length: 5", method="POST") + b"hello",
        # Its own page, to the browser: Origin and Host are the same.
        websocket("evil.example", "Origin: http://evil.example"),
        websocket("127.0.0.2"),
    ],
)
def test_another_host_gets_421_and_the_application_never_hears_of_it(
    loop: str, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    with (
        caplog.at_level(logging.INFO, "asgiws.access"),
        running(app, loop, allowed_hosts=ALLOWED, ws_origins="same-host") as server,
        Client(server) as client,
    ):
        client.send(sent + request("Host: localhost", target="/behind"))
        reply = client.read()
        assert (reply.status, reply.headers["connection"]) == (421, "close")
        assert client.rest() == b""
    lines = [record for record in caplog.records if record.name == "asgiws.access"]
    assert [record.getMessage()[-4:] for record in lines] == [" 421"]
    assert app.calls == 0


def test_the_hosts_of_the_list_are_served_on_any_port(loop: str) -> None:
    with running(App(), loop, allowed_hosts=ALLOWED) as server:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "a.b.example.com."):
            with Client(server) as client:
                client.send(request(f"Host: {host}"))
                assert client.read().body == host.encode()
            with Client(server) as client:
                client.send(websocket(host))
                assert client.read().status == 101
        with Client(server) as client:
            client.send(request(target="http://www.example.com/", version="1.0"))
            assert client.read().body == b"www.example.com"


def test_by_default_every_host_is_served(loop: str) -> None:
    with running(App(), loop) as server:
        with Client(server) as client:
            client.send(request("Host: anything.example"))
            assert client.read().status == 200
        with Client(server) as client:
            client.send(request(version="1.0"))
            assert client.read().body == b"none"


def test_over_tls_it_is_the_same(loop: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with running(App(), loop, allowed_hosts=ALLOWED, **certificates.options) as server:
        for host, status in (("localhost", 200), ("evil.example", 421)):
            with Client(server, tls=certificates.client()) as client:
                client.send(request(f"Host: {host}"))
                assert client.read().status == status
