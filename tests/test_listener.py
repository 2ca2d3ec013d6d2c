"""Binding, accepting, and running out of descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import select
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BindError
from asgiws.options.config import Config
from asgiws.process.listener import StreamSocket, bound
from asgiws.process.server import Server

from .http_helpers import LOOPS, Client, running
from .served import Served

HERE = "asgiws.process.listener"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(scope["server"]).encode()})


def config(**options: Any) -> Config:
    return Config(hello, **{"port": 0, "lifespan": "off", **options})


@contextlib.contextmanager
def short_path() -> Iterator[str]:
    """A path for a Unix socket: they may have a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="asgiws") as directory:
        yield f"{directory}/socket"


def test_port_0_picks_a_free_port() -> None:
    with bound(config()) as (first,), bound(config()) as (second,):
        ports = {first.getsockname()[1], second.getsockname()[1]}
        assert len(ports) == 2
        assert 0 not in ports


def test_localhost_is_listened_on_in_every_family_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(f"{HERE}.socket.getaddrinfo", lambda *_a, **_k: [*both, both[0]])
    with bound(config(host="localhost")) as sockets:
        addresses = [sock.getsockname() for sock in sockets]
        assert [address[0] for address in addresses] == ["127.0.0.1", "::1"]
        assert addresses[0][1] == addresses[1][1] != 0


