"""How many bytes wait for a peer, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from asgiws.transport.progress import waiting

from ..toolkit.running import NewLoop


class Connected:
    """A transport, and the socket of the peer that reads when it is told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    async def __aenter__(self) -> tuple[Any, socket.socket]:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_connection(
            asyncio.Protocol, *self.listener.getsockname()
        )
        self.peer, _ = self.listener.accept()
        return self.transport, self.peer

    async def __aexit__(self, *_: object) -> None:
        self.transport.abort()
        self.peer.close()
        self.listener.close()
        await asyncio.sleep(0)


async def test_nothing_waits_where_the_transport_could_write_all(new_loop: NewLoop) -> None:
    async with Connected() as (transport, _):
        assert waiting(transport) == 0
        transport.write(b"few bytes")
        assert waiting(transport) == 0


async def test_it_changes_with_every_little_that_the_peer_takes(new_loop: NewLoop) -> None:
    async with Connected() as (transport, peer):
        size = 20_000_000
        transport.write(bytes(size))
        held = transport.get_write_buffer_size()
        assert 0 < held < size
        before = waiting(transport)
        assert held < before <= size
        taken = 0
        while waiting(transport) == before:
            taken += len(peer.recv(4096))
            await asyncio.sleep(0)
        assert taken < 1_000_000
        assert waiting(transport) < before


async def test_a_closed_socket_is_no_error(new_loop: NewLoop) -> None:
    async with Connected() as (transport, peer):
        transport.write(bytes(20_000_000))
        held = transport.get_write_buffer_size()

        class Closed:
            def get_write_buffer_size(self) -> int:
                return int(held)

            def get_extra_info(self, name: str) -> Any:
                return peer

        peer.close()
        assert waiting(Closed()) == held
