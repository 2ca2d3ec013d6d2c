"""Sockets on their way from process to process."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from asgiws.process import inbox


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of one over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return listening.accept()[0], client


@contextmanager
def descriptors(most: int) -> Iterator[None]:
    """No descriptor gets a number from ``most`` on."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_is_put_is_taken_and_works() -> None:
    near, far = inbox.pair()
    server, client = connection()
    unix, peer = socket.socketpair()
    assert inbox.put(near, [server, unix])
    server.close()
    unix.close()
    taken = inbox.take(far)
    assert [sock.family for sock in taken] == [socket.AF_INET, socket.AF_UNIX]
    assert taken[0].getpeername() == client.getsockname()
    taken[0].send(b"over TCP")
    taken[1].send(b"over Unix")
    assert (client.recv(99), peer.recv(99)) == (b"over TCP", b"over Unix")
    assert not any(os.get_inheritable(sock.fileno()) for sock in taken)
    assert inbox.take(far) == []
    for sock in (near, far, client, peer, *taken):
        sock.close()


def test_what_lies_in_an_inbox_outlives_who_put_it_there() -> None:
    near, far = inbox.pair()
    server, client = connection()
    assert inbox.put(near, [server])
    server.close()
    near.close()
    (taken,) = inbox.take(far)
    taken.send(b"still here")
    assert client.recv(99) == b"still here"
    for sock in (far, client, taken):
        sock.close()


def test_a_full_inbox_says_so_and_keeps_what_it_has() -> None:
    near, far = inbox.pair()
    one, other = socket.socketpair()
    put = 0
    while inbox.put(near, [one] * inbox.MOST):
        put += 1
        assert put < 10_000
    assert put > 0
    for _ in range(put):
        taken = inbox.take(far)
        assert len(taken) == inbox.MOST
        for sock in taken:
            sock.close()
    assert inbox.take(far) == []
    for sock in (near, far, one, other):
        sock.close()


@pytest.mark.parametrize("free", [0, 1, inbox.MOST - 1])
def test_no_socket_is_lost_where_descriptors_are(free: int) -> None:
    near, far = inbox.pair()
    pairs = [socket.socketpair() for _ in range(inbox.MOST)]
    assert inbox.put(near, [ours for ours, _ in pairs])
    for ours, _ in pairs:
        ours.close()
    held = [os.dup(0) for _ in range(2)]  # the lowest free numbers
    for fd in held:
        os.close(fd)
    with descriptors(200):
        filling = []
        try:
            while True:
                filling.append(os.dup(0))
        except OSError:
            pass
        for _ in range(free):
            os.close(filling.pop())
        with pytest.raises(inbox.NoDescriptors):
            inbox.take(far)
        # What it looked at it has given back.
        again = [os.dup(0) for _ in range(free)]
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        for fd in filling + again:
            os.close(fd)
        taken = inbox.take(far)
    assert len(taken) == inbox.MOST
    for sock, (_, theirs) in zip(taken, pairs, strict=True):
        sock.send(b"x")
        assert theirs.recv(9) == b"x"
        theirs.close()
        sock.close()
    near.close()
    far.close()
