"""Server-sent events of sse-starlette and Django, in Chromium and to a plain client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..browser.chromium import Window
from .conftest import InUse

pytestmark = pytest.mark.slow

TIMEOUT = 20.0


def wait_until_running(server: InUse, streams: object) -> None:
    """Until the application says that these of its streams run."""
    deadline = time.monotonic() + TIMEOUT
    while (running := httpx.get(f"{server.url}/running").json()) != streams:
        assert time.monotonic() < deadline, f"{running} run"
        time.sleep(0.02)


class Stream:
    """The lines of a response that is open until the block ends."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self._response = client.stream("GET", path)

    def __enter__(self) -> Stream:
        self._lines = self._response.__enter__().iter_lines()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._response.__exit__(*exc_info)

    def next(self) -> str:
        """The next line that is not empty; "" at a clean end."""
        return next(filter(None, self._lines), "")


def test_sse_starlette_resumes_in_a_browser_and_ends_with_streams_open(
    visit: Callable[[str], Window],
) -> None:
    with InUse("sse_starlette") as server:
        window = visit(server.url)
        window.see("#quiet", "open")
        assert window.see("#numbers", "end").text == "1 2 3 4 5 6 7 8 9 end"
        wait_until_running(server, 1)
        window.reload()
        window.see("#numbers", "end")
        wait_until_running(server, 1)
        server.end()


def test_django_streams_without_end_and_ends_with_streams_open() -> None:
    with InUse("django") as server, httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        assert client.get("/").text == "django"
        files = {"small": b"x", "large": b"x" * 5_000_000}
        sizes = client.post("/upload", files=files).json()
        assert sizes == {"small": 1, "large": 5_000_000}

        with Stream(client, "/ticks") as ticks:
            assert [ticks.next() for _ in range(3)] == ["data: 1", "data: 2", "data: 3"]
            wait_until_running(server, ["ticks"])
        wait_until_running(server, [])  # the client has left, and the view heard of it

        with Stream(client, "/ticks") as ticks, Stream(client, "/quiet") as quiet:
            assert (ticks.next(), quiet.next()) == ("data: 1", "data: begun")
            wait_until_running(server, ["quiet", "ticks"])
            server.end()
            assert quiet.next() == ""
            while ticks.next():
                pass
