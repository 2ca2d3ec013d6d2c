"""The sockets that are listened on: families, ports, files, descriptors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BindError
from asgiws.options.addresses import Address, Descriptor, Inet, Unix
from asgiws.process.sockets import Bound, StreamSocket

from ..toolkit.apps import tell_address
from ..toolkit.raw_http import Client
from ..toolkit.running import running

HERE = "asgiws.process.sockets"


def bound(*addresses: Address) -> Bound:
    return Bound(addresses or [Inet("127.0.0.1", 0)])


@contextlib.contextmanager
def short_path() -> Iterator[str]:
    """A path for a Unix socket: they may have a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="asgiws") as directory:
        yield f"{directory}/socket"


def test_port_0_picks_a_free_port() -> None:
    with bound() as first, bound() as second:
        ports = {held.sockets[0].getsockname()[1] for held in (first, second)}
        assert len(ports) == 2
        assert 0 not in ports


def test_a_name_is_listened_on_in_every_family_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    ]
    monkeypatch.setattr(f"{HERE}.socket.getaddrinfo", lambda *_a, **_k: [*both, both[0]])
    with bound(Inet("both.example", 0)) as held:
        addresses = [sock.getsockname() for sock in held.sockets]
        assert [address[0] for address in addresses] == ["127.0.0.1", "::1"]
        assert addresses[0][1] == addresses[1][1] != 0


def test_localhost_is_both_families_though_the_hosts_file_knows_one_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        f"{HERE}.socket.getaddrinfo",
        lambda host, *a, **k: asked.append(host) or resolve(host, *a, **k),
    )
    with bound(Inet("localhost", 0)) as held:
        addresses = [sock.getsockname()[:2] for sock in held.sockets]
        port = addresses[0][1]
        assert addresses == [("127.0.0.1", port), ("::1", port)]
    assert asked == ["127.0.0.1", "::1"]


def test_no_host_is_every_address_of_both_families() -> None:
    with bound(Inet("", 0)) as held:
        addresses = [sock.getsockname()[:2] for sock in held.sockets]
        port = addresses[0][1]
        assert sorted(addresses) == [("0.0.0.0", port), ("::", port)]


def test_several_addresses_are_bound_together_or_not_at_all() -> None:
    with short_path() as path, socket.create_server(("127.0.0.1", 0)) as taken:
        with bound(Inet("127.0.0.1", 0), Unix(path), Inet("::1", 0)) as held:
            families = [sock.family for sock in held.sockets]
            assert families == [socket.AF_INET, socket.AF_UNIX, socket.AF_INET6]
        assert os.listdir(os.path.dirname(path)) == []
        addresses = [Unix(path), Inet("127.0.0.1", taken.getsockname()[1])]
        with pytest.raises(BindError, match="Address already in use"), bound(*addresses):
            pass
        assert os.listdir(os.path.dirname(path)) == []


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
    with bound(Inet("both.example", 0)) as held:
        assert [sock.family for sock in held.sockets] == [socket.AF_INET]
    found.pop()
    with (
        pytest.raises(BindError, match=r"cannot listen on both\.example:0"),
        bound(Inet("both.example", 0)),
    ):
        pass


def test_an_address_of_another_machine_is_an_error() -> None:
    message = r"cannot listen on 192\.0\.2\.1:0: "
    with pytest.raises(BindError, match=message), bound(Inet("192.0.2.1", 0)):
        pass


def test_a_name_without_an_address_is_an_error() -> None:
    message = r"cannot listen on no\.such\.invalid"
    with pytest.raises(BindError, match=message), bound(Inet("no.such.invalid", 0)):
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
        message = f"both.example:{port}: Address already in use"
        with pytest.raises(BindError, match=message), bound(Inet("both.example", port)):
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
            with pytest.raises(BindError, match="Address already in use"), bound(Unix(path)):
                pass
        assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(BindError, match="Address already in use"), bound(Unix(str(precious))):
        pass
    assert precious.read_text() == "data"


def test_a_unix_socket_that_another_server_has_replaced_is_left_alone() -> None:
    with short_path() as path, socket.socket(socket.AF_UNIX) as other:
        with bound(Unix(path)):
            os.unlink(path)
            other.bind(path)
        assert os.path.exists(path)


def test_what_was_tidied_away_while_a_server_ran_does_not_matter_at_its_end() -> None:
    with short_path() as path:
        with bound(Unix(path)):
            os.unlink(f"{path}.lock")
        with bound(Unix(path)):
            os.unlink(path)
            os.unlink(f"{path}.lock")
        assert os.listdir(os.path.dirname(path)) == []
        directory = f"{path}.d"
        os.mkdir(directory)
        with bound(Unix(f"{directory}/socket")):
            shutil.rmtree(directory)


def test_the_lock_of_a_server_that_came_later_is_left_alone() -> None:
    with short_path() as path, contextlib.ExitStack() as later:
        with bound(Unix(path)):
            os.unlink(path)
            os.unlink(f"{path}.lock")
            later.enter_context(bound(Unix(path)))
        assert os.path.exists(path)
        with pytest.raises(BindError, match="Address already in use"), bound(Unix(path)):
            pass


def test_a_directory_that_is_missing_is_an_error() -> None:
    with short_path() as path:
        missing = Unix(f"{path}/missing/socket")
        with pytest.raises(BindError, match="No such file or directory"), bound(missing):
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


