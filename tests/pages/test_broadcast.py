"""docs/how-to/broadcast.md: each application of the page, and its snippets."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from websockets.sync.client import connect

from ..toolkit.running import DEADLINE, running
from ..toolkit.served import ROOT

PAGE = (ROOT / "docs" / "how-to" / "broadcast.md").read_text("utf-8")
FOUND = dict(
    re.findall(r"<!-- snippet: broadcast-(\w+) -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)
)


def names_of(snippet: str) -> dict[str, Any]:
    """What a snippet defines."""
    names: dict[str, Any] = {"__name__": snippet}
    exec(compile(FOUND[snippet], f"<snippet broadcast-{snippet}>", "exec"), names)
    return names


@contextmanager
def served(snippet: str) -> Iterator[str]:
    """The address of a server that runs the application of a snippet."""
    with running(names_of(snippet)["app"]) as server:
        yield f"127.0.0.1:{server.port}"


def post(address: str, message: dict[str, str]) -> int:
    answer = httpx.post(f"http://{address}/rooms/a", json=message)
    assert answer.is_success
    return int(answer.text)


def post_until(address: str, message: dict[str, str], reached: int) -> None:
    """Post until so many have subscribed."""
    deadline = time.monotonic() + DEADLINE
    while post(address, message) != reached:
        assert time.monotonic() < deadline, "they do not subscribe"
        threading.Event().wait(0.005)


# Litestar comes with [compat].
@pytest.mark.parametrize(
    "snippet",
    ["starlette", "fastapi", pytest.param("litestar", marks=pytest.mark.slow), "asgi"],
)
def test_what_one_says_in_a_room_is_heard_by_the_others_in_it(snippet: str) -> None:
    with (
        served(snippet) as address,
        connect(f"ws://{address}/rooms/a") as ada,
        connect(f"ws://{address}/rooms/a") as bob,
        connect(f"ws://{address}/rooms/b") as eve,
    ):
        post_until(address, {"to": "all"}, 2)

        def heard(by: Any) -> str:
            while (text := str(by.recv(DEADLINE))).startswith("{"):
                assert json.loads(text) == {"to": "all"}
            return text

        ada.send("hello")
        assert heard(bob) == "hello"
        bob.send("bye")
        assert heard(ada) == "bye"  # and not her own words
        with pytest.raises(TimeoutError):
            eve.recv(0.05)


def test_server_sent_events_go_on_behind_the_last_one_that_was_seen() -> None:
    with served("fastapi") as address:
        assert post(address, {"number": "0"}) == 0
        url = f"http://{address}/rooms/a/events"

        def next_event(lines: Iterator[str]) -> tuple[str, str]:
            seen: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(": ")
                if name in ("id", "data"):
                    seen[name] = value
                elif not line and len(seen) == 2:
                    break
            return seen["id"], json.loads(seen["data"])["number"]

        with httpx.stream("GET", url, timeout=DEADLINE) as response:
            post_until(address, {"number": "1"}, 1)
            position, number = next_event(response.iter_lines())
            assert number == "1"
        post(address, {"number": "2"})
        again = {"Last-Event-ID": position}
        with httpx.stream("GET", url, headers=again, timeout=DEADLINE) as response:
            assert next_event(response.iter_lines())[1] == "2"


def test_who_is_there_is_told_to_all() -> None:
    with (
        TestClient(names_of("presence")["app"]) as client,
        client.websocket_connect("/rooms/a/ada") as ada,
    ):
        assert ada.receive_json() == {"here": "ada"}
        with client.websocket_connect("/rooms/a/bob") as bob:
            assert ada.receive_json() == bob.receive_json() == {"here": "bob"}
            ada.send_text("")
            assert bob.receive_json() == ada.receive_json() == {"here": "ada"}
        assert ada.receive_json() == {"left": "bob"}
