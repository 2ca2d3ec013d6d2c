"""The example over four workers, in a real browser: one chat, and nothing lost or doubled."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from ..toolkit.served import Served, serve_example
from .chromium import Visitor
from .conftest import Visit

pytestmark = pytest.mark.slow

WORKERS = 4
READY = "Worker . .* is ready"
PACE = 0.1  # seconds; a page that is away for a moment misses fewer than the room remembers
SHOWN = ".message .text"
NAMES = ("Ada", "Grace", "Alan", "Barbara")


@pytest.fixture
def server() -> Iterator[Served]:
    with serve_example(WEB_CONCURRENCY=str(WORKERS)) as served:
        served.wait_for_count(READY, WORKERS)
        yield served


def post(server: Served, text: str) -> None:
    message = {"name": "build bot", "text": text}
    httpx.post(f"{server.url}/rooms/lobby/messages", json=message).raise_for_status()


class Talk:
    """What is said in the lobby while something happens to the workers."""

    def __init__(self, server: Served, speaker: Visitor) -> None:
        self.server = server
        self.speaker = speaker
        self.said: list[str] = []

    def go_on_until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < give_up
            self.go_on()
            time.sleep(PACE)

    def go_on(self) -> None:
        """Say something on the page, and something over HTTP."""
        text = f"page {len(self.said)}"
        if self.speaker.try_to_say(text):
            self.said.append(text)
        text = f"post {len(self.said)}"
        post(self.server, text)
        self.said.append(text)

    def check(self, visitors: list[Visitor]) -> None:
        """Everybody has seen all of it, and each of it once."""
        post(self.server, "The end")
        for visitor in visitors:
            visitor.see(".message", "The end")
            visitor.see("#state", "online")
        end = [*self.said, "The end"]
        # What the speaker had to send again comes later.
        self.speaker.wait_until(lambda: len(self.speaker.texts(SHOWN)) >= len(end))
        order = self.speaker.texts(SHOWN)
        assert sorted(order) == sorted(end)
        for visitor in visitors:
            visitor.wait_until(lambda v=visitor: len(v.texts(SHOWN)) >= len(end))
            assert visitor.texts(SHOWN) == order


def test_pages_on_different_workers_are_in_one_room(visit: Visit, server: Served) -> None:
    visitors = [visit(name) for name in NAMES]
    for visitor in visitors:
        visitor.see('#rooms a[href="#lobby"]', "4/20")
        visitor.see("#present", "4 here")
    for visitor, name in zip(visitors, NAMES, strict=True):
        visitor.say(f"I am {name}")
    for visitor in visitors:
        for name in NAMES:
            visitor.see(".message", f"I am {name}")
    answer = httpx.post(
        f"{server.url}/rooms/lobby/messages", json={"name": "build bot", "text": "All green."}
    )
    assert answer.json() == {"reached": 4}
    for visitor in visitors:
        visitor.see(".message", "All green.")


def test_a_rolling_restart_loses_nothing_and_doubles_nothing(visit: Visit, server: Served) -> None:
    visitors = [visit(name) for name in NAMES]
    talk = Talk(server, visitors[0])
    talk.go_on()
    server.send(signal.SIGHUP)
    talk.go_on_until(lambda: len(server.lines(READY)) == 2 * WORKERS)
    for visitor in visitors:
        visitor.see("#log", "Connection closed: 1012")
        assert "missing" not in visitor.find("#log").text
    talk.check(visitors)


def test_a_killed_worker_takes_nothing_with_it(visit: Visit, server: Served) -> None:
    visitors = [visit(name) for name in NAMES]
    talk = Talk(server, visitors[0])
    talk.go_on()
    found = re.search(r"pid (\d+)", server.lines(READY)[0])
    assert found
    os.kill(int(found[1]), signal.SIGKILL)
    talk.go_on_until(lambda: len(server.lines(READY)) == WORKERS + 1)
    talk.check(visitors)
    # The pages were on different workers: one of them has lost its connection.
    logs = [visitor.find("#log").text for visitor in visitors]
    assert ["Connection closed: 1006" in log for log in logs].count(True) == 1
    assert not any("missing" in log for log in logs)
