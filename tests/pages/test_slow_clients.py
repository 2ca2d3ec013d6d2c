"""docs/how-to/slow-clients.md: the program of the page, with clients that do not read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from asgiws.options.config import OPTIONS

from ..deploy.pages import put, text, typed
from ..test_docs import snippets
from ..toolkit.raw_websocket import RawWebSocket
from ..toolkit.served import Served

PAGE = "how-to/slow-clients"


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    (folder / "main.py").write_text(snippets()["slow-clients"], "utf-8")
    with Served("asgiws", "main:app", "--port", "0", *options, cwd=folder) as server:
        yield server
        assert not server.lines("Traceback"), server.output


def deaf(server: Served, path: str) -> RawWebSocket:
    """A client that has opened a WebSocket, and does not read."""
    return RawWebSocket(server, target=path, receive_buffer=4096)


def slow(server: Served) -> dict[str, int]:
    return dict(httpx.get(f"http://127.0.0.1:{server.port}/slow").json())


def repeat(server: Served, action: Callable[[], object], until: Callable[[], bool]) -> None:
    """Do it again and again, until that is so."""

    def once() -> bool:
        action()
        return until()

    server.wait_until(once)


@pytest.mark.slow  # 4 s: a server in a process of its own
def test_an_export_waits_for_a_client_that_does_not_read_and_others_do_not(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        (tmp_path / "client.py").write_text(snippets()["slow-clients-client"], "utf-8")
        client = subprocess.Popen(
            [sys.executable, "client.py", f"ws://127.0.0.1:{server.port}/export"],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        command = put(typed(PAGE, "queue"), ":8000", f":{server.port}")

        def waiting() -> bool:
            shown = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
            queues = [int(line.split()[1]) for line in shown.stdout.splitlines()[1:]]
            return max(queues, default=0) > 10_000

        try:
            server.wait_until(waiting)
            with connect(f"ws://127.0.0.1:{server.port}/export") as websocket:
                for number in range(20_000):
                    assert json.loads(websocket.recv(5))["row"] == number
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
            assert int(kilobytes) < 100_000  # all rows have 120 MB
            printed, _ = client.communicate("\n", timeout=20)
        finally:
            client.kill()
        assert "bytes of the first message" in printed
        assert client.returncode == 0


@pytest.mark.slow
def test_a_topic_keeps_the_newest_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with serving(tmp_path) as server, deaf(server, "/prices") as client:
        url = f"http://127.0.0.1:{server.port}/prices/A"
        price = 0

        def change() -> None:
            nonlocal price
            price += 1
            httpx.post(url, json={"price": price, "more": "m" * 40_000}).raise_for_status()

        def read() -> int:
            return int(json.loads(client.read_frame()[1])["A"]["price"])

        server.wait_until(lambda: slow(server)["subscriptions"] == 1)
        repeat(server, change, lambda: slow(server)["dropped"] > 3)
        seen = [read()]
        while seen[-1] != price:
            seen.append(read())
        assert seen == sorted(seen)
        assert len(seen) < price  # some were left out


@pytest.mark.slow
def test_a_topic_closes_a_client_that_does_not_read_and_no_other(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--ws-close-timeout", "0.5") as server,
        deaf(server, "/news"),
        connect(f"ws://127.0.0.1:{server.port}/news") as reader,
    ):
        url = f"http://127.0.0.1:{server.port}/news"
        server.wait_until(lambda: slow(server)["subscriptions"] == 2)

        def tell() -> None:
            httpx.post(url, params={"text": "n" * 40_000}).raise_for_status()
            assert len(reader.recv(5)) == 40_000

        repeat(server, tell, lambda: slow(server)["closed"] == 1)
        server.wait_for_line(r"close=1013 by=server")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "options", "end"),
    [
        ("/export", ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "0.5"), 1011),
        ("/export", ("--ws-ping-interval", "none", "--timeout-write", "1"), 1006),
        ("/frames", ("--ws-close-timeout", "0.5"), 1013),
    ],
)
def test_a_client_that_takes_nothing_is_closed_as_the_table_says(
    path: str, options: tuple[str, ...], end: int, tmp_path: Path
) -> None:
    with serving(tmp_path, *options) as server, deaf(server, path):
        server.wait_for_line(rf"close={end} by=server")
    assert f"| `close={end} by=server` |" in text(PAGE)


def test_the_options_and_defaults_of_the_page_are_asgiws_s() -> None:
    page = text(PAGE)
    known = {option.flag: option for option in OPTIONS}
    known["--no-ws-per-message-deflate"] = known["--ws-per-message-deflate"]
    of_ss = {"--tcp", "--numeric"}
    named = set(re.findall(r"--[a-z][a-z-]+", page.replace("<!--", "").replace("-->", "")))
    assert len(named) > 4
    assert named - of_ss <= set(known)
    assert known["--ws-ping-interval"].default == known["--ws-ping-timeout"].default == 20
    assert known["--timeout-write"].default == 60
