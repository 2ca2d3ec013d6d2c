"""Applications that let a disconnect escape: it is not an error, and leaves no traceback.

The test of the module that judges it, errors.py, knows every form that it can have; here
Starlette brings it, and the server is a process of its own.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..toolkit.builds import PURE
from ..toolkit.raw_http import Client, sized
from ..toolkit.running import LOOPS
from ..toolkit.served import Served
from . import careless_app

CLIENTS = 50
QUIET = [each.__name__ for each in careless_app.handlers if "buggy" not in each.__name__]


def serve(app: str = "app", loop: str = "uvloop", **environment: str) -> Served:
    name = f"{careless_app.__name__}:{app}"
    return Served("asgiws", name, "--port", "0", "--loop", loop, **environment)


def assert_quiet(served: Served) -> None:
    output = "".join(served.output)
    assert "Traceback" not in output, output
    assert not served.lines("ERROR|WARNING|never retrieved"), output


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("pure", PURE)
def test_fifty_clients_and_a_sigterm_leave_no_traceback(loop: str, pure: str) -> None:
    with serve(loop=loop, ASGIWS_PURE=pure) as served, ExitStack() as stack:
        clients = [
            stack.enter_context(connect(f"{served.ws_url}/{QUIET[number % len(QUIET)]}"))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.send("hello")
            assert client.recv(10) in ("hello", "tick")
        served.send(signal.SIGTERM)
        for client in clients:
            with suppress(ConnectionClosed):
                while client.recv(10):
                    pass
        assert served.wait_for_end() == 0
    assert_quiet(served)


@pytest.mark.parametrize("path", QUIET)
def test_a_client_that_leaves_is_not_an_error(path: str) -> None:
    with serve() as served:
        for code in 1000, 1001, 4000:
            with connect(f"{served.ws_url}/{path}") as client:
                client.send("hello")
                assert client.recv(10) in ("hello", "tick")
                client.close(code)
        with connect(f"{served.ws_url}/{path}") as client:
            client.send("hello")
            client.recv(10)
            client.socket.close()
        served.wait_for_count(r"close=\d+ by=client", 4)
        assert served.stop() == 0
    assert_quiet(served)


@pytest.mark.parametrize("app", ["app", "wrapped"])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_an_error(app: str) -> None:
    with serve(app) as served:
        for _ in range(3):
            with Client(served) as client:
                client.send(sized(10, target="/upload") + b"half")
                served.wait_for_line("receiving")
        assert served.stop() == 0
    assert_quiet(served)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_that_nobody_awaits_leaves_a_line_for_a_disconnect_and_a_traceback_for_a_bug(
    loop: str,
) -> None:
    with serve(loop=loop) as served:
        with connect(f"{served.ws_url}/unawaited") as client:
            assert client.recv(10) == "tick"
        served.wait_for_line("INFO:.*WebSocketDisconnect in a task that the application started")
        assert_quiet(served)
        with connect(f"{served.ws_url}/buggy_writer"):
            pass
        served.wait_for_line("Task exception was never retrieved")
        served.wait_for_line("ValueError: a bug in the cleaning up")
        assert served.stop() == 0


def test_a_bug_after_the_disconnect_is_an_error() -> None:
    with serve() as served:
        with connect(f"{served.ws_url}/buggy"):
            pass
        served.wait_for_line("ValueError: a bug in the cleaning up")
        with Client(served) as client:
            client.send(sized(10, target="/buggy_upload") + b"half")
            served.wait_for_line("receiving")
        served.wait_for_line("ValueError: a bug in the cleaning up")
        assert served.stop() == 0
    assert len(served.lines("Exception in ASGI application")) == 2
