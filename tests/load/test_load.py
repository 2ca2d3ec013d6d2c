"""Faults and load, with figures: what a server in a process of its own goes through unharmed.

Each test is bounded in time and prints what it has measured; see conftest.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from ..toolkit.client_frames import BINARY, CONT, TEXT, client_frame, close_frame, deflated
from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import DEFLATE, RawWebSocket, upgrade
from ..toolkit.running import LOOPS
from ..toolkit.served import Served

pytestmark = pytest.mark.slow

MB = 1 << 20
Figure = Callable[[str, str], None]


def serve(*options: str, **kwargs: Any) -> Served:
    quiet = ("--no-access-log", "--lifespan", "off")
    return Served("asgiws", "tests.load.app:app", "--port", "0", *quiet, *options, **kwargs)


@pytest.fixture(params=LOOPS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    options = ("--ws-close-timeout", "2", "--timeout-graceful-shutdown", "1")
    with serve("--loop", request.param, *options) as served:
        yield served
        assert served.stop() == 0
        assert "Traceback" not in "".join(served.output)


def state(served: Served, path: str = "/state") -> dict[str, Any]:
    with Client(served) as client:
        found: dict[str, Any] = json.loads(client.get(path, "Connection: close").body)
    return found


def settled(served: Served, before: dict[str, Any]) -> dict[str, Any]:
    """The state once nothing is left of what came since ``before``."""
    deadline = time.monotonic() + 15
    kinds = ("tasks", "descriptors", "objects")
    while True:
        after = state(served)
        left = {kind: after[kind] - before[kind] for kind in kinds if after[kind] > before[kind]}
        if not left:
            return after
        assert time.monotonic() < deadline, f"left behind: {left}"


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline


def loop_of(served: Served) -> str:
    return served.command[served.command.index("--loop") + 1]


# Connections that end in every ugly way.

FRAME = client_frame(TEXT, b"hello")


def reset(client: Client) -> None:
    client.reset()


def leave(client: Client) -> None:
    client.close()


def half_close(client: Client) -> None:
    client.finish()
    client.rest()
    client.close()


UGLY: list[tuple[bytes, int, bytes, Callable[[Client], None]]] = [
    # (sent first, bytes read then, sent then, how it ends)
    (b"", 0, b"", reset),
    (b"", 0, b"", leave),
    (b"GET / HT", 0, b"", reset),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, b"", reset),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 10, b"", leave),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhalf", 0, b"", reset),
    (b"\x00" * 100, 0, b"", half_close),
    (upgrade(target="/echo")[:80], 0, b"", reset),
    (upgrade(target="/echo")[:80], 0, b"", half_close),
    (upgrade(target="/echo"), 0, b"", reset),
    (upgrade(target="/echo"), 12, b"", reset),
    (upgrade(target="/echo"), 12, b"", leave),
    (upgrade(target="/echo"), 12, b"", half_close),
    (upgrade(target="/echo"), 12, FRAME, leave),
    (upgrade(target="/echo"), 12, FRAME[:3], reset),
    (upgrade(target="/echo"), 12, FRAME[:8], half_close),
    (upgrade(target="/echo"), 12, client_frame(TEXT, fin=False), reset),
    (upgrade(target="/echo"), 12, FRAME * 100, reset),
    (upgrade(target="/echo"), 12, close_frame(1000), reset),
    (upgrade(target="/echo"), 12, close_frame(1000)[:4], leave),
    (upgrade(target="/echo"), 12, close_frame(1000), half_close),
    (upgrade(target="/echo"), 12, b"\xff" * 10, leave),
    (upgrade(DEFLATE, target="/echo"), 12, b"\xc1\xff\0\0\0\0", reset),
]


def end_badly(served: Served, count: int, randomly: random.Random) -> None:
    for _ in range(count):
        first, size, then, end = randomly.choice(UGLY)
        with Client(served) as client:
            with contextlib.suppress(ConnectionError):
                client.send(first)
                client.file.read(size)
                client.send(then)
            try:
                end(client)
            except TimeoutError:
                raise
            except OSError:
                pass  # the server was faster: there is nothing left to end


def test_ugly_connections_leave_nothing_behind(served: Served, figure: Figure) -> None:
    randomly = random.Random(1)
    end_badly(served, 2000, randomly)
    before = settled(served, {"tasks": 99, "descriptors": 99, "objects": 99})
    wait_for(lambda: state(served)["objects"] <= 2)
    before = state(served)
    began = time.monotonic()
    end_badly(served, 10_000, randomly)
    seconds = time.monotonic() - began
    after = settled(served, before)
    grown = after["resident"] - before["resident"]
    assert grown < 3 * MB
    figure(
        f"10,000 connections ended in {len(UGLY)} ugly ways ({loop_of(served)})",
        f"{seconds:.0f} s; left: 0 tasks, 0 descriptors, 0 objects; memory {grown / 1024:+.0f} KiB",
    )


def test_memory_over_many_connections_is_flat(
    served: Served, figure: Figure, full_size: bool
) -> None:
    count = 100_000 if full_size else 20_000
    samples: list[tuple[int, int]] = []
    head = upgrade(target="/echo")

    def one(number: int) -> None:
        with socket.socket() as sock:
            sock.bind((f"127.0.0.{number % 250 + 1}", 0))  # more ports than one address has
            sock.settimeout(5)
            sock.connect(("127.0.0.1", served.port))
            sock.sendall(head + FRAME)
            received = b""
            while b"\x81\x05hello" not in received:  # a ping may come as well
                received += sock.recv(4096)
            sock.sendall(close_frame(1000))
            while sock.recv(4096):
                pass

    for number in range(count):
        one(number)
        if (number + 1) % (count // 20) == 0:
            samples.append((number + 1, state(served)["resident"]))
    late = samples[len(samples) // 4 :]
    slope = gradient(late)
    assert slope < 30, f"{slope:.1f} bytes stay of each connection: {samples}"
    figure(
        f"{count:,} WebSockets one after another ({loop_of(served)})",
        f"memory {late[0][1] / MB:.1f} MiB after a quarter, {late[-1][1] / MB:.1f} MiB at the end;"
        f" {slope:+.1f} bytes a connection",
    )


def gradient(points: list[tuple[int, int]]) -> float:
    """The slope of the straight line that fits best."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


