"""What systemd is told, read from the socket that it would read."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.process.notify import AGAIN_SECONDS, Notifier

from ..toolkit.apps import tell_address
from ..toolkit.raw_http import Client, request
from ..toolkit.running import LOOPS, running
from ..toolkit.served import Served

DEADLINE = 20.0
PID = str(os.getpid())


class Manager:
    """The service manager's end; ``address`` is what NOTIFY_SOCKET says."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.address = f"{directory}/notify" if kind == "path" else f"@asgiws-{PID}-{id(self)}"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(DEADLINE)
        self.sock.bind(self.address.replace("@", "\0", 1))

    def hear(self) -> dict[str, str]:
        """The next message."""
        lines = self.sock.recv(65536).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, key: str) -> tuple[dict[str, str], int]:
        """The first message with that key, and how many messages came before."""
        before = 0
        while key not in (message := self.hear()):
            before += 1
        return message, before


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(request.param, tmp_path)
    with manager.sock:
        yield manager


@contextlib.contextmanager
def notifier(**environ: str) -> Iterator[Notifier]:
    one = Notifier(environ)
    try:
        yield one
    finally:
        one.close()


def test_each_state_is_one_message(manager: Manager) -> None:
    with notifier(NOTIFY_SOCKET=manager.address) as told:
        told.ready("Serving\nhere")
        assert manager.hear() == {"READY": "1", "STATUS": "Serving here", "MAINPID": PID}
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        told.reloading()
        message = manager.hear()
        assert message["RELOADING"] == "1"
        assert before <= int(message["MONOTONIC_USEC"]) / 1e6 + 1e-6
        assert int(message["MONOTONIC_USEC"]) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)
        told.stopping()
        assert manager.hear()["STOPPING"] == "1"
        told.status("3 workers")
        assert manager.hear() == {"STATUS": "3 workers"}
        assert told.beat() is None


def test_the_watchdog_hears_at_half_of_its_time(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "7200000000"}
    with notifier(**environ, WATCHDOG_PID=PID) as told:
        wait = told.beat()
        assert wait is not None
        assert 3500 < wait < 3601  # (now + interval) - now is not exactly the interval
        assert manager.hear() == {"WATCHDOG": "1"}
        told.ready("")
        assert told.beat() is not None  # not due yet
        assert "READY" in manager.hear()
        told.stopping()
        assert "STOPPING" in manager.hear()
    with notifier(**{**environ, "WATCHDOG_USEC": "2"}) as told:
        for _ in range(3):
            deadline = time.monotonic() + DEADLINE
            while told.beat() == 0:
                assert time.monotonic() < deadline
            assert manager.hear() == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_a_watchdog_of_another_process_or_none_hears_nothing(
    environ: dict[str, str], manager: Manager
) -> None:
    with notifier(NOTIFY_SOCKET=manager.address, **environ) as told:
        assert told.beat() is None
        told.stopping()
        assert "STOPPING" in manager.hear()


