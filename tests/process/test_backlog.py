"""Connections that wait in the backlog, or are being set up, when the end begins."""

from __future__ import annotations

import itertools
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..toolkit.certificates import Certificates
from ..toolkit.raw_http import request
from ..toolkit.running import LOOPS
from ..toolkit.served import ROOT, Served
from . import end_apps
from .test_sockets import short_path

APP = f"{end_apps.__name__}:app"
DEADLINE = 20.0
# More than are accepted in a few turns of the loop; a TLS handshake needs a thread of ours.
WAITING = {"tcp": 200, "unix": 200, "tls": 20}
WAYS = [*WAITING]
CLOSE = request("Host: localhost", "Connection: close")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Reached:
    """A server in a process of its own, and connections to it in one of three ways."""

    def __init__(self, served: Served, path: str, certificates: Certificates | None) -> None:
        self.served = served
        self._path = path
        self._tls = certificates.client() if certificates is not None else None

    def connect(self, asking: bool = True) -> socket.socket:
        """Connected by the kernel, and asking where that needs no handshake."""
        sock = socket.socket(socket.AF_UNIX if self._path else socket.AF_INET)
        sock.settimeout(DEADLINE)
        try:
            sock.connect(self._path or ("127.0.0.1", self.served.port))
        except OSError:
            sock.close()
            raise
        if asking and self._tls is None:
            sock.sendall(CLOSE)
        return sock

    def accepts(self) -> bool:
        """Return whether a connection can still be made."""
        try:
            self.connect(asking=False).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return False
        return True

    def ask(self, sock: socket.socket) -> bytes:
        """The answer to a request, to the end of the connection."""
        if self._tls is None:
            return self.read(sock)
        sock = self._tls.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(CLOSE)
        return self.read(sock)

    def read(self, sock: socket.socket) -> bytes:
        with sock:
            answer = b""
            while data := sock.recv(65536):
                answer += data
            return answer


@contextmanager
def serving(way: str, certificates: Certificates, *options: str) -> Iterator[Reached]:
    with short_path() as path:
        listening = ["--uds", path] if way == "unix" else ["--port", "0"]
        if way == "tls":
            listening += [
                f"--{name.replace('_', '-')}={file}" for name, file in certificates.options.items()
            ]
        with Served("asgiws", APP, *listening, *options) as served:
            yield Reached(
                served, path if way == "unix" else "", certificates if way == "tls" else None
            )


@pytest.mark.parametrize(
    ("way", "loop", "beside"),
    [*itertools.product(WAYS, LOOPS, [True]), *itertools.product(["tcp"], LOOPS, [False])],
)
def test_requests_that_wait_in_the_backlog_are_served(
    way: str, loop: str, beside: bool, certificates: Certificates
) -> None:
    with (
        serving(way, certificates, "--loop", loop) as server,
        ThreadPoolExecutor(WAITING["tls"]) as threads,
    ):
        process = server.served.process
        others = []
        if beside:
            others.append(server.connect(asking=False))
            assert b"200 OK" in server.ask(server.connect())  # both are accepted
        process.send_signal(signal.SIGSTOP)
        waiting = [server.connect() for _ in range(WAITING[way])]
        answers = [threads.submit(server.ask, sock) for sock in waiting]
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        for answer in answers:
            assert answer.result(DEADLINE).startswith(b"HTTP/1.1 200")
        for other in others:
            other.close()
        assert server.served.wait_for_end() == 0
    output = "".join(server.served.output)
    assert "Traceback" not in output, output
    assert "app: lifespan.shutdown" in output


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_says_nothing_while_it_is_accepted_does_not_keep_the_server(
    way: str, loop: str, certificates: Certificates
) -> None:
    # Without a window: handshakes in progress would keep that of 3 s open.
    options = ("--loop", loop, "--timeout-graceful-shutdown", "1.5", "--drain-window", "0")
    with serving(way, certificates, *options) as server:
        process = server.served.process
        process.send_signal(signal.SIGSTOP)
        silent = [server.connect(asking=False) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        began = time.monotonic()
        assert server.served.wait_for_end() == 0
        # A TLS handshake may take the whole graceful timeout, and nothing more.
        assert time.monotonic() - began < 5
        for sock in silent:
            sock.close()
    output = "".join(server.served.output)
    assert "Traceback" not in output, output
    assert "app: lifespan.shutdown" in output
    assert "Abandoning" not in output


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("cut", [1, 100], ids=["one byte of it", "a hundred bytes of it"])
def test_a_tls_handshake_that_has_begun_is_finished_and_its_request_answered(
    loop: str, cut: int, certificates: Certificates
) -> None:
    with serving("tls", certificates, "--loop", loop) as server, server.connect() as sock:
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = certificates.client().wrap_bio(received, sent, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = sent.read()
        sock.sendall(hello[:cut])
        end = time.monotonic() + DEADLINE
        # Whoever came before is accepted when this one is answered.
        assert server.ask(server.connect()).startswith(b"HTTP/1.1 200")
        server.served.process.send_signal(signal.SIGTERM)
        while server.accepts():
            assert time.monotonic() < end
        sock.sendall(hello[cut:])
        shaken, answer = False, b""
        while not answer:
            received.write(sock.recv(65536))
            try:
                if not shaken:
                    client.do_handshake()
                    client.write(CLOSE)
                    shaken = True
                answer = client.read()
            except ssl.SSLWantReadError:
                pass
            sock.sendall(sent.read())
        assert answer.startswith(b"HTTP/1.1 200")
        sock.close()
        assert server.served.wait_for_end() == 0


def starting(path: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "asgiws", APP, "--uds", path],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_second_server_leaves_the_unix_socket_to_one_that_is_starting() -> None:
    with short_path() as path:
        first = starting(path, START="slow")
        try:
            assert first.stdout is not None
            for line in first.stdout:
                if "app: waits" in line:
                    break
            second = starting(path)
            output, _ = second.communicate(timeout=DEADLINE)
            assert second.returncode == 4, output
            assert f"cannot listen on unix:{path}: Address already in use" in output
            assert Path(path).exists()
            first.kill()
            first.wait(DEADLINE)
            # It could not remove anything; a third one does not mind.
            assert Path(path).exists()
            with Served("asgiws", APP, "--uds", path) as third:
                assert third.stop() == 0
        finally:
            first.kill()
            first.communicate(timeout=DEADLINE)
        assert list(Path(path).parent.iterdir()) == []
