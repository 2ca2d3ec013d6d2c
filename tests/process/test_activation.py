"""Sockets that systemd has opened: found by themselves, and nobody else's."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgiws.options.addresses import Descriptor, Inet
from asgiws.process.activation import FIRST, Passed, take_passed, where_to_listen

from ..toolkit.raw_http import Client
from ..toolkit.running import LOOPS
from ..toolkit.served import ROOT, Served

CHILD = """
import json, os, stat
names = [name for name in os.environ if name.startswith("LISTEN_")]
sockets = []
for fd in range(3, 200):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            sockets.append(fd)
    except OSError:
        pass
print(json.dumps([names, sockets]))
"""


def see() -> bytes:
    """What a child process has of the sockets: the variables and the descriptors."""
    command = [sys.executable, "-c", CHILD]
    return subprocess.run(command, capture_output=True, check=True, close_fds=False).stdout


async def children_see(scope: Any, receive: Any, send: Any) -> None:
    seen = see()
    headers = [(b"content-length", b"%d" % len(seen))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": seen})


def activated(*sockets: str, options: tuple[str, ...] = (), loop: str = "uvloop") -> Served:
    app = f"{__name__}:children_see"
    command = ("asgiws", app, "--loop", loop, "--lifespan", "off", *options)
    return Served("tests.process.as_systemd", *sockets, "--", *command)


@pytest.mark.parametrize("loop", LOOPS)
def test_sockets_of_systemd_are_found_by_themselves_and_kept_from_children(
    loop: str, tmp_path: Path
) -> None:
    path = f"{tmp_path}/s"
    with activated("tcp", f"unix:{path}", loop=loop) as served:
        served.wait_for_line(f"Serving on unix:{path} ")
        for where in (served, path):
            with Client(where) as client:
                assert json.loads(client.get().body) == [[], []]
        assert served.stop() == 0
    assert os.path.exists(path)  # it is systemd's


def test_what_was_asked_for_wins_over_the_sockets_of_systemd_and_is_told() -> None:
    with activated("tcp", options=("--bind", "127.0.0.1:0")) as served:
        said = "systemd passed sockets that are not used (fd://3): the options ask for 127"
        assert said in "".join(served.output)
        with Client(served) as client:
            assert json.loads(client.get().body) == [[], []]
        assert served.stop() == 0


def test_a_socket_of_systemd_that_was_asked_for_by_its_number_is_nothing_to_tell() -> None:
    with activated("tcp", options=("--fd", "3")) as served:
        with Client(served) as client:
            assert json.loads(client.get().body) == [[], []]
        assert served.stop() == 0
    assert "systemd" not in "".join(served.output)


def test_a_socket_that_is_not_there_ends_the_start() -> None:
    code = (
        "import os, sys; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        f"os.execv(sys.executable, [sys.executable, '-m', 'asgiws', '{__name__}:children_see'])"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 4
    assert "Error: fd://3 is not a socket: " in ended.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "one", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": ""},
    ],
)
def test_what_is_not_for_this_process_is_left_out_and_removed(variables: dict[str, str]) -> None:
    environ = {"PATH": "/bin", **variables}
    assert take_passed(environ).addresses == ()
    assert environ == {"PATH": "/bin"}


def test_sockets_of_another_process_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgiws.error")
    take_passed({"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert "LISTEN_FDS names sockets of process 1, but this is process" in caplog.text


def test_the_variables_are_kept_for_the_next_program_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as given:
        monkeypatch.setattr(f"{take_passed.__module__}.FIRST", given.fileno())
        variables = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a"}
        os.set_inheritable(given.fileno(), True)
        environ = dict(variables)
        passed = take_passed(environ)
        assert passed == Passed((Descriptor(given.fileno()),), variables)
        assert environ == {}
        assert not os.get_inheritable(given.fileno())


def test_where_to_listen_is_what_was_asked_for_or_else_what_was_passed() -> None:
    default = (Inet("127.0.0.1", 8000),)
    passed = Passed((Descriptor(FIRST), Descriptor(FIRST + 1)), {})
    assert where_to_listen(default, True, Passed((), {})) == default
    assert where_to_listen(default, True, passed) == passed.addresses
    assert where_to_listen(default, False, passed) == default