# Numbered messages through a bad network.


class BadNetwork:
    """A proxy that splits and delays what it carries, and cuts some connections."""

    def __init__(self, port: int, randomly: random.Random) -> None:
        self.port = port
        self.randomly = randomly
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BadNetwork:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there = await asyncio.open_connection("127.0.0.1", self.port)
        life = self.randomly.randint(500, 200_000) if self.randomly.random() < 0.3 else 1 << 60
        budget = [life]
        try:
            await asyncio.gather(
                self._pump(reader, there[1], budget), self._pump(there[0], writer, budget)
            )
        except ConnectionError:
            self.cuts += 1
        finally:
            for end in (writer, there[1]):
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int]
    ) -> None:
        while data := await reader.read(self.randomly.choice((1, 7, 100, 1500, 65536))):
            if self.randomly.random() < 0.1:
                await asyncio.sleep(self.randomly.random() / 100)
            while data:
                size = self.randomly.randint(1, len(data))
                budget[0] -= size
                if budget[0] < 0:
                    raise ConnectionError
                writer.write(data[:size])
                data = data[size:]
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def exchange(url: str, number: int, messages: int) -> bool:
    """Send numbered messages and check their echoes; whether the connection survived."""
    randomly = random.Random(number)
    compression = "deflate" if number % 2 else None
    sent = []
    for n in range(messages):
        content = f"{n} " + "x€y"[n % 3] * randomly.choice((0, 10, 200, 5000))
        sent.append(content.encode() if n % 2 and content.isascii() else content)
    try:
        async with connect(f"{url}/numbers", compression=compression, ping_interval=None) as client:
            sending = asyncio.create_task(send_all(client, sent))
            try:
                for message in sent:
                    assert await client.recv() == message
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except (ConnectionClosed, InvalidMessage, EOFError, ConnectionError, TimeoutError):
        return False
    return True


async def send_all(client: ClientConnection, messages: list[Any]) -> None:
    for message in messages:
        await client.send(message)


def test_nothing_is_lost_doubled_or_reordered(served: Served, figure: Figure) -> None:
    clients, messages = 1000, 50

    async def run() -> tuple[int, int]:
        async with BadNetwork(served.port, random.Random(2)) as network:
            async with asyncio.timeout(120):
                survived = await asyncio.gather(
                    *[exchange(network.url, number, messages) for number in range(clients)]
                )
        return sum(survived), network.cuts

    before = state(served)
    began = time.monotonic()
    survived, cuts = asyncio.run(run())
    seconds = time.monotonic() - began
    assert survived + cuts >= clients
    assert clients // 2 < survived < clients
    after = settled(served, before)
    assert after["disorder"] == []
    figure(
        f"{clients:,} clients, {messages} numbered messages each, through a proxy that splits,"
        f" delays and cuts ({loop_of(served)})",
        f"{seconds:.0f} s; {survived} survived, {cuts} cut; 0 messages lost, doubled or reordered",
    )


