"""A drain of real connections: what clients and applications see of it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from asgiws.process.drain import REPLACED, terms

from ..toolkit.apps import Recorder, respond
from ..toolkit.certificates import Certificates
from ..toolkit.client_frames import CLOSE
from ..toolkit.raw_http import GET, Client, request
from ..toolkit.raw_websocket import RawWebSocket, upgrade
from ..toolkit.running import Running, running
from ..toolkit.served import Served
from . import drain_app

APP = f"{drain_app.__name__}:app"
EVENTS = (b"content-type", b"text/event-stream")


class App(Recorder):
    """Accepts every WebSocket and waits for its end; over HTTP each path is of its own.

    ``told_at`` is when WebSockets and event streams were told to end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told_at: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            if scope["path"] == "/slow":
                self.note("undecided")
                await self.until_told()
            await send({"type": "websocket.accept"})
            while (event := await receive())["type"] != "websocket.disconnect":
                pass
            self.told_at.append(time.monotonic())
            self.note((event["code"], event["reason"]))
        elif scope["path"] == "/events":
            await send({"type": "http.response.start", "status": 200, "headers": [EVENTS]})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.told_at.append(time.monotonic())
            self.note("stream over")
        elif scope["path"] == "/drain":
            drain = scope["extensions"]["asgiws.drain"]
            await respond(send, f"{drain.begun} {drain.final} {drain.seconds_left}".encode())
        elif scope["path"] == "/wait":
            self.note("waits")
            left = await scope["extensions"]["asgiws.drain"].wait()
            await respond(send, str(left).encode())
        elif scope["path"] == "/slow":
            self.note("begun")
            await self.until_told()
            await respond(send, b"slow")
        else:
            await respond(send, b"hello")


def replace(server: Running, window: float | None = None) -> None:
    """Begin the end of a worker whose successor is ready."""
    how = terms(server.server.config, REPLACED)
    server.server.drain(how if window is None else how._replace(window=window, drawn_out=True))
    server.wait_until(lambda: server.server.serving.phase > 0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "tls"])
def secure(request: pytest.FixtureRequest, certificates: Certificates) -> dict[str, Any]:
    """What server and client need for TLS, or nothing."""
    if request.param == "plain":
        return {"server": {}, "client": {}}
    return {"server": certificates.options, "client": {"tls": certificates.client()}}


def test_websockets_are_closed_over_the_window_with_code_and_reason(
    loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    options = {"drain_code": 4000, "drain_reason": "deploy", **secure["server"]}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(app, loop, package, **options))
        clients = [stack.enter_context(RawWebSocket(server, **secure["client"])) for _ in range(20)]
        begun = time.monotonic()
        server.server.shutdown(window=1.5)
        for _ in clients:
            assert app.next() == (4000, "deploy")
        # Not at once, neither when it begins nor when the window ends.
        assert app.told_at[-1] - begun > 0.8
        assert app.told_at[-1] - app.told_at[0] > 0.3
        for client in clients:
            assert client.read_frame() == (CLOSE, b"\x0f\xa0deploy")


def test_a_shutdown_by_hand_has_no_window(loop: str, package: ModuleType) -> None:
    app = App()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(app, loop, package, drain_window=60.0))
        clients = [stack.enter_context(RawWebSocket(server)) for _ in range(30)]
        server.shutdown()
        for client in clients:
            assert client.close_code() == 1012
        server.stop()


def test_a_shutdown_by_hand_ends_a_window_that_is_open(loop: str, package: ModuleType) -> None:
    with running(App(), loop, package) as server, RawWebSocket(server) as websocket:
        server.server.shutdown(window=3600.0)
        server.wait_until(lambda: server.server.serving.phase > 0)
        server.shutdown()
        assert websocket.close_code() == 1012


def test_event_streams_are_paced_like_websockets_and_end_whole(
    loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(app, loop, package, **secure["server"]))
        clients = [stack.enter_context(Client(server, **secure["client"])) for _ in range(20)]
        for client in clients:
            client.send(request("Host: a", target="/events"))
            assert client.read_head().status == 200
            assert client.read_chunk() == b"data: 1\n\n"
        begun = time.monotonic()
        server.server.shutdown(window=1.5)
        for _ in clients:
            assert app.next() == "stream over"
        assert app.told_at[-1] - begun > 0.8
        assert app.told_at[-1] - app.told_at[0] > 0.3
        for client in clients:
            assert client.read_chunk() == b""  # the last chunk
            assert client.rest() == b""


