"""The end of a server that is in a process of its own: told, waited for, cancelled, abandoned."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..toolkit.raw_http import Client, request
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import LOOPS
from ..toolkit.served import ROOT, Served
from . import shutdown_apps

APP = f"{shutdown_apps.__name__}:app"


def get(path: str) -> bytes:
    return request("Host: localhost", target=path)


def serve(*options: str, **environment: str) -> Served:
    command = ("asgiws", APP, "--port", "0", *options)
    return Served(*command, **environment)


def open_websocket(served: Served, path: str = "/echo", **options: Any) -> ClientConnection:
    return connect(f"{served.ws_url}{path}", compression=None, **options)


def said(served: Served) -> list[str]:
    """What the application said, in order."""
    return [line.removeprefix("app: ").strip() for line in served.output if line.startswith("app:")]


def assert_clean(served: Served) -> None:
    output = "".join(served.output)
    assert "Traceback" not in output, output
    assert "was destroyed" not in output, output
    assert "never retrieved" not in output, output


@pytest.mark.parametrize(("how", "loop"), [(signal.SIGINT, "uvloop"), (signal.SIGTERM, "asyncio")])
def test_everybody_is_told_and_lifespan_ends_last(how: signal.Signals, loop: str) -> None:
    with (
        serve("--loop", loop) as served,
        open_websocket(served) as first,
        open_websocket(served) as second,
    ):
        for websocket in (first, second):
            websocket.send("hello")
            assert websocket.recv(5) == "hello"
        began = time.monotonic()
        assert served.stop(how) == 0
        assert time.monotonic() - began < 3
        for websocket in (first, second):
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    assert said(served) == ["disconnect 1012 ''", "disconnect 1012 ''", "lifespan.shutdown"]
    assert_clean(served)
    sessions = [line for line in served.output if "close=1012 by=server" in line]
    assert len(sessions) == 2


def test_a_websocket_that_is_not_accepted_yet_is_refused_with_503() -> None:
    with serve() as served, Client(served) as client:
        client.send(upgrade(target="/undecided"))
        served.wait_for_line("undecided")
        served.process.terminate()
        assert client.read().status == 503
        client.close()
        assert served.wait_for_end() == 0
    assert said(served) == ["undecided", "disconnect 1012 ''", "lifespan.shutdown"]
    assert_clean(served)


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_is_accepted_any_more_and_a_request_in_progress_is_finished(loop: str) -> None:
    with serve("--loop", loop) as served, Client(served) as client, Client(served) as idle:
        assert idle.get("/background").body == b"done"
        client.send(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
        served.wait_for_line("background work done")
        served.process.terminate()
        served.wait_for_line("Waiting for 2 connections and 1 call of")
        assert idle.rest() == b""  # a connection that waits for a next request is closed
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))
        client.send(b"b")
        reply = client.read()
        assert (reply.status, reply.body) == (200, b"ab")
        assert reply.headers["connection"] == "close"
        assert client.rest() == b""
        client.close()
        assert served.wait_for_end() == 0


def test_background_tasks_are_finished() -> None:
    with serve() as served, Client(served) as client:
        assert client.get("/background").body == b"done"
        assert served.stop() == 0
    assert said(served) == ["background work done", "lifespan.shutdown"]
    assert_clean(served)


@pytest.mark.parametrize(("path", "loop"), [("/hangs", "asyncio"), ("/ignores", "uvloop")])
def test_what_hangs_is_cancelled_after_the_graceful_timeout(path: str, loop: str) -> None:
    with (
        serve("--loop", loop, "--timeout-graceful-shutdown", "0.3") as served,
        Client(served) as client,
    ):
        client.send(upgrade(target=path) if path == "/ignores" else get(path))
        served.wait_for_line("hangs")
        began = time.monotonic()
        assert served.stop() == 0
        assert 0.3 <= time.monotonic() - began < 8
    assert said(served) == ["hangs", "cancelled", "lifespan.shutdown"]
    assert "".join(served.output).count("Cancelling 1 call of") == 1
    assert "Abandoning" not in "".join(served.output)
    assert_clean(served)


def test_what_will_not_be_cancelled_is_abandoned_after_one_second() -> None:
    with (
        serve("--timeout-graceful-shutdown", "0.1") as served,
        Client(served) as client,
    ):
        client.send(get("/will-not"))
        served.wait_for_line("hangs")
        began = time.monotonic()
        assert served.stop() == 0
        assert 1.1 <= time.monotonic() - began < 8
    assert said(served)[:3] == ["hangs", "cancelled", "lifespan.shutdown"]
    assert "".join(served.output).count("Abandoning 1 call of") == 1
    assert_clean(served)


def test_a_task_of_the_applications_own_does_not_keep_the_process_alive() -> None:
    with serve() as served, Client(served) as client:
        assert client.get("/own-task").body == b"done"
        served.wait_for_line("hangs")
        assert served.stop() == 0
    assert said(served) == ["hangs", "lifespan.shutdown", "cancelled"]
    assert "Traceback" not in "".join(served.output)


@pytest.mark.parametrize("path", ["/thread", "/executor", "/anyio"])
def test_threads_do_not_keep_the_process_alive(path: str) -> None:
    with serve("--timeout-graceful-shutdown", "0.1") as served, Client(served) as client:
        client.send(get(path))
        if path == "/anyio":
            served.wait_for_line("hangs")
        else:
            assert client.read().body == b"done"
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 6
    assert_clean(served)


def test_threads_do_not_keep_a_script_alive_that_calls_run() -> None:
    with Served(shutdown_apps.__name__) as served, Client(served) as client:
        assert client.get("/executor").body == b"done"
        assert served.stop() == 0
    assert said(served) == ["lifespan.shutdown", "run has returned", "atexit"]
    assert_clean(served)


def test_threads_do_not_hide_the_exit_code_of_a_start_that_failed() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "asgiws", APP, "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "FAILED_START": "yes"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == 5, process.stderr
    assert "no database\nError: the application failed to start" in process.stderr


@pytest.mark.parametrize(
    ("path", "loop"),
    [
        ("/sleeps", "asyncio"),
        ("/sleeps", "uvloop"),
        ("/spins", "uvloop"),
        ("/blocks-when-cancelled", "asyncio"),
    ],
)
def test_a_second_ctrl_c_ends_it_while_the_application_blocks_the_loop(
    path: str, loop: str
) -> None:
    with (
        serve("--loop", loop, "--timeout-graceful-shutdown", "0") as served,
        Client(served) as client,
    ):
        client.send(get(path))
        if path == "/blocks-when-cancelled":
            served.wait_for_line("hangs")
            served.process.send_signal(signal.SIGINT)
            served.wait_for_line("app: blocks")
        else:
            served.wait_for_line("app: blocks")
            served.process.send_signal(signal.SIGINT)
            served.wait_for_line("once more Ctrl-C")
        assert end_at_once(served.process) == 130
    assert_clean(served)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_during_startup_ends_it(loop: str, how: signal.Signals, status: int) -> None:
    with starting("--loop", loop, SLOW_START="yes") as process:
        assert process.stdout is not None
        wait_for(process, "waits")
        process.send_signal(how)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == status, output
        assert "Traceback" not in output, output
        assert "Serving on" not in output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_while_startup_blocks_the_loop(how: signal.Signals) -> None:
    with starting(BLOCKED_START="yes") as process:
        wait_for(process, "blocks")
        process.send_signal(signal.SIGINT)
        wait_for(process, "once more Ctrl-C")
        assert end_at_once(process, how) == 128 + how


def test_a_lifespan_that_does_not_end_is_cancelled() -> None:
    with serve("--timeout-graceful-shutdown", "0.1", SLOW_END="yes") as served:
        assert served.stop() == 0
    assert "The application's lifespan did not end" in "".join(served.output)
    assert_clean(served)


def test_a_second_ctrl_c_ends_it_while_the_lifespans_end_blocks_the_loop() -> None:
    with serve(BLOCKED_END="yes") as served:
        served.process.send_signal(signal.SIGINT)
        served.wait_for_line("blocks")
        assert end_at_once(served.process) == 130
    assert_clean(served)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/sleeps", "/spins"])
def test_an_application_that_blocks_the_loop_for_ever_is_ended_by_a_watchdog(path: str) -> None:
    with serve("--timeout-graceful-shutdown", "0") as served, Client(served) as client:
        client.send(get(path))
        served.wait_for_line("app: blocks")
        assert served.stop() == 1
    assert "The event loop is blocked: ending the process" in "".join(served.output)
    assert_clean(served)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_never_answers_the_close_is_cut_off(loop: str) -> None:
    with (
        serve("--loop", loop, "--ws-close-timeout", "0.3") as served,
        Client(served) as client,
    ):
        client.send(upgrade(target="/echo"))
        assert client.read().status == 101
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 8
        assert client.rest() == b"\x88\x02\x03\xf4"  # 1012
    assert said(served) == ["disconnect 1012 ''", "lifespan.shutdown"]
    assert_clean(served)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_never_reads_does_not_keep_the_server_alive(loop: str) -> None:
    with (
        serve("--loop", loop, "--timeout-graceful-shutdown", "0.5") as served,
        Client(served, receive_buffer=4096) as client,
    ):
        client.send(upgrade(target="/pushes"))
        assert client.read_head().status == 101
        assert client.file.read(10)[:2] == b"\x82\x7f"  # it has begun to push
        assert served.stop() == 0
    assert said(served) == ["send raised", "lifespan.shutdown"]
    assert_clean(served)


def test_half_a_request_and_a_silent_connection_do_not_delay_the_end() -> None:
    with (
        serve("--timeout-graceful-shutdown", "60", "--timeout-request-head", "60") as served,
        Client(served) as half,
        Client(served),
        Client(served) as first,
    ):
        half.send(b"GET / HT")
        assert first.get("/upload").status == 200  # all of them are accepted
        assert served.stop() == 0  # long before 60 s, or this fails
    assert_clean(served)


def starting(*options: str, **environment: str) -> subprocess.Popen[str]:
    """A server that is not to get as far as to serve."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "asgiws",
            APP,
            "--port",
            "0",
            *options,
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end_at_once(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> int:
    """The second signal, and the exit code.

    Python looks at a signal when a system call is interrupted. One that comes a
    microsecond before the call is looked at behind it, so that it may take another one.
    """
    for _ in range(3):
        process.send_signal(how)
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("it goes on")


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}")
