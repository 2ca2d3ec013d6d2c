"""Connections that are being set up: those that succeed, and those that do not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from asgiws.process.arrivals import Arrivals

from ..toolkit.certificates import Certificates
from ..toolkit.running import LOOPS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Protocol(asyncio.Protocol):
    """Remembers what it was made with."""

    def __init__(self, made: asyncio.Future[Any], peer: Any) -> None:
        self.made = made
        self.peer = peer

    def connection_made(self, transport: Any) -> None:
        self.made.set_result((self.peer, transport))


def run(loop: str, scenario: Any) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(scenario(), 5))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_socket_gets_its_protocol_and_leaves_the_arrivals(loop: str) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        made = asyncio.get_running_loop().create_future()
        gone: list[int] = []
        arrivals = Arrivals(
            asyncio.get_running_loop(),
            lambda peer, own: Protocol(made, peer),
            None,
            5.0,
            lambda: gone.append(1),
        )
        arrivals.take(ours, "somebody")
        assert len(arrivals) == 1
        peer, transport = await made
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (peer, len(arrivals), gone) == ("somebody", 0, [])
        transport.abort()
        theirs.close()

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_failed_tls_handshake_is_told_as_gone(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        gone = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(
            asyncio.get_running_loop(), lambda peer, own: asyncio.Protocol(), context, 5.0, gone.set
        )
        arrivals.take(ours, None)
        theirs.send(b"this is not TLS\r\n\r\n" * 8)
        await gone.wait()
        assert len(arrivals) == 0
        theirs.close()

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_ends_what_is_still_being_set_up(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        gone = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(
            asyncio.get_running_loop(),
            lambda peer, own: asyncio.Protocol(),
            context,
            60.0,
            gone.set,
        )
        arrivals.take(ours, None)
        await asyncio.sleep(0)
        arrivals.abort()
        await gone.wait()
        assert len(arrivals) == 0
        theirs.close()

    run(loop, scenario)