@pytest.mark.slow
def test_a_stream_that_is_not_of_events_goes_on_in_the_window(
    loop: str, package: ModuleType
) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await recorder.until_told()
        await send({"type": "http.response.body", "body": b"2"})

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        client.read_head()
        assert client.read_chunk() == b"1"
        server.server.shutdown(window=60.0)
        assert client.is_silent(1.3)  # without a window its application would have been told
        recorder.go.set()
        assert client.read_chunk() == b"2"
        assert client.read_chunk() == b""


@pytest.mark.slow
def test_a_websocket_that_is_accepted_in_the_window_is_closed_with_the_others(
    loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with (
        running(app, loop, package, **secure["server"]) as server,
        Client(server, **secure["client"]) as client,
    ):
        client.send(upgrade(target="/slow"))
        assert app.next() == "undecided"
        replace(server)
        app.go.set()
        assert client.read_head().status == 101
        assert client.rest().startswith(b"\x88\x02\x03\xf4")  # 1012
        assert app.next() == (1012, "")
        client.close()


def test_a_handshake_that_nobody_decides_is_refused_at_the_end_of_the_window(
    loop: str, package: ModuleType
) -> None:
    app = App()
    with running(app, loop, package) as server, Client(server) as client:
        client.send(upgrade(target="/slow"))
        assert app.next() == "undecided"
        server.server.shutdown(window=0.3)
        assert client.read().status == 503
        app.go.set()


@pytest.mark.slow
def test_a_worker_that_is_replaced_answers_on_idle_connections_and_says_close(
    loop: str, package: ModuleType, secure: dict[str, Any]
) -> None:
    app = App()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(app, loop, package, **secure["server"]))
        idle, busy, fresh, handshake = (
            stack.enter_context(Client(server, **secure["client"])) for _ in range(4)
        )
        assert idle.get().body == b"hello"
        busy.send(request("Host: a", target="/slow"))
        assert app.next() == "begun"
        server.wait_until(lambda: len(server.server.serving.connections) == 4)
        replace(server)
        # Longer than an idle connection has on SIGTERM.
        assert idle.is_silent(0.3)
        for client in (idle, fresh):
            reply = client.get()
            assert (reply.body, reply.headers["connection"]) == (b"hello", "close")
            assert client.rest() == b""
        handshake.send(upgrade())
        assert handshake.read_head().status == 101
        app.go.set()
        reply = busy.read()
        assert (reply.body, reply.headers["connection"]) == (b"slow", "close")
        for client in (idle, busy, fresh):
            client.close()
        assert handshake.rest().startswith(b"\x88\x02\x03\xf4")  # 1012
        handshake.close()


def test_a_connection_that_was_told_to_persist_does(loop: str, package: ModuleType) -> None:
    """Its response had begun before the drain, and did not say that it closes."""
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/two":
            await respond(send, b"two")
            return
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        recorder.note("begun")
        await recorder.until_told()
        await send({"type": "http.response.body", "body": b"2"})

    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        assert recorder.next() == "begun"
        replace(server)
        recorder.go.set()
        reply = client.read()
        assert reply.body == b"12"
        assert "connection" not in reply.headers
        reply = client.get("/two")
        assert (reply.body, reply.headers["connection"]) == (b"two", "close")


def test_an_idle_connection_ends_by_its_own_timeout_or_with_the_window(
    loop: str, package: ModuleType
) -> None:
    for options, window in (({"timeout_keep_alive": 0.4}, 60.0), ({}, 0.4)):
        server = Running(App(), loop, package, **options)
        with Client(server) as idle:
            begun = time.monotonic()
            assert idle.get().body == b"hello"
            replace(server, window)
            assert idle.rest() == b""
            assert time.monotonic() - begun > 0.2
        server.stop()


