"""docs/tutorial/: each of its four parts is typed as it stands, behind the parts before it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from ..browser.chromium import Window, chromium, png
from ..toolkit.pages import Page
from ..toolkit.served import Served

PARTS = ("1-chat.md", "2-tests.md", "3-workers.md", "4-internet.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "chat"
    made.mkdir()
    return made


def part(number: int, folder: Path) -> Page:
    """A part of the tutorial, when all parts before it are done."""
    for name in PARTS[: number - 1]:
        Page(f"tutorial/{name}", folder).finish()
    return Page(f"tutorial/{PARTS[number - 1]}", folder)


def enter(server: Served, room: str, name: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/rooms/{room}?name={name}")


def heard(by: ClientConnection) -> object:
    return json.loads(by.recv(5))


def test_what_each_part_changes_is_there_and_all_of_it_is_python(folder: Path) -> None:
    for number in range(1, 5):
        part(number, folder).finish()
        for file in folder.glob("*.py"):
            compile(file.read_text("utf-8"), file.name, "exec")


@pytest.fixture
def window(folder: Path) -> Iterator[Window]:
    with chromium(folder.parent / "profile") as driver:
        yield Window(driver, "about:blank")


def visit(window: Window, server: Served, where: str) -> Window:
    return Window(window.driver, f"http://127.0.0.1:{server.port}/{where}")


def say(window: Window, text: str) -> None:
    window.find("#text").send_keys(text)
    window.find("#form button").click()


@pytest.mark.slow  # 8 s: a browser, and an application that is loaded anew
def test_the_first_part_in_a_browser(folder: Path, window: Window) -> None:
    page = part(1, folder)
    with page.serve("reload") as server:
        ada = visit(window, server, "?name=ada#kitchen")
        ada.see("#state", "ada in kitchen")
        say(ada, "hello")
        ada.see("#log", "ada: hello")

        page.go_to("file", "main.py")  # rooms
        ada.see("#state", "closed: 1012")
        ada.see("#state", "ada in kitchen")
        bob = visit(window, server, "?name=bob#kitchen")
        eve = visit(window, server, "?name=eve#cellar")
        bob.see("#state", "bob in kitchen")
        eve.see("#state", "eve in cellar")
        say(ada, "dinner")
        bob.see("#log", "ada: dinner")
        say(eve, "is anybody here?")
        eve.see("#log", "eve: is anybody here?")
        assert eve.texts("#log li") == ["eve: is anybody here?"]

        ready = len(server.lines("is ready"))
        page.finish()  # pictures
        # The worker before ends at once, and a page that is loaded from it may be cut off.
        server.wait_for_count("is ready", ready + 1)
        for one, state in ((ada, "ada in kitchen"), (bob, "bob in kitchen")):
            one.reload()
            one.see("#state", state)
        picture = folder / "sun.png"
        picture.write_bytes(png(40, 30))
        ada.find("#picture").send_keys(str(picture))
        shown = bob.see("#log img")
        bob.wait_until(lambda: shown.size["width"] == 40)
        say(bob, "nice")
        ada.see("#log", "bob: nice")
        assert server.stop() == 0
        ada.see("#state", "closed: 10")
        assert not server.lines("Traceback"), server.output


@pytest.mark.slow  # 10 s: pytest in pytest
@pytest.mark.parametrize("number", [2, 3])
def test_the_tests_of_the_page_pass_as_often_as_it_says(number: int, folder: Path) -> None:
    page = part(number, folder)
    for _ in range(2):
        printed, promised = page.type("pytest")
        assert promised.endswith(" passed")
        assert f"{promised} in " in printed, printed


@pytest.mark.slow  # 8 s: servers with two workers
def test_topics_join_what_two_workers_keep_apart(folder: Path) -> None:
    page = part(3, folder)
    with page.serve("two workers") as server:
        with enter(server, "kitchen", "ada") as ada, enter(server, "kitchen", "bob") as bob:
            ada.send("hello")
            assert heard(ada) == {"name": "ada", "text": "hello"}
            bob.send("is anybody here?")
            assert heard(bob) == {"name": "bob", "text": "is anybody here?"}
        assert server.stop() == 0
    page.go_to("file", "main.py")
    words = ("asgiws", "main:app", "--workers", "2", "--port", "0")
    with Served(*words, cwd=folder) as server:
        with enter(server, "kitchen", "ada") as ada, enter(server, "kitchen", "bob") as bob:
            bob.send("hello")
            assert heard(bob) == {"name": "bob", "text": "hello"}  # from now on he is in the room
            ada.send(b"picture")
            while ada.recv(5) != b"picture":
                pass  # she may have been in the room before him
            assert bob.recv(5) == b"picture"
        assert server.stop() == 0
    page.go_to("add", "main.py")
    with Served(*words, cwd=folder) as server:
        with enter(server, "kitchen", "ada") as ada:
            printed, _ = page.type("curl", server.port)
            assert printed.splitlines()[-1].endswith("1")
            assert heard(ada) == {"name": "robot", "text": "dinner"}
            with enter(server, "kitchen", "bob") as bob:
                assert heard(bob) == {"name": "robot", "text": "dinner"}
            assert "kill -HUP" in page.go_to("typed", "restart")
            os.kill(server.process.pid, signal.SIGHUP)
            with pytest.raises(ConnectionClosed):
                ada.recv(20)
            assert ada.close_code == 1012
        with enter(server, "kitchen", "ada") as ada:
            assert heard(ada) == {"name": "robot", "text": "dinner"}
        assert server.stop() == 0


@pytest.mark.slow  # 4 s: two workers
def test_the_settings_of_the_last_part_let_in_whom_they_should(folder: Path) -> None:
    page = part(4, folder)
    page.go_to("file", "pyproject.toml")
    with page.serve("settings") as server:
        for name in ("right host", "wrong host", "wrong origin"):
            printed, promised = page.type(name, server.port)
            assert printed.strip() == promised
        assert server.stop() == 0
    page.finish()
    with Served("asgiws", "--port", "0", cwd=folder) as server:
        url = f"ws://chat.example.com:{server.port}/rooms/kitchen"
        own = Origin(f"http://chat.example.com:{server.port}")

        def enter_as(name: str) -> ClientConnection:
            there = socket.create_connection(("127.0.0.1", server.port))
            return connect(f"{url}?name={name}", origin=own, sock=there, proxy=None)

        with enter_as("ada") as ada:
            ada.send("hello")
            assert heard(ada) == {"name": "ada", "text": "hello"}
            ada.send(bytes(300_001))
            with pytest.raises(ConnectionClosed):
                ada.recv(5)
            assert ada.close_code == 1009
        with pytest.raises(InvalidStatus) as refused:
            enter_as("a" * 41)
        assert refused.value.response.status_code == 403
        assert httpx.get(f"http://127.0.0.1:{server.port}/").status_code == 421
        assert server.stop() == 0
