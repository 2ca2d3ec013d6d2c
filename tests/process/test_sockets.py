"""The sockets that are listened on: families, ports, files, descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BindError
from asgiws.options.config import Config
from asgiws.process.sockets import StreamSocket, bound

from ..toolkit.apps import tell_address
from ..toolkit.raw_http import Client
from ..toolkit.running import running

HERE = "asgiws.process.sockets"


def config(**options: Any) -> Config:
    return Config("main:app", **{"port": 0, **options})


@contextlib.contextmanager
def short_path() -> Iterator[str]:
    """A path for a Unix socket: they may have a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="asgiws") as directory:
        yield f"{directory}/socket"


def test_port_0_picks_a_free_port() -> None:
    with bound() as (first,), bound() as (second,):
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
    with bound(host="localhost") as sockets:
        addresses = [sock.getsockname() for sock in sockets]
        assert [address[0] for address in addresses] == ["127.0.0.1", "::1"]
        assert addresses[0][1] == addresses[1][1] != 0


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
    with bound(host="localhost") as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET]
    found.pop()
    with (
        pytest.raises(BindError, match="cannot listen on localhost"),
        bound(host="localhost"),
    ):
        pass


def test_an_address_of_another_machine_is_an_error() -> None:
    message = r"cannot listen on 192\.0\.2\.1 port 0"
    with pytest.raises(BindError, match=message), bound(host="192.0.2.1"):
        pass


def test_a_name_without_an_address_is_an_error() -> None:
    message = r"cannot listen on no\.such\.invalid"
    with pytest.raises(BindError, match=message), bound(host="no.such.invalid"):
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
        taking = bound(host="localhost", port=port)
        message = f"port {port}: Address already in use"
        with pytest.raises(BindError, match=message), taking:
            pass
        with socket.create_server(("127.0.0.2", port)):
            pass  # what was bound first is free again


def test_a_unix_socket_is_served_and_removed_at_the_end() -> None:
    with short_path() as path:
        with running(tell_address, uds=path) as server:
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
        with running(tell_address, uds=path), Client(path) as client:
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
            with pytest.raises(BindError, match="Address already in use"), bound(uds=path):
                pass
        assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(BindError, match="Address already in use"), bound(uds=str(precious)):
        pass
    assert precious.read_text() == "data"


def test_a_unix_socket_that_another_server_has_replaced_is_left_alone() -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as other:
        with bound(uds=path):
            os.unlink(path)
            other.bind(path)
        assert os.path.exists(path)


def test_what_was_tidied_away_while_a_server_ran_does_not_matter_at_its_end() -> None:
    with short_path() as path:
        with bound(uds=path):
            os.unlink(f"{path}.lock")
        with bound(uds=path):
            os.unlink(path)
            os.unlink(f"{path}.lock")
        assert os.listdir(os.path.dirname(path)) == []
        directory = f"{path}.d"
        os.mkdir(directory)
        with bound(uds=f"{directory}/socket"):
            shutil.rmtree(directory)


def test_the_lock_of_a_server_that_came_later_is_left_alone() -> None:
    with short_path() as path, contextlib.ExitStack() as later:
        with bound(uds=path):
            os.unlink(path)
            os.unlink(f"{path}.lock")
            later.enter_context(bound(uds=path))
        assert os.path.exists(path)
        with pytest.raises(BindError, match="Address already in use"), bound(uds=path):
            pass


def test_a_directory_that_is_missing_is_an_error() -> None:
    with short_path() as path:
        missing = bound(uds=f"{path}/missing/socket")
        with pytest.raises(BindError, match="No such file or directory"), missing:
            pass


def test_a_socket_can_be_handed_over_by_its_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        with running(tell_address, fd=os.dup(given.fileno())) as server:
            assert server.port == given.getsockname()[1]
            with Client(server) as client:
                assert client.get().status == 200
        with socket.create_connection(given.getsockname()):
            pass  # it is the giver's, and goes on listening


def test_a_unix_socket_that_was_handed_over_keeps_its_file() -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as given:
        given.bind(path)
        with running(tell_address, fd=os.dup(given.fileno())), Client(path) as client:
            assert client.get().status == 200
        assert os.path.exists(path)


def test_a_descriptor_that_is_no_stream_socket_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        fd = file.fileno()
        with pytest.raises(BindError, match=f"--fd {fd} is no socket"), bound(fd=fd):
            pass
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        fd = datagrams.detach()
        message = f"--fd {fd} is no stream socket"
        with pytest.raises(BindError, match=message), bound(fd=fd):
            pass
