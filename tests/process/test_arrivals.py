"""Connections that are being set up: those that succeed, and those that do not."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop

from asgiws.process.arrivals import Arrivals, Steps
from asgiws.process.sockets import Accepted, accepting
from asgiws.transport import NO_SOCKET, NOT_LOOKED_AT

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
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.made.set_result((self.peer, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def unix_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        return listening.accept()[0], theirs


PAIRS = {"unix": unix_pair, "tcp": tcp_pair}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def run(loop: str, scenario: Any) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(scenario(), 5))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_socket_gets_its_protocol_and_leaves_the_arrivals(loop: str, pair: str) -> None:
    async def scenario() -> None:
        ours, theirs = PAIRS[pair]()
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


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_failed_tls_handshake_leaves_the_arrivals(
    loop: str, pair: str, certificates: Certificates
) -> None:
    async def scenario() -> None:
        ours, theirs = PAIRS[pair]()
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


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_abort_ends_what_is_still_being_set_up(
    loop: str, pair: str, certificates: Certificates
) -> None:
    async def scenario() -> None:
        ours, theirs = PAIRS[pair]()
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
def test_an_abort_passes_over_one_that_has_just_been_lost(
    loop: str, certificates: Certificates
) -> None:
    """The transport has closed the descriptor, and its coroutine has not been told yet."""

    async def scenario() -> None:
        ours, theirs = tcp_pair()
        fd = ours.fileno()
        failed = asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(
            asyncio.get_running_loop(), lambda peer, own, fd: asyncio.Protocol(), context, 60.0
        )
        arrivals.failed = failed.set
        arrivals.take(ours, None)
        await asyncio.sleep(0)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        while is_open(fd) and len(arrivals):  # noqa: ASYNC110  # each iteration counts
            await asyncio.sleep(0)
        assert len(arrivals) == 1 or loop == "asyncio"
        arrivals.abort()
        await failed.wait()
        assert len(arrivals) == 0

    run(loop, scenario)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_protocol_that_cannot_be_made_is_reported_and_leaves_no_socket(
    loop: str, pair: str
) -> None:
    async def scenario() -> None:
        ours, theirs = PAIRS[pair]()
        fd = ours.fileno()
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
        assert (len(arrivals), is_open(fd)) == (0, False)
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


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_descriptor_is_told_where_bytes_go_to_it_unchanged(
    loop: str, pair: str, encrypted: bool, certificates: Certificates
) -> None:
    async def scenario() -> None:
        ours, theirs = PAIRS[pair]()
        fd = ours.fileno()
        own = ours.getsockname()
        running = asyncio.get_running_loop()
        told = running.create_future()

        def factory(*arguments: Any) -> asyncio.Protocol:
            told.set_result(arguments)
            return asyncio.Protocol()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        arrivals = Arrivals(running, factory, context if encrypted else None, 5.0)
        arrivals.take(ours, "somebody")
        theirs.close()
        if loop == "uvloop" and pair == "tcp":
            assert await told == ("somebody", None, NO_SOCKET if encrypted else fd)
        else:
            assert await told == ("somebody", own, NOT_LOOKED_AT)
        while len(arrivals):  # noqa: ASYNC110
            await asyncio.sleep(0)

    run(loop, scenario)


def test_a_descriptor_is_closed_once_though_its_number_is_given_again() -> None:
    async def scenario() -> None:
        ours, theirs = tcp_pair()
        fd = ours.fileno()
        running = asyncio.get_running_loop()
        made = running.create_future()
        protocols = []

        def factory(peer: Any, own: Any, fd: int) -> Protocol:
            protocols.append(Protocol(made, peer))
            return protocols[0]

        arrivals = Arrivals(running, factory, None, 5.0)
        arrivals.take(ours, "somebody")
        assert ours.fileno() == -1  # the descriptor has left the socket object
        _, transport = await made
        assert is_open(fd)
        transport.close()
        await protocols[0].lost
        await asyncio.sleep(0)
        assert not is_open(fd)
        os.dup2(theirs.fileno(), fd)  # another file with the same number
        del transport, arrivals
        protocols.clear()
        gc.collect()
        assert is_open(fd)
        os.close(fd)
        theirs.close()

    run("uvloop", scenario)


def test_a_loop_derived_from_uvloops_gets_a_socket() -> None:
    class Derived(uvloop.Loop):
        pass

    async def scenario() -> None:
        assert not Arrivals(asyncio.get_running_loop(), asyncio.Protocol, None, 5.0).bare

    with asyncio.Runner(loop_factory=Derived) as runner:
        runner.run(scenario())


def test_a_descriptor_that_was_accepted_can_be_given_up_and_shut_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accept = accepting(listening, True)
        for give_up in (False, True):
            with socket.create_connection(listening.getsockname()) as client:
                client.settimeout(5)
                accepted, address = accept()
                assert isinstance(accepted, Accepted)
                assert address == client.getsockname()
                fd = accepted.fileno()
                assert os.get_inheritable(fd) is False
                if give_up:
                    accepted.give_up()
                    accepted.give_up()
                    assert (is_open(fd), accepted.fileno()) == (False, -1)
                else:
                    accepted.shutdown(socket.SHUT_RDWR)
                    assert client.recv(1) == b""
                    accepted.close()  # as uvloop calls it, which has closed the descriptor
                    assert (is_open(fd), accepted.fileno()) == (True, -1)
                    os.close(fd)


@pytest.mark.parametrize("kind", ["unix", "not bare"])
def test_what_is_not_bare_is_accepted_as_a_socket(kind: str, tmp_path: Path) -> None:
    if kind == "unix":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{tmp_path}/s")
        listening.listen()
    else:
        listening = socket.create_server(("127.0.0.1", 0))
    with listening, socket.socket(listening.family) as client:
        client.connect(listening.getsockname())
        sock, _ = accepting(listening, kind == "unix")()
        assert isinstance(sock, socket.socket)
        sock.close()


class TestSteps:
    """A coroutine that runs without a task."""

    async def drive(self, coroutine: Any) -> BaseException | None:
        over = asyncio.get_running_loop().create_future()
        steps = Steps(coroutine, lambda _, exc: over.set_result(exc))
        steps.go_on()
        result: BaseException | None = await over
        return result

    @pytest.mark.parametrize("loop", LOOPS)
    def test_it_goes_on_when_what_it_waits_for_is_there(self, loop: str) -> None:
        async def scenario() -> None:
            running = asyncio.get_running_loop()
            seen = []

            async def waits() -> None:
                for number in range(3):
                    future = running.create_future()
                    running.call_soon(future.set_result, number)
                    seen.append(await future)

            assert await self.drive(waits()) is None
            assert seen == [0, 1, 2]

        run(loop, scenario)

    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize("what", ["raises", "fails", "is cancelled", "raises at once"])
    def test_what_it_raises_is_told(self, loop: str, what: str) -> None:
        async def scenario() -> None:
            running = asyncio.get_running_loop()

            async def waits() -> None:
                if what == "raises at once":
                    raise LookupError
                future = running.create_future()
                if what == "fails":
                    running.call_soon(future.set_exception, LookupError())
                elif what == "is cancelled":
                    running.call_soon(future.cancel)
                else:
                    running.call_soon(future.set_result, None)
                await future
                raise LookupError

            expected = asyncio.CancelledError if what == "is cancelled" else LookupError
            assert type(await self.drive(waits())) is expected

        run(loop, scenario)
