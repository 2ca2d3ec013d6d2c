"""What one call of the application may do to the others: nothing, whatever it raises."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import inspect
import io
import logging
import queue
import socket
import time
import tracemalloc
import types
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.apps import Recorder, respond
from ..toolkit.raw_http import GET, Client, request, sized
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import LOOPS, Running, running, timers_set


@contextlib.contextmanager
def eagerly(server: Running) -> Iterator[None]:
    """Call the application inside of ``serving.start``, until it waits for the first time.

    That is what an eager task factory of Python 3.12 does.
    """
    serving = server.server.serving
    assert serving is not None

    class Stepped:
        """A coroutine that has taken its first step already."""

        def __init__(self, coroutine: Any) -> None:
            self._coroutine = coroutine
            self._waits: Any = None
            self._error: BaseException | None = None
            self._done = False
            try:
                self._waits = coroutine.send(None)
            except BaseException as exc:
                self._error = exc
                self._done = True

        def __await__(self) -> Any:
            if self._done:
                if isinstance(self._error, StopIteration):
                    return self._error.value
                assert self._error is not None
                raise self._error
            if self._waits is None:
                yield
            else:
                # A future that was yielded once must say so again.
                self._waits._asyncio_future_blocking = True
                yield self._waits
            return (yield from self._coroutine.__await__())

    create_task = server.loop.create_task

    def create(coroutine: Any, **options: Any) -> Any:
        stepped = Stepped(coroutine)

        async def rest() -> Any:
            return await stepped

        return create_task(rest(), **options)

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return getattr(server.loop, name)

        create_task = staticmethod(create)

    before, serving.loop = serving.loop, Loop()
    try:
        yield
    finally:
        serving.loop = before


@pytest.mark.parametrize("what", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_application_that_exits_fails_alone(
    what: type[BaseException], loop: str, package: ModuleType, log: list[logging.LogRecord]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise what(7)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            raise what(7)
        await respond(send, b"hello")

    with running(app, loop, package) as server, Client(server) as other:
        assert other.get().body == b"hello"
        with Client(server) as client:
            assert client.get("/fails").status == 500
        with Client(server) as client:
            client.send(upgrade())
            assert client.read().status == 101
            assert client.file.read(4) == b"\x88\x02\x03\xf3"  # 1011
        assert other.get().body == b"hello"
    errors = [record for record in log if record.levelno >= logging.ERROR]
    assert [error.getMessage() for error in errors] == ["Exception in ASGI application"] * 2
    assert all(f"{what.__name__}: 7" in str(error.exc_text) for error in errors)


def test_a_cancellation_by_the_server_is_no_error(
    loop: str, package: ModuleType, log: list[logging.LogRecord]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    server = Running(app, loop, package, timeout_graceful_shutdown=0.05)
    with Client(server) as client:
        client.send(GET)
        server.wait_until(lambda: bool(server.server.serving.tasks))
        server.stop()
    assert not [record for record in log if record.levelno >= logging.ERROR]


def test_an_eager_task_factory_serves_request_after_request(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await receive()
            return
        body = b""
        more = True
        while more:
            event = await receive()
            body += event["body"]
            more = event["more_body"]
        await respond(send, scope["path"].encode() + body)

    with running(app, loop, package) as server, eagerly(server):
        with Client(server) as client:
            for number in range(3):
                assert client.get(f"/{number}").body == f"/{number}".encode()
            client.send(sized(4, target="/a") + b"body" + sized(4, target="/b") + b"bo")
            assert client.read().body == b"/abody"
            client.send(b"dy")
            assert client.read().body == b"/bbody"
            # Pipelined, and answered one inside of the call of the other.
            many = 500
            client.send(b"".join(request("Host: a", target=f"/{n}") for n in range(many)))
            assert [client.read().body for _ in range(many)] == [b"/%d" % n for n in range(many)]
        with Client(server) as client:
            client.send(upgrade())
            assert client.read().status == 101
            assert client.file.read(7) == b"\x81\x05hello"


def test_a_head_leaves_alone_when_the_body_does_not_follow(loop: str, package: ModuleType) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await recorder.until_told()
        await send({"type": "http.response.body", "body": b"hello"})

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        reply = client.read_head()
        assert (reply.status, reply.headers["transfer-encoding"]) == (200, "chunked")
        recorder.go.set()
        assert client.read_chunk() == b"hello"
        assert client.read_chunk() == b""
        assert client.get().body == b"hello"


def test_an_event_stream_opens_at_once(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        assert client.read_head().status == 200


@pytest.mark.parametrize("kind", [b"text/plain", b"text/event-stream"])
def test_a_piece_leaves_though_the_application_blocks_the_loop_between_pieces(
    loop: str, package: ModuleType, kind: bytes
) -> None:
    """A synchronous generator in a coroutine: computing, sending, and never waiting."""
    seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    waited = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": body, "more_body": True})
            try:
                waited.append(seen.get(timeout=2))
            except queue.Empty:
                waited.append(b"nothing")
            time.sleep(0.02)  # noqa: ASYNC251  # more than the pieces of a burst may be apart
        await send({"type": "http.response.body"})

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        client.read_head()
        while chunk := client.read_chunk():
            seen.put(chunk)
    assert waited == [b"one", b"two", b"three"]


def test_a_failure_in_the_iteration_of_the_head_is_still_a_500(
    loop: str, package: ModuleType
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise ValueError

    with running(app, loop, package) as server, Client(server) as client:
        assert client.get().status == 500


def test_head_and_body_of_one_iteration_are_one_write(loop: str, package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    with running(app, loop, package) as server, Client(server) as client:
        assert client.get().body == b"hello"
        for _ in range(20):
            client.send(GET)
            assert client.sock.recv(65536).endswith(b"hello")


def test_the_first_disconnect_comes_inside_of_a_cancelled_scope(
    loop: str, package: ModuleType
) -> None:
    anyio = pytest.importorskip("anyio")
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def is_disconnected() -> bool:
            # What Starlette does.
            event = {"type": ""}
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                event = await receive()
            return event["type"] == "http.disconnect"

        await receive()
        recorder.note(await is_disconnected())
        recorder.note("waits")
        while not await is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        recorder.note("disconnected")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while ticks < 10:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        while ticks < 10:
            assert (await receive())["type"] == "http.disconnect"
        await ticking
        recorder.note("others run")

    with running(app, loop, package) as server:
        with Client(server) as client:
            client.send(GET)
            assert recorder.next() is False
            assert recorder.next() == "waits"
            client.reset()
        assert recorder.next() == "disconnected"
        assert recorder.next() == "others run"


def test_nothing_is_raised_by_send_when_the_connection_is_cut(
    loop: str, package: ModuleType
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        for connection in tuple(server.server.serving.connections):
            connection.abort()
        # The transport is closed, and its protocol does not know it yet.
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        recorder.note("sent")

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        assert recorder.next() == "sent"


def test_what_a_call_waits_for_can_be_shown(loop: str, package: ModuleType) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        recorder.note("called")
        await receive()
        await receive()
        await respond(send, b"hello")

    def shown() -> str:
        (task,) = server.server.serving.tasks
        text = io.StringIO()
        task.print_stack(file=text)
        return text.getvalue()

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        assert recorder.next() == "called"
        text = server.call(shown)
        assert "in app" in text
        assert "await receive()" in text


def test_one_timer_waits_for_the_first_requests_of_all_connections(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(respond_hello, "asyncio", package, timeout_request_head=0.3) as server:
        set_for = timers_set(server, monkeypatch)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(Client(server)) for _ in range(20)]
            late = stack.enter_context(Client(server))
            late.send(b"GET / HT")
            asking = stack.enter_context(Client(server))
            assert asking.get().body == b"hello"
            assert set_for.count("_look_at_first") == 1
            assert all(client.rest() == b"" for client in silent)
            assert late.read().status == 408
            assert asking.get().body == b"hello"  # its deadline is another one
        monkeypatch.undo()
        server.wait_until(lambda: not server.server.serving.connections)


async def respond_hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


def test_a_connection_that_has_ended_or_has_spoken_is_not_waited_for(package: ModuleType) -> None:
    class Loop:
        def __init__(self) -> None:
            self.now = 100.0
            self.timers: list[tuple[float, Any]] = []

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, callback: Any) -> object:
            self.timers.append((when, callback))
            return callback

    class Connection:
        def __init__(self) -> None:
            self.due = 0

        def first_is_due(self) -> None:
            self.due += 1

    loop = Loop()
    limits = types.SimpleNamespace(request_head=5.0)
    headers = package.http.serving.DefaultHeaders((), True, True)
    serving = package.http.serving.Serving(
        None, loop, {}, limits, None, None, None, None, headers, None
    )
    first, second, third = Connection(), Connection(), Connection()
    assert serving.await_first(first) == 105.0
    loop.now = 102.0
    assert serving.await_first(second) == 107.0
    assert serving.await_first(third) == 107.0
    assert [when for when, _ in loop.timers] == [105.0]
    serving.first_came(third)
    serving.first_came(third)
    loop.now = 105.0
    loop.timers.pop()[1]()
    assert (first.due, second.due) == (1, 0)
    assert [when for when, _ in loop.timers] == [107.0]
    loop.now = 107.5
    loop.timers.pop()[1]()
    assert (first.due, second.due, third.due) == (1, 1, 0)
    assert loop.timers == []
    serving.await_first(third)
    assert [when for when, _ in loop.timers] == [112.5]


def test_a_look_at_the_first_that_is_due_does_not_touch_those_that_are_not(
    package: ModuleType,
) -> None:
    """Each of many silent connections has its own time: the cost of a look must not grow."""

    class Loop:
        def __init__(self) -> None:
            self.now = 0.0
            self.due: Any = None

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, callback: Any) -> object:
            self.due = callback
            return callback

    class Connection:
        def first_is_due(self) -> None:
            pass

    loop = Loop()
    limits = types.SimpleNamespace(request_head=5.0)
    headers = package.http.serving.DefaultHeaders((), True, True)
    serving = package.http.serving.Serving(
        None, loop, {}, limits, None, None, None, None, headers, None
    )
    for _ in range(5000):
        serving.await_first(Connection())
        loop.now += 0.0005
    loop.now = 5.0
    tracemalloc.start()
    try:
        loop.due()
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


def test_a_connection_whose_address_cannot_be_told_is_one_like_the_others(
    package: ModuleType,
) -> None:
    """BSD's getsockname fails on a connection that was reset; its loss is told in a moment."""

    class Reset(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            raise OSError(errno.EINVAL, "Invalid argument")

    with running(respond_hello, "asyncio", package) as server:
        serving = server.server.serving

        def come_and_go() -> tuple[bool, bool]:
            protocol = package.http.connection.HTTPProtocol(serving, False, ("::1", 1), None)
            protocol.connection_made(Reset())
            came = protocol in serving.connections
            protocol.connection_lost(None)
            return came, protocol in serving.connections

        assert server.call(come_and_go) == (True, False)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_servers_address_is_the_one_that_the_client_has_reached(loop: str) -> None:
    """Also where it listens on every address, and one connection follows on the other."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["server"])
        await respond(send, b"hello")

    with running(app, loop, bind=["0.0.0.0:0"]) as server:
        port = server.server.addresses[0][1]
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.1"):
            with socket.create_connection((address, port)) as client:
                client.sendall(GET)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert seen == [(f"127.0.0.{n}", port) for n in (1, 2, 2, 1)]
        assert seen[1] is seen[2] or loop != "uvloop"


# One call as a coroutine.


async def nothing() -> Any:
    raise AssertionError("nobody receives or sends here")


def call_of(package: ModuleType, app: Any, cancelled: Any = ()) -> Any:
    return package.http.serving.Call(app, {"type": "http"}, nothing, nothing, cancelled)


async def wrapped(coroutine: Any) -> None:
    await coroutine


def task_of(package: ModuleType, app: Any, cancelled: Any = ()) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(call_of(package, app, cancelled))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_would_end_the_event_loop_is_an_error_like_others(
    package: ModuleType, kind: type[BaseException]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise kind(3)

    task = task_of(package, app)
    await asyncio.wait([task])
    error = task.exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, kind)
    assert kind.__name__ in str(error)


async def test_a_plain_function_that_raises_fails_in_its_task(package: ModuleType) -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        raise LookupError(scope["type"])

    task = task_of(package, app)
    await asyncio.wait([task])
    assert isinstance(task.exception(), LookupError)


async def test_a_plain_function_that_raises_stopiteration_has_not_returned(
    package: ModuleType,
) -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        return next(iter(()))

    for call in (call_of(package, app), wrapped(call_of(package, app))):
        task = asyncio.get_running_loop().create_task(call)
        await asyncio.wait([task])
        error = task.exception()
        assert isinstance(error, RuntimeError)
        assert isinstance(error.__cause__, StopIteration)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("by_the_server", [True, False])
async def test_a_cancelled_call_leaves_nothing_to_the_garbage_collector(
    package: ModuleType, begun: bool, by_the_server: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    cancelled: set[asyncio.Task[None]] = set()

    async def one() -> None:
        task = task_of(package, app, cancelled)
        if begun:
            await asyncio.sleep(0)
        if by_the_server:
            cancelled.add(task)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is not None
        cancelled.clear()

    gc.collect()
    gc.disable()
    try:
        await one()
        await asyncio.sleep(0)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("by_the_server", [True, False])
async def test_a_cancellation_counts_as_one_only_if_the_server_asked_for_it(
    package: ModuleType, by_the_server: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    cancelled: set[asyncio.Task[None]] = set()
    task = task_of(package, app, cancelled)
    await asyncio.sleep(0)
    if by_the_server:
        cancelled.add(task)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == by_the_server
    if not by_the_server:
        assert isinstance(task.exception(), RuntimeError)


async def test_the_stack_of_a_call_can_be_shown(package: ModuleType) -> None:
    async def the_application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    task = task_of(package, the_application)
    await asyncio.sleep(0)
    shown = io.StringIO()
    task.print_stack(file=shown)
    task.cancel()
    await asyncio.wait([task])
    assert "in the_application" in shown.getvalue()
    assert "the_application" in repr(task)


async def test_a_call_can_be_looked_at_before_it_has_begun(package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)

    task = task_of(package, app)
    assert "without __name__" not in repr(task)
    coroutine: Any = task.get_coro()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
    await task
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_what_an_application_waits_for_is_what_its_task_waits_for(
    package: ModuleType,
) -> None:
    got = []
    waited = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(await waited)
        await asyncio.sleep(0)
        got.append(scope["type"])

    task = task_of(package, app)
    await asyncio.sleep(0)
    waited.set_result(1)
    await task
    assert got == [1, "http"]


async def test_an_application_may_return_anything_that_can_be_awaited(
    package: ModuleType,
) -> None:
    got = []

    class Later:
        def __await__(self) -> Any:
            yield
            got.append("awaited")

    await task_of(package, lambda scope, receive, send: Later())
    assert got == ["awaited"]
    with pytest.raises(TypeError):
        await task_of(package, lambda scope, receive, send: None)


async def test_a_task_factory_may_wrap_it_in_a_coroutine(package: ModuleType) -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(wrapped(call_of(package, app)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert ended == [True]
    assert isinstance(task.exception(), RuntimeError)


async def test_a_call_that_never_began_can_be_cancelled_and_closed(package: ModuleType) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was never begun")

    cancelled: set[asyncio.Task[None]] = set()
    task = task_of(package, app, cancelled)
    cancelled.add(task)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    call = call_of(package, app)
    call.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        call.send(None)


async def test_a_call_that_is_closed_closes_the_application(package: ModuleType) -> None:
    raised: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(0)
        except BaseException as exc:
            raised.append(type(exc))
            raise

    call = call_of(package, app)
    call.send(None)
    call.close()
    assert raised == [GeneratorExit]