@pytest.mark.parametrize("address", ["relative", "vsock:2:1", "/nowhere/notify", "@nobody"])
def test_nobody_who_listens_is_nothing_to_raise(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with notifier(NOTIFY_SOCKET=address) as told:
        told.ready("")
        told.reloading()
        told.stopping()
        assert told.beat() is None
    # Told once, where there is an address.
    assert caplog.text.count("NOTIFY_SOCKET cannot be written to: ") == (address[:1] in "/@")
    with notifier() as told:
        told.ready("")
        assert told.beat() is None


def test_a_manager_that_is_gone_is_nothing_to_raise(manager: Manager) -> None:
    with notifier(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="2000000") as told:
        manager.sock.close()
        told.ready("")
        assert told.beat() is not None
        told.close()
        told.stopping()
        assert told.beat() is None


def test_what_finds_the_queue_full_is_said_later_in_its_order(manager: Manager) -> None:
    with (
        notifier(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="7200000000") as told,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others,
    ):
        others.setblocking(False)
        others.connect(manager.address.replace("@", "\0", 1))
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                others.send(b"STATUS=full")
                filled += 1
        assert told.beat() == AGAIN_SECONDS
        told.ready("")
        told.stopping()
        assert told.beat() == AGAIN_SECONDS
        for _ in range(filled):
            assert manager.hear() == {"STATUS": "full"}
        wait = told.beat()
        assert wait is not None
        assert wait > AGAIN_SECONDS
        assert "READY" in manager.hear()
        assert "STOPPING" in manager.hear()
        assert manager.hear() == {"WATCHDOG": "1"}


def hang(path: str) -> None:
    """Say that it hangs by taking the file away, and hang until it is taken away again."""
    os.rename(path, f"{path}.seen")
    while os.path.exists(f"{path}.seen"):
        time.sleep(0.01)


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    hang(scope["query_string"].decode())
    await send({"type": "http.response.body"})


def serve(manager: Manager, loop: str, *options: str, **environment: str) -> Served:
    app = f"{__name__}:hangs"
    command = ("asgiws", app, "--port", "0", "--loop", loop, "--lifespan", "off", *options)
    return Served(*command, NOTIFY_SOCKET=manager.address, **environment)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_server_says_when_it_is_ready_and_when_it_stops(loop: str, manager: Manager) -> None:
    with serve(manager, loop) as served:
        wanted = {"READY": "1", "STATUS": f"Serving on {served.url}"}
        assert manager.hear() == {**wanted, "MAINPID": str(served.process.pid)}
        assert served.stop() == 0
        assert manager.hear() == {"STOPPING": "1", "STATUS": "Stopping"}


def test_a_restart_that_was_given_up_stands_in_the_status_until_one_succeeds(
    manager: Manager, tmp_path: Path
) -> None:
    file, app = tmp_path / "options.toml", tmp_path / "changing.py"
    good, works = "workers = 2\n", f"from {__name__} import hangs as app\n"
    file.write_text(good)
    app.write_text(works)
    words = ("--config", str(file), "--app-dir", str(tmp_path), "--lifespan", "off", "--port", "0")
    with Served("asgiws", "changing:app", *words, NOTIFY_SOCKET=manager.address) as served:
        serving = manager.hear_until("READY")[0]["STATUS"]
        given_up = f"{serving}; the last restart was given up, see the log"

        def status_after(how: int, key: str = "READY") -> str:
            served.send(how)
            return manager.hear_until(key)[0]["STATUS"]

        file.write_text("workers = 0\n")
        assert status_after(signal.SIGHUP) == given_up
        file.write_text(good)
        assert status_after(signal.SIGHUP) == serving
        app.write_text("raise ValueError\n")
        assert status_after(signal.SIGHUP) == given_up
        app.write_text(works)
        assert status_after(signal.SIGHUP) == serving
        app.write_text("raise ValueError\n")
        assert status_after(signal.SIGUSR2, "STATUS") == given_up
        app.write_text(works)
        assert status_after(signal.SIGUSR2) == serving


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_hangs_gives_no_sign_of_life(
    loop: str, manager: Manager, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    with serve(manager, loop, WATCHDOG_USEC="100000") as served:
        manager.hear_until("READY")
        for _ in range(3):
            assert manager.hear() == {"WATCHDOG": "1"}
        with Client(served) as client:
            client.send(request("Host: a", target=f"/?{flag}"))
            deadline = time.monotonic() + DEADLINE
            while flag.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            manager.sock.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    manager.hear()
            manager.sock.settimeout(0.5)
            with pytest.raises(TimeoutError):
                manager.hear()
            manager.sock.settimeout(DEADLINE)
            os.unlink(f"{flag}.seen")
            assert manager.hear() == {"WATCHDOG": "1"}
            assert client.read_head().status == 200
        assert served.stop() == 0
        manager.hear_until("STOPPING")


def test_a_server_in_a_loop_of_yours_does_not_speak_for_the_process(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"NOTIFY_SOCKET": manager.address, "LISTEN_FDS": "1", "LISTEN_PID": PID}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with running(tell_address) as server:
        assert server.port
        assert {name: os.environ.get(name) for name in variables} == variables
    manager.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.hear()


def test_a_start_that_fails_is_never_ready(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(AssertionError, match="Address already in use"):
            serve(manager, "uvloop", "--port", port)
    manager.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.hear()