def test_an_abstract_unix_socket_is_served_and_shown_as_systemd_writes_it() -> None:
    name = f"asgiws-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(f"\0{name}")
        with running(tell_address, fd=os.dup(given.fileno())) as server:
            assert server.server.addresses == [f"\0{name}"]
            assert server.server.urls == [f"unix:@{name}"]
            with Client(f"\0{name}") as client:
                assert client.get().body == repr((f"\0{name}", None)).encode()


def test_a_descriptor_that_is_no_stream_socket_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        fd = file.fileno()
        with pytest.raises(BindError, match=f"fd://{fd} is not a socket"), bound(Descriptor(fd)):
            pass
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        fd = datagrams.detach()
        message = f"fd://{fd} is not a stream socket"
        with pytest.raises(BindError, match=message), bound(Descriptor(fd)):
            pass


def test_the_children_of_the_server_do_not_get_a_socket_that_it_was_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        fd = os.dup(given.fileno())
        os.set_inheritable(fd, True)
        with bound(Descriptor(fd)) as held:
            assert held.sockets[0].fileno() == fd
            assert not os.get_inheritable(fd)


@pytest.mark.parametrize("permissions", [0o600, 0o660, 0o666])
def test_the_file_of_a_unix_socket_gets_the_permissions_that_are_asked_for(
    permissions: int,
) -> None:
    with short_path() as path, running(tell_address, uds=path, uds_permissions=permissions):
        assert stat.S_IMODE(os.stat(path).st_mode) == permissions


def test_addresses_are_exchanged_while_those_that_stay_go_on() -> None:
    with short_path() as path, bound(Inet("127.0.0.1", 0), Unix(f"{path}.old")) as held:
        stays, goes = held.sockets
        stays.listen()
        with socket.create_connection(stays.getsockname()) as client:
            held.change([Unix(path), Inet("127.0.0.1", 0)], 0o600)
            comes, stayed = held.sockets
            assert stayed is stays
            assert goes.fileno() == -1
            peer, address = stays.accept()
            peer.close()
            assert address == client.getsockname()
        assert comes.getsockname() == path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert sorted(os.listdir(os.path.dirname(path))) == ["socket", "socket.lock"]


def test_an_exchange_that_fails_changes_nothing() -> None:
    with (
        short_path() as path,
        socket.create_server(("127.0.0.1", 0)) as taken,
        bound(Inet("127.0.0.1", 0), Unix(path)) as held,
    ):
        before = held.sockets
        addresses = [Unix(f"{path}.new"), Inet("127.0.0.1", taken.getsockname()[1])]
        with pytest.raises(BindError, match="Address already in use"):
            held.change(addresses)
        assert held.sockets == before
        assert sorted(os.listdir(os.path.dirname(path))) == ["socket", "socket.lock"]


def test_a_unix_socket_that_stays_gets_its_new_permissions() -> None:
    with short_path() as path, bound(Unix(path)) as held:
        held.change([Unix(path)], 0o600)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        os.unlink(path)
        Path(path).touch(0o644)
        held.change([Unix(path)], 0o666)  # another file by now
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


NEXT_PROGRAM = """
import json, os, sys
from asgiws.options.addresses import parse_address
from asgiws.process.sockets import Bound
addresses = [parse_address(text) for text in sys.argv[2:]]
with Bound(addresses, 0o600, json.loads(sys.argv[1])) as bound:
    inheritable = [os.get_inheritable(sock.fileno()) for sock in bound.sockets]
    names = [sock.getsockname() for sock in bound.sockets]
    print(json.dumps([os.getpid(), names, inheritable]), flush=True)
    for sock in bound.sockets:
        peer = sock.accept()[0]
        peer.sendall(b"next program")
        peer.close()
    sys.stdin.read()
"""

FIRST_PROGRAM = f"""
import json, os, sys
from asgiws.options.addresses import Inet, Unix
from asgiws.process.sockets import Bound
path = sys.argv[1]
with Bound([Inet("127.0.0.1", 0), Unix(path), Unix(path + ".gone")]) as bound:
    for sock in bound.sockets:
        sock.listen()
    try:
        with bound.handed_over():
            os.execv("/nowhere/python", ["python"])
    except OSError:
        inheritable = [os.get_inheritable(sock.fileno()) for sock in bound.sockets]
    names = [sock.getsockname() for sock in bound.sockets]
    print(json.dumps([os.getpid(), names, inheritable]), flush=True)
    sys.stdin.readline()
    with bound.handed_over() as state:
        words = [json.dumps(state), "127.0.0.1:0", "unix:" + path]
        os.execv(sys.executable, [sys.executable, "-c", {NEXT_PROGRAM!r}, *words])
"""


def test_the_next_program_of_the_process_takes_over_what_it_wants_and_tidies_up() -> None:
    with (
        short_path() as path,
        subprocess.Popen(
            [sys.executable, "-c", FIRST_PROGRAM, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        pid, (address, *paths), inheritable = json.loads(process.stdout.readline())
        assert paths == [path, f"{path}.gone"]
        assert inheritable == [False] * 3  # taken back: the first one could not be executed
        with socket.create_connection(address) as waits, socket.socket(socket.AF_UNIX) as waits_too:
            waits_too.connect(path)
            process.stdin.write("\n")
            process.stdin.flush()
            again = json.loads(process.stdout.readline())
            assert again == [pid, [address, path], [False] * 2]
            for client in (waits, waits_too):
                client.settimeout(10)
                assert client.recv(100) == b"next program"
        assert sorted(os.listdir(os.path.dirname(path))) == ["socket", "socket.lock"]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with pytest.raises(BindError, match="Address already in use"), bound(Unix(path)):
            pass
        process.stdin.close()
        assert process.wait(10) == 0
        assert os.listdir(os.path.dirname(path)) == []