def test_the_application_learns_of_the_drain(loop: str, package: ModuleType) -> None:
    app = App()
    with (
        running(app, loop, package) as server,
        Client(server) as waits,
        Client(server) as client,
    ):
        assert client.get("/drain").body == b"False False None"
        waits.send(request("Host: a", target="/wait"))
        assert app.next() == "waits"
        server.server.shutdown(window=60.0, delay=60.0)
        assert 100 < float(waits.read().body) < 121
        # During the delay all goes on as before.
        begun, final, left = client.get("/drain").body.decode().split()
        assert (begun, final) == ("True", "True")
        assert 100 < float(left) < 121
        reply = client.get()
        assert "connection" not in reply.headers
        with Client(server) as new:
            assert new.get().body == b"hello"
        server.shutdown()
        assert client.rest() == b""


def test_a_worker_that_is_replaced_is_not_the_end_of_the_program(
    loop: str, package: ModuleType
) -> None:
    with running(App(), loop, package) as server, Client(server) as client:
        assert client.get().body == b"hello"
        replace(server, 30.0)
        begun, final, _ = client.get("/drain").body.decode().split()
        assert (begun, final) == ("True", "False")
        server.shutdown()


def test_one_object_is_in_every_scope(loop: str, package: ModuleType) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        extensions = scope["extensions"]
        seen.append((scope["type"], extensions["asgiws.drain"]))
        assert "asgiws.topics" in extensions
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await respond(send)

    with running(app, loop, package, lifespan="on") as server:
        with Client(server) as client:
            client.get()
        with RawWebSocket(server) as websocket:
            websocket.close_code()
    assert [kind for kind, _ in seen] == ["lifespan", "http", "websocket"]
    assert len({id(notice) for _, notice in seen}) == 1


def serve(*options: str, **environment: str) -> Served:
    return Served("asgiws", APP, "--port", "0", *options, **environment)


@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
def test_sigterm_waits_for_the_delay_and_then_for_the_window(loop_name: str) -> None:
    options = ("--drain-delay", "0.5", "--drain-window", "0.5", "--drain-reason", "deploy")
    with serve("--loop", loop_name, *options) as served, RawWebSocket(served) as websocket:
        with Client(served) as client:
            assert client.get("/ready").status == 200
        begun = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        served.wait_for_line("connections are still accepted")
        with Client(served) as client:
            assert client.get("/ready").status == 503
        assert websocket.read_frame() == (CLOSE, b"\x03\xf4deploy")
        assert time.monotonic() - begun >= 0.5
        websocket.close()
        assert served.wait_for_end() == 0


def test_ctrl_c_has_no_delay_and_no_window() -> None:
    options = ("--drain-delay", "60", "--drain-window", "60")
    with serve(*options) as served, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawWebSocket(served)) for _ in range(30)]
        served.process.send_signal(signal.SIGINT)
        for client in clients:
            assert client.close_code() == 1012
        assert served.wait_for_end() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("option", ["--drain-delay", "--drain-window"])
def test_a_second_signal_ends_it_at_once(second: signal.Signals, option: str) -> None:
    with serve(option, "3600") as served, RawWebSocket(served):
        served.process.send_signal(signal.SIGTERM)
        served.wait_for_line("once more Ctrl-C")
        assert served.stop(second) == 128 + second


@pytest.mark.slow
def test_the_watchdog_waits_for_the_window_and_no_longer_for_ctrl_c() -> None:
    # With these options it would end the process after 6 s if it did not count the window.
    options = ("--drain-window", "7", "--timeout-graceful-shutdown", "0")
    with serve(*options) as served, Client(served) as client:
        client.send(request("Host: a", target="/for-ever"))
        served.wait_for_line("app: hangs")
        begun = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - begun >= 7


@pytest.mark.slow
def test_connections_that_the_drain_finds_in_the_backlog_are_drained_too(
    loop: str, package: ModuleType
) -> None:
    app = App()
    server = Running(app, loop, package)
    held = threading.Event()
    server.loop.call_soon_threadsafe(held.wait, 5.0)
    with RawWebSocketLater(server) as client:
        server.server.drain(terms(server.server.config, REPLACED))
        held.set()
        assert client.read_head().status == 101
        assert client.rest().startswith(b"\x88\x02\x03\xf4")
    server.stop()


class RawWebSocketLater(Client):
    """A client whose request waits in the kernel."""

    def __init__(self, where: Running) -> None:
        super().__init__(where)
        self.send(upgrade())