# Peers that do not read, and applications that do not receive.


def test_a_client_that_never_reads_costs_little(served: Served, figure: Figure) -> None:
    before = state(served, "/forget-peak")
    with RawWebSocket(served, target="/flood", receive_buffer=65536) as client:
        peaks = [state(served)["peak"] for _ in range(20) if client.is_silent(0.1) or True]
        assert state(served)["ended"] == []
        client.reset()
    wait_for(lambda: bool(state(served)["ended"]))
    (ended,) = state(served)["ended"]
    assert ended.startswith("OSError")
    grown = max(peaks) - before["resident"]
    assert grown < 4 * MB
    settled(served, before)
    figure(
        f"a client that never reads while the application sends 1 GB ({loop_of(served)})",
        f"memory at most {grown / 1024:+.0f} KiB; the application got an {ended.split(':')[0]}",
    )


def test_a_flood_to_a_deaf_application_costs_little(served: Served, figure: Figure) -> None:
    before = state(served, "/forget-peak")
    frame = client_frame(BINARY, bytes(1000)) * 100
    with RawWebSocket(served, target="/deaf") as client:
        client.sock.settimeout(2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 30:
                client.sock.sendall(frame)
                sent += len(frame)
        grown = state(served)["peak"] - before["resident"]
        client.reset()
    assert grown < 4 * MB
    assert sent < 64 * MB
    figure(
        f"a client that floods an application that never receives ({loop_of(served)})",
        f"stopped after {sent / MB:.1f} MiB (kernel buffers included);"
        f" memory at most {grown / 1024:+.0f} KiB",
    )


# Fragments and bombs.


def fragments(count: int, payload: bytes) -> bytes:
    return (
        client_frame(BINARY, payload, fin=False)
        + client_frame(CONT, payload, fin=False) * (count - 2)
        + client_frame(CONT, payload)
    )


@pytest.mark.parametrize(("count", "payload"), [(300_000, b"xy"), (1_000_000, b"")])
def test_a_message_in_very_many_fragments(
    served: Served, figure: Figure, count: int, payload: bytes
) -> None:
    before = state(served, "/forget-peak")
    with RawWebSocket(served, target="/size") as client:
        with contextlib.suppress(ConnectionError):
            client.send(fragments(count, payload))
        assert client.close_code() == 1009
    after = state(served)
    grown = after["peak"] - before["resident"]
    assert grown < 4 * MB
    seconds = after["cpu"] - before["cpu"]
    assert seconds < 5
    figure(
        f"{count:,} fragments of {len(payload)} bytes ({loop_of(served)})",
        f"closed with 1009 after 131,072 of them, {seconds:.2f} s of CPU;"
        f" memory at most {grown / 1024:+.0f} KiB",
    )


def test_fragments_take_linear_time(served: Served, figure: Figure) -> None:
    def seconds(count: int) -> float:
        before = state(served)["cpu"]
        with RawWebSocket(served, target="/size") as client:
            client.send(fragments(count, b"xy"))
            assert client.read_frame() == (TEXT, str(2 * count).encode())
        spent: float = state(served)["cpu"] - before
        return spent

    nothing, few, many = (min(seconds(count) for _ in range(3)) for count in (2, 16_000, 128_000))
    few, many = max(few - nothing, 0.001), many - nothing
    assert many < 3 * 8 * few
    figure(
        f"16,000 and 128,000 two-byte fragments ({loop_of(served)})",
        f"{few * 1000:.0f} ms and {many * 1000:.0f} ms of CPU: {many / few:.1f} times for 8 times",
    )


def test_a_bomb_is_stopped_before_it_has_gone_off(served: Served, figure: Figure) -> None:
    bomb = client_frame(BINARY, deflated(bytes(1 << 30)), rsv=4)
    before = state(served, "/forget-peak")
    with RawWebSocket(served, DEFLATE, target="/size") as client:
        with contextlib.suppress(ConnectionError):
            client.send(bomb)
        assert client.close_code() == 1009
    grown = state(served)["peak"] - before["resident"]
    assert grown < 2 * 16 * MB
    figure(
        f"a bomb: 1 GiB in {len(bomb) / MB:.1f} MiB ({loop_of(served)})",
        f"closed with 1009; memory at most {grown / MB:+.1f} MiB, with --ws-max-size at 16 MiB",
    )


# The server's own troubles.


@pytest.mark.parametrize("loop", LOOPS)
def test_a_blocked_loop_kills_nobody(loop: str, figure: Figure, full_size: bool) -> None:
    interval, blocked = (20.0, 30.0) if full_size else (1.0, 3.0)
    keepalive = ("--ws-ping-interval", str(interval), "--ws-ping-timeout", str(interval))

    async def run(url: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connect(f"{url}/echo", ping_interval=None))
                for _ in range(100)
            ]
            blocker = await stack.enter_async_context(connect(f"{url}/block", ping_interval=None))
            for _ in range(2):
                await asyncio.sleep(interval / 2)
                await blocker.send(str(blocked))
                assert await blocker.recv() == "done"
            await asyncio.sleep(3 * interval)
            for client in clients:
                await client.send("alive")
                assert await client.recv() == "alive"

    with serve("--loop", loop, *keepalive) as served:
        asyncio.run(run(served.ws_url))
        assert served.stop() == 0
    figure(
        f"a callback that blocks the loop for {blocked:g} s, twice; pings every {interval:g} s, to"
        f" be answered in {interval:g} s ({loop})",
        "100 of 100 clients stay",
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_out_of_descriptors_recovers(loop: str, figure: Figure) -> None:
    limit = 64

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    with contextlib.ExitStack() as stack:
        served = stack.enter_context(
            serve("--loop", loop, "--ws-close-timeout", "1", preexec=few_descriptors)
        )
        neighbour = stack.enter_context(RawWebSocket(served, target="/echo"))
        waiting = [stack.enter_context(Client(served)) for _ in range(limit + 20)]
        served.wait_for_line("Cannot accept connections")
        began = time.monotonic()
        while time.monotonic() < began + 1.5:
            neighbour.send(FRAME)
            assert neighbour.read_frame() == (TEXT, b"hello")
        for client in waiting[:-1]:
            client.reset()
        assert waiting[-1].get().status == 200  # it was in the backlog all the time
        with RawWebSocket(served, target="/echo") as newcomer:
            newcomer.send(FRAME)
            assert newcomer.read_frame() == (TEXT, b"hello")
        assert served.stop() == 0
        lines = [line for line in served.output if "Cannot accept" in line]
        assert "Traceback" not in "".join(served.output)
    assert len(lines) == 1
    figure(
        f"{limit + 20} connections to a server with {limit} descriptors ({loop})",
        "its clients served on, 1 line in the log, accepts again",
    )


class Load:
    """Clients that come, talk and vanish until they are told to stop."""

    def __init__(self, served: Served, threads: int = 4) -> None:
        self.served = served
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(threads)
        ]

    def _run(self, number: int) -> None:
        randomly = random.Random(number)
        while not self._stop.wait(0.01):
            with contextlib.suppress(OSError, AssertionError, struct.error, IndexError, ValueError):
                if number % 2:
                    end_badly(self.served, 5, randomly)
                else:
                    with RawWebSocket(self.served, target="/echo") as client:
                        for _ in range(20):
                            client.send(FRAME)
                            client.read_frame()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("loop", LOOPS)
