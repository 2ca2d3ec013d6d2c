"""What leaves through the socket itself, beside a transport that writes to it as well."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from types import ModuleType
from typing import Any, Self

import pytest

import asgiws
from asgiws.transport import NOT_LOOKED_AT

from ..toolkit.running import NewLoop


class Peers:
    """An outbox whose transport is an event loop's own, and the socket at the other end."""

    def __init__(self, package: ModuleType) -> None:
        self._outbox = package.transport.outbox
        self.here, self.there = socket.socketpair()
        self.there.setblocking(False)
        self.transport: Any = None
        self.outbox: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        peers = self

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                peers.lost.set_result(exc)

        self.transport, _ = await loop.create_unix_connection(Protocol, sock=self.here)
        self.outbox = self._outbox.Outbox(self._outbox.Flush(loop))
        self.outbox.open(self.transport, NOT_LOOKED_AT)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.abort()
        await self.lost
        self.there.close()

    async def read(self, size: int) -> bytes:
        """So many bytes that have come to the other end."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            data += await loop.sock_recv(self.there, size - len(data))
        return data


async def test_what_is_corked_leaves_in_one_piece_and_in_order(
    package: ModuleType, new_loop: NewLoop
) -> None:
    async with Peers(package) as peers:
        for number in range(3):
            for frame in range(10):
                peers.outbox.write(b"%d%d " % (number, frame), True)
            await asyncio.sleep(0)
        expected = b"".join(b"%d%d " % (n, f) for n in range(3) for f in range(10))
        assert await peers.read(len(expected)) == expected


async def test_what_waits_in_the_transport_comes_first(
    package: ModuleType, new_loop: NewLoop
) -> None:
    async with Peers(package) as peers:
        frame = os.urandom(8 << 20)
        peers.outbox.write(frame, False)
        assert peers.transport.get_write_buffer_size() > 0
        # Now there is room in the socket, and the transport does not know of it yet.
        begin = peers.there.recv(1 << 20)
        peers.outbox.write(b"behind it", True)
        peers.outbox.flush()
        rest = await peers.read(len(frame) - len(begin) + 9)
        assert begin + rest == frame + b"behind it"
        # The transport has nothing any more.
        peers.outbox.write(b"end", True)
        assert await peers.read(3) == b"end"


async def test_what_the_socket_has_no_room_for_waits_in_the_transport(
    package: ModuleType, new_loop: NewLoop
) -> None:
    async with Peers(package) as peers:
        frame = os.urandom(8 << 20)
        peers.outbox.write(frame, True)
        assert 0 < peers.transport.get_write_buffer_size() < len(frame)
        assert peers.outbox.taken() < len(frame)
        assert await peers.read(len(frame)) == frame


async def test_an_error_of_the_socket_is_the_transports(
    package: ModuleType, new_loop: NewLoop
) -> None:
    async with Peers(package) as peers:
        peers.there.close()
        for _ in range(10):
            peers.outbox.write(b"x", True)
            await asyncio.sleep(0.01)
            if peers.lost.done():
                break
        assert peers.lost.done()
        peers.outbox.lose()


async def test_a_fin_comes_with_the_last_frame(package: ModuleType, new_loop: NewLoop) -> None:
    """In the same segment: who finds the frame finds the end behind it, without a wait."""
    loop = asyncio.get_running_loop()
    module = package.transport.outbox
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(20):
            there = socket.create_connection(listening.getsockname())
            here = listening.accept()[0]
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, here)
            outbox = module.Outbox(module.Flush(loop))
            outbox.open(transport, NOT_LOOKED_AT)
            outbox.write(b"corked ", True)
            sent = outbox.write_last([b"the ", b"end"])
            there.setblocking(False)
            with there:
                assert await loop.sock_recv(there, 14) == b"corked the end"
                if sent:
                    assert there.recv(1) == b""
                else:  # it is left to the transport
                    assert package is not asgiws
                    transport.write_eof()
                    assert await loop.sock_recv(there, 1) == b""
            transport.abort()


@pytest.mark.parametrize("frames", [[], [b"the end"]])
async def test_a_fin_is_left_to_a_transport_in_which_bytes_wait(
    package: ModuleType, new_loop: NewLoop, frames: list[bytes]
) -> None:
    async with Peers(package) as peers:
        frame = os.urandom(8 << 20)
        peers.outbox.write(frame, False)
        assert peers.transport.get_write_buffer_size() > 0
        assert peers.outbox.write_last(frames) is False
        peers.transport.write_eof()
        whole = frame + b"".join(frames)
        assert await peers.read(len(whole)) == whole
        assert await asyncio.get_running_loop().sock_recv(peers.there, 1) == b""


class Told:
    """A transport as it tells of itself; what it is given is noted down."""

    def __init__(self, sock: socket.socket, tls: bool, closing: bool) -> None:
        self.written: list[bytes] = []
        context = ssl.create_default_context() if tls else None
        self._about = {"socket": sock, "sslcontext": context}
        self._closing = closing

    def get_extra_info(self, name: str) -> object:
        return self._about.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.mark.parametrize(("tls", "closing"), [(True, False), (False, True)])
async def test_a_transport_that_encrypts_or_closes_gets_everything(
    package: ModuleType, tls: bool, closing: bool
) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        module = package.transport.outbox
        outbox = module.Outbox(module.Flush(asyncio.get_running_loop()))
        outbox.transport = transport = Told(here, tls, closing)
        outbox.write(b"secret", True)
        await asyncio.sleep(0)
        assert transport.written == [b"secret"]
        with pytest.raises(BlockingIOError):
            there.recv(100)
