"""https:// and wss://, with certificates made here, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from ..toolkit.certificates import Certificates, for_two_threads
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import DEADLINE, LOOPS, Running, running
from ..toolkit.served import ROOT, Served
from . import tls_app
from .tls_app import app

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def open_websocket(server: Running, context: ssl.SSLContext, **options: Any) -> ClientConnection:
    return connect(f"wss://localhost:{server.port}/", ssl=for_two_threads(context), **options)


def test_https_and_wss_are_served(certificates: Certificates, loop: str) -> None:
    context = certificates.client()
    with running(app, loop, **certificates.options) as server:
        assert server.server.urls == [f"https://127.0.0.1:{server.port}"]
        url = f"https://localhost:{server.port}/"
        with httpx.Client(verify=context) as client:
            assert [client.get(url).text for _ in range(2)] == ["https", "https"]
        with open_websocket(server, context) as websocket:
            assert websocket.recv(DEADLINE) == "wss"
            for message in ("hello", b"\0" * 300_000):
                websocket.send(message)
                assert websocket.recv(DEADLINE) == message


def test_http_1_1_is_what_alpn_agrees_on(certificates: Certificates, loop: str) -> None:
    context = certificates.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        running(app, loop, **certificates.options) as server,
        Client(server, tls=context) as client,
    ):
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.get().body == b"https"


def test_a_key_with_a_password_is_opened(certificates: Certificates, loop: str) -> None:
    options = {
        "ssl_certfile": certificates.chain,
        "ssl_keyfile": certificates.locked_key,
        "ssl_keyfile_password": certificates.password,
    }
    with (
        running(app, loop, **options) as server,
        Client(server, tls=certificates.client()) as client,
    ):
        assert client.get().body == b"https"


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_is_one_message_and_exit_code_2(
    certificates: Certificates, loop: str, password: str | None
) -> None:
    words = ["--ssl-certfile", certificates.chain, "--ssl-keyfile", certificates.locked_key]
    words += ["--port", "0", "--loop", loop]
    if password is not None:
        words += ["--ssl-keyfile-password", password]
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "asgiws",
            f"{tls_app.__name__}:app",
            "--port",
            "0",
            "--loop",
            loop,
            *words,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert certificates.locked_key in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("required", [1, 2])
def test_client_certificates_are_checked(
    certificates: Certificates, loop: str, required: int
) -> None:
    options = {
        **certificates.options,
        "ssl_ca_certs": certificates.clients,
        "ssl_cert_reqs": required,
    }
    with running(app, loop, **options) as server:
        for certificate in ("known", "", "unknown"):
            welcome = certificate == "known" or (certificate == "" and required == 1)
            try:
                with Client(server, tls=certificates.client(certificate)) as client:
                    status = client.get().status
            except (OSError, AssertionError):
                # TLS 1.3: the client learns of it with the first read only.
                status = 0
            assert status == (200 if welcome else 0)


@contextlib.contextmanager
def quiet(server: Running, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing of what happens here may be an error of the server's."""
    problems: list[dict[str, Any]] = []
    server.call(lambda: server.loop.set_exception_handler(lambda _, what: problems.append(what)))
    yield
    server.wait_until(lambda: not server.server.serving.connections)
    assert problems == []
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(64), b""]
)
def test_who_does_not_speak_tls_is_turned_away_quietly(
    certificates: Certificates, loop: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running(app, loop, **certificates.options) as server, quiet(server, caplog):
        with Client(server) as client:
            client.send(data)
            client.finish()
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = client.rest()
            assert b"HTTP" not in answer
        with Client(server, tls=certificates.client()) as client:
            assert client.get().status == 200


def test_a_handshake_that_takes_too_long_is_cut_off(
    certificates: Certificates, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**certificates.options, "timeout_request_head": 0.3}
    with (
        running(app, loop, **options) as server,
        quiet(server, caplog),
        Client(server) as silent,
        Client(server) as begun,
    ):
        begun.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        for client in (silent, begun):
            with contextlib.suppress(ConnectionResetError):
                client.rest()


def test_a_client_that_resets_in_the_handshake_is_no_error(
    certificates: Certificates, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(app, loop, **certificates.options) as server, quiet(server, caplog):
        client = Client(server)
        client.send(b"\x16\x03\x01\x02\x00\x01")
        client.reset()
        with Client(server, tls=certificates.client()) as client:
            assert client.get().status == 200


def test_the_closing_handshake_loses_no_last_message(certificates: Certificates, loop: str) -> None:
    with (
        running(app, loop, **certificates.options) as server,
        open_websocket(server, certificates.client(), max_size=None) as websocket,
    ):
        assert websocket.recv(DEADLINE) == "wss"
        websocket.send("end")
        for _ in range(100):  # never read by anyone: they must not turn the end into a reset
            with contextlib.suppress(ConnectionClosed):
                websocket.send(bytes(1000))
        received = list(websocket)
        assert isinstance(websocket.protocol.close_exc, ConnectionClosedOK)
        assert [len(message) for message in received[:-1]] == [1_000_000]
        assert received[-1] == "last"


def test_the_end_of_a_session_is_a_close_notify(certificates: Certificates, loop: str) -> None:
    """TLS closed without one could be an attacker's cut (RFC 8446 section 6.1)."""
    with (
        running(app, loop, **certificates.options) as server,
        Client(server, tls=certificates.client()) as client,
    ):
        assert isinstance(client.sock, ssl.SSLSocket)
        client.sock.suppress_ragged_eofs = False
        client.send(upgrade())
        assert client.read().status == 101
        assert client.file.read(5) == b"\x81\x03wss"
        client.send(b"\x88\x82\0\0\0\0\x03\xe8")
        assert client.file.read(4) == b"\x88\x02\x03\xe8"
        assert client.rest() == b""


def test_a_peer_that_leaves_without_a_close_frame_is_1006(
    certificates: Certificates, loop: str
) -> None:
    ended = asyncio.Queue[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        ended.put_nowait(await receive())

    with running(app, loop, **certificates.options) as server:
        for leave in ("reset", "close"):
            client = Client(server, tls=certificates.client())
            client.send(upgrade())
            assert client.read().status == 101
            getattr(client, leave)()
            server.wait_until(lambda: not ended.empty())
            event = server.call(ended.get_nowait)
            assert event == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_a_peer_that_never_answers_the_close_is_cut_off(
    certificates: Certificates, loop: str
) -> None:
    options = {**certificates.options, "ws_close_timeout": 0.3}
    with (
        running(app, loop, **options) as server,
        Client(server, tls=certificates.client()) as client,
    ):
        client.send(upgrade())
        assert client.read().status == 101
        assert client.file.read(5) == b"\x81\x03wss"
        client.send(b"\x81\x83\0\0\0\0end")
        while client.file.read(1_000_000):
            pass
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_client_that_never_reads_holds_the_application_back(
    certificates: Certificates, loop: str
) -> None:
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while len(sent) < 1000:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
                sent.append(100_000)
        except OSError:
            sent.append(-1)

    with (
        running(app, loop, **certificates.options) as server,
        Client(server, tls=certificates.client(), receive_buffer=4096) as client,
    ):
        client.send(upgrade())
        assert client.read_head().status == 101
        counts = [-1, server.call(lambda: len(sent))]
        while counts[-1] != counts[-2]:
            threading.Event().wait(0.1)
            counts.append(server.call(lambda: len(sent)))
        assert counts[-1] < 100
        client.reset()
        server.wait_until(lambda: bool(sent) and sent[-1] == -1)


def test_a_stop_ends_tls_connections_too(certificates: Certificates, loop: str) -> None:
    words = ["--ssl-certfile", certificates.chain, "--ssl-keyfile", certificates.key]
    words += ["--timeout-graceful-shutdown", "2"]  # what the handshake that never comes may take
    with (
        Served(
            "asgiws", f"{tls_app.__name__}:app", "--port", "0", "--loop", loop, *words
        ) as served,
        connect(
            f"wss://localhost:{served.port}", ssl=for_two_threads(certificates.client())
        ) as websocket,
        Client(served, tls=certificates.client()) as idle,
        socket.create_connection(("127.0.0.1", served.port)),
    ):
        assert websocket.recv(DEADLINE) == "wss"
        assert idle.get().status == 200
        served.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(DEADLINE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert idle.rest() == b""
        idle.close()
        assert served.wait_for_end() == 0
    assert "Traceback" not in "".join(served.output)


def test_a_renewed_certificate_is_served_after_a_rolling_restart(tmp_path: Path, loop: str) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.client()

    def shown() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", served.port), DEADLINE) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate

    files = [f"--{name.replace('_', '-')}={file}" for name, file in certificates.options.items()]
    words = ("--port", "0", "--workers", "2", "--loop", loop, "--drain-window", "0", *files)
    with Served("asgiws", f"{tls_app.__name__}:app", *words) as served:
        before = shown()
        leaf = certificates.renew()
        served.send(signal.SIGHUP)
        served.wait_for_count(r"Worker \d+ .* is ready", 4)
        after = {shown() for _ in range(4)}
        assert after == {ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())}
        assert before not in after
        served.send(signal.SIGTERM)
        assert served.wait_for_end() == 0