def test_signals_amid_load_end_it_cleanly(loop: str, figure: Figure) -> None:
    randomly = random.Random(3)
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]
    rounds = 12
    longest = 0.0
    for number in range(rounds):
        how = signals[number % 3]
        with (
            serve("--loop", loop, "--timeout-graceful-shutdown", "2") as served,
            RawWebSocket(served, target="/deaf"),
            Load(served),
        ):
            threading.Event().wait(randomly.random() / 2)
            began = time.monotonic()
            code = served.stop(how)
            longest = max(longest, time.monotonic() - began)
            assert code == (-how if how == signal.SIGKILL else 0), "".join(served.output)
            assert "Traceback" not in "".join(served.output)
    assert longest < 5
    figure(
        f"SIGTERM, SIGINT and SIGKILL at {rounds} random moments of load ({loop})",
        f"always a clean exit, after {longest:.1f} s at most (--timeout-graceful-shutdown 2)",
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_killed_clients_leave_nothing_behind(loop: str, figure: Figure) -> None:
    """A whole process of clients is killed amid its messages."""
    with serve("--loop", loop, "--ws-close-timeout", "2") as served:
        before = state(served)
        rounds = 5
        for _ in range(rounds):
            clients = Served("tests.load.clients", served.ws_url, "100")
            wait_for(lambda: state(served)["tasks"] >= before["tasks"] + 100)
            clients.kill()
            settled(served, before)
        after = settled(served, before)
        assert after["objects"] == before["objects"]
        assert served.stop() == 0
        assert "Traceback" not in "".join(served.output)
    figure(
        f"SIGKILL of {rounds} processes with 100 talking clients each ({loop})",
        "left: 0 tasks, 0 descriptors, 0 objects",
    )