def test_both_families_are_served() -> None:
    server = Server(config(host="localhost"))

    async def session() -> list[bytes]:
        serving = asyncio.ensure_future(server.serve())
        await server.wait_started()
        answers = []
        for address in server.addresses:
            reader, writer = await asyncio.open_connection(*address[:2])
            writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answers.append(await reader.read())
            writer.close()
            await writer.wait_closed()
        server.shutdown()
        await serving
        return answers

    answers = asyncio.run(asyncio.wait_for(session(), 5))
    assert answers
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize("missing", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_family_that_this_machine_lacks_is_left_out(
    missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(f"{HERE}.socket.getaddrinfo", lambda *_a, **_k: found)

    class Socket(StreamSocket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(missing, os.strerror(missing))
            super().bind(address)

    monkeypatch.setattr(f"{HERE}.StreamSocket", Socket)
    with bound(config(host="localhost")) as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET]
    found.pop()
    with (
        pytest.raises(BindError, match="cannot listen on localhost"),
        bound(config(host="localhost")),
    ):
        pass


def test_an_address_of_another_machine_is_an_error() -> None:
    message = r"cannot listen on 192\.0\.2\.1 port 0"
    with pytest.raises(BindError, match=message), bound(config(host="192.0.2.1")):
        pass


def test_a_name_without_an_address_is_an_error() -> None:
    message = r"cannot listen on no\.such\.invalid"
    with pytest.raises(BindError, match=message), bound(config(host="no.such.invalid")):
        pass


def test_a_port_in_use_is_an_error_and_leaves_no_socket_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(f"{HERE}.socket.getaddrinfo", lambda *_a, **_k: found)
        taking = bound(config(host="localhost", port=port))
        message = f"port {port}: Address already in use"
        with pytest.raises(BindError, match=message), taking:
            pass
        with socket.create_server(("127.0.0.2", port)):
            pass  # what was bound first is free again


def test_two_servers_that_start_at_once_on_one_port_do_not_both_serve() -> None:
    """Both can bind while neither listens; the second one to listen is told."""
    rival = socket.socket()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(server.addresses[0])
        rival.listen()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    server = Server(Config(app, port=0, lifespan="on"))
    with rival, pytest.raises(BindError, match="Address already in use"):
        asyncio.run(asyncio.wait_for(server.serve(), 5))


def test_the_port_of_a_server_that_has_ended_can_be_taken_at_once() -> None:
    with running(hello) as server:
        with Client(server) as client:
            assert client.get().status == 200
        port = server.port
    with running(hello, port=port) as server, Client(server) as client:
        assert client.get().status == 200


def test_a_unix_socket_is_served_and_removed_at_the_end() -> None:
    with short_path() as path:
        with running(hello, uds=path) as server:
            assert server.server.addresses == [path]
            assert server.server.urls == [f"unix:{path}"]
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
            with Client(path) as client:
                assert client.get().body == repr((path, None)).encode()
        assert not os.path.exists(path)


def test_the_socket_of_a_server_that_crashed_is_replaced() -> None:
    with short_path() as path:
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(path)
            crashed.listen()
        assert os.path.exists(path)
        with running(hello, uds=path), Client(path) as client:
            assert client.get().status == 200


@pytest.mark.parametrize("full", [False, True])
def test_a_unix_socket_in_use_is_left_alone(full: bool) -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        with contextlib.ExitStack() as clients:
            while full:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                try:
                    client.connect(path)
                except BlockingIOError:
                    break
            with pytest.raises(BindError, match="Address already in use"), bound(config(uds=path)):
                pass
        assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(BindError, match="Address already in use"), bound(config(uds=str(precious))):
        pass
    assert precious.read_text() == "data"


def test_a_unix_socket_that_another_server_has_replaced_is_left_alone() -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as other:
        with bound(config(uds=path)):
            os.unlink(path)
            other.bind(path)
        assert os.path.exists(path)


def test_a_directory_that_is_missing_is_an_error() -> None:
    with short_path() as path:
        missing = bound(config(uds=f"{path}/missing/socket"))
        with pytest.raises(BindError, match="No such file or directory"), missing:
            pass


def test_a_socket_can_be_handed_over_by_its_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        with running(hello, fd=os.dup(given.fileno())) as server:
            assert server.port == given.getsockname()[1]
            with Client(server) as client:
                assert client.get().status == 200
        with socket.create_connection(given.getsockname()):
            pass  # it is the giver's, and goes on listening


def test_a_unix_socket_that_was_handed_over_keeps_its_file() -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as given:
        given.bind(path)
        with running(hello, fd=os.dup(given.fileno())), Client(path) as client:
            assert client.get().status == 200
        assert os.path.exists(path)


def test_a_descriptor_that_is_no_stream_socket_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        fd = file.fileno()
        with pytest.raises(BindError, match=f"--fd {fd} is no socket"), bound(config(fd=fd)):
            pass
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        fd = datagrams.detach()
        message = f"--fd {fd} is no stream socket"
        with pytest.raises(BindError, match=message), bound(config(fd=fd)):
            pass


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_without_descriptors_keeps_its_clients_and_accepts_again(loop: str) -> None:
    limit = 40
    options = ("--port", "0", "--loop", loop, "--timeout-keep-alive", "60", "--lifespan", "off")
    with Served(
        "asgiws", "tests.test_listener:hello", *options, preexec=lambda: few_descriptors(limit)
    ) as served:
        with contextlib.ExitStack() as stack:
            clients = set()
            for _ in range(2 * limit):
                client = stack.enter_context(contextlib.closing(socket.socket()))
                client.settimeout(10)
                client.connect(("127.0.0.1", served.port))
                client.sendall(REQUEST)
                clients.add(client)
            served.wait_for_line("Cannot accept connections for now: Too many open files")
            accepted = set(select.select(list(clients), [], [], 10)[0])
            assert 0 < len(accepted) < limit
            for client in accepted:
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
                client.sendall(REQUEST)
            for client in accepted:  # they are kept
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
            while clients:
                for client in accepted:
                    client.close()
                clients -= accepted
                if clients:  # nobody was dropped
                    accepted = set(select.select(list(clients), [], [], 10)[0])
                    assert accepted
                    for client in accepted:
                        assert client.recv(65536).startswith(b"HTTP/1.1 200")
            served.wait_for_line("All connections that waited are accepted")
        assert served.stop() == 0
    output = "".join(served.output)
    assert output.count("Cannot accept") == 1, output
    assert "Traceback" not in output, output


def few_descriptors(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
