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
        failed = asyncio.Event()
        arrivals = Arrivals(
            asyncio.get_running_loop(),
            lambda peer, own, fd: Protocol(made, peer),
            None,
            5.0,
        )
        arrivals.failed = failed.set
        arrivals.take(ours, "somebody")
        assert len(arrivals) == 1
        peer, transport = await made
        while len(arrivals):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (peer, failed.is_set()) == ("somebody", False)
        transport.abort()
        theirs.close()

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_failed_tls_handshake_leaves_the_arrivals(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        failed = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(
            asyncio.get_running_loop(), lambda peer, own, fd: asyncio.Protocol(), context, 5.0
        )
        arrivals.failed = failed.set
        arrivals.take(ours, None)
        theirs.send(b"this is not TLS\r\n\r\n" * 8)
        await failed.wait()
        assert len(arrivals) == 0
        theirs.close()

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_ends_what_is_still_being_set_up(loop: str, certificates: Certificates) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        failed = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(
            asyncio.get_running_loop(),
            lambda peer, own, fd: asyncio.Protocol(),
            context,
            60.0,
        )
        arrivals.failed = failed.set
        arrivals.take(ours, None)
        await asyncio.sleep(0)
        arrivals.abort()
        await failed.wait()
        assert len(arrivals) == 0
        theirs.close()

    run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_protocol_that_cannot_be_made_is_reported_and_leaves_no_socket(loop: str) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        reported = []
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: reported.append(context["exception"]))

        def factory(peer: Any, own: Any, fd: int) -> asyncio.Protocol:
            raise LookupError("no such protocol")

        failed = asyncio.Event()
        arrivals = Arrivals(running, factory, None, 5.0)
        arrivals.failed = failed.set
        arrivals.take(ours, None)
        await failed.wait()
        assert [type(error) for error in reported] == [LookupError]
        assert (len(arrivals), ours.fileno()) == (0, -1)
        theirs.close()

    run(loop, scenario)


def test_a_socket_without_an_address_is_given_up() -> None:
    class Gone(socket.socket):
        def getsockname(self) -> Any:
            raise OSError(22, "Invalid argument")

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        gone = Gone(fileno=ours.detach())
        failed = asyncio.Event()
        arrivals = Arrivals(asyncio.get_running_loop(), asyncio.Protocol, None, 5.0)
        arrivals.failed = failed.set
        arrivals.take(gone, None)
        assert (failed.is_set(), len(arrivals), gone.fileno()) == (True, 0, -1)
        theirs.close()

    run("asyncio", scenario)
