"""Binding, accepting, and running out of descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import select
import socket
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import BindError
from asgiws.options.config import Config
from asgiws.process.listener import Listener
from asgiws.process.server import Server

from ..toolkit.apps import tell_address
from ..toolkit.raw_http import Client
from ..toolkit.running import DEADLINE, LOOPS, running
from ..toolkit.served import Served

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_both_families_are_served() -> None:
    server = Server(Config(tell_address, host="localhost", port=0, lifespan="off"))

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


@pytest.mark.parametrize("loop", LOOPS)
def test_all_addresses_are_served(loop: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        running(
            tell_address,
            loop,
            bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}", f"fd://{os.dup(given.fileno())}"],
        ) as server,
    ):
        addresses = server.server.addresses
        assert addresses[2:] == [path, given.getsockname()]
        assert server.server.urls[1:3] == [f"http://[::1]:{addresses[1][1]}", f"unix:{path}"]
        for address in addresses:
            family = socket.AF_UNIX if address == path else None
            with contextlib.ExitStack() as stack:
                if family is None:
                    client = stack.enter_context(socket.create_connection(address[:2], DEADLINE))
                else:
                    client = stack.enter_context(socket.socket(family))
                    client.connect(address)
                client.sendall(REQUEST)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")


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
    with running(tell_address) as server:
        with Client(server) as client:
            assert client.get().status == 200
        port = server.port
    with running(tell_address, port=port) as server, Client(server) as client:
        assert client.get().status == 200


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_without_descriptors_keeps_its_clients_and_accepts_again(loop: str) -> None:
    limit = 40
    options = ("--port", "0", "--loop", loop, "--timeout-keep-alive", "60", "--lifespan", "off")
    with Served(
        "asgiws",
        "tests.toolkit.apps:tell_address",
        *options,
        preexec=lambda: few_descriptors(limit),
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


class Backlog:
    """A listening socket that counts how often it is asked for a connection."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.waiting = 0
        self.asked = 0
        self.error: OSError | None = None

    def accept(self) -> tuple[object, object]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if not self.waiting:
            raise BlockingIOError
        self.waiting -= 1
        return object(), None

    def fileno(self) -> int:
        return -1


class Loop:
    def remove_reader(self, fd: int) -> None:
        pass

    def add_reader(self, fd: int, callback: object) -> None:
        pass

    def call_later(self, seconds: float, callback: object) -> None:
        pass


class Taken(list[object]):
    bare = False

    def take(self, sock: object, address: object) -> None:
        self.append(sock)


def test_it_is_asked_once_for_a_connection_that_comes_alone_and_often_when_many_wait() -> None:
    backlog, taken = Backlog(), Taken()
    listener = Listener(Loop(), backlog, taken)  # type: ignore[arg-type]
    for _ in range(900):
        backlog.waiting = 1
        listener._on_readable()
    assert len(taken) == 900
    assert backlog.asked <= 1010  # to ask again is tried now and then
    backlog.waiting, backlog.asked, turns = 5000, 0, 0
    while backlog.waiting:
        listener._on_readable()
        turns += 1
    assert len(taken) == 5900
    assert turns < 140


def test_all_that_waits_is_tried_once_descriptors_may_be_there_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    backlog, taken = Backlog(), Taken()
    listener = Listener(Loop(), backlog, taken)  # type: ignore[arg-type]
    backlog.error = OSError(errno.EMFILE, "Too many open files")
    listener._on_readable()
    listener._resume()
    listener._on_readable()
    backlog.error, backlog.waiting = None, 40
    listener._resume()
    listener._on_readable()
    assert len(taken) == 40
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Cannot accept connections for now",
        "All connections that waited are accepted",
    ]
