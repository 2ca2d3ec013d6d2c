"""Datasette in Chromium and to a plain client; a download that it finishes while it ends."""

from __future__ import annotations

import csv
from collections.abc import Callable

import httpx
import pytest

from ..browser.chromium import Window
from .apps.datasette import ROWS, WIDTH
from .conftest import InUse

pytestmark = pytest.mark.slow

TIMEOUT = 20.0


def test_datasette_answers_queries_and_finishes_a_download_while_it_ends(
    visit: Callable[[str], Window],
) -> None:
    with InUse("datasette") as server, httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        query = {"sql": "select max(id) as last from books", "_shape": "array"}
        assert client.get("/library.json", params=query).json() == [{"last": ROWS}]
        window = visit(f"{server.url}/library/books?_size=10&_search=")
        assert window.see("table.rows-and-columns td.type-str", "Volume 1 ")

        with client.stream("GET", "/library/books.csv?_stream=on&_size=max") as download:
            lines = download.iter_lines()
            assert next(lines) == "id,title"
            server.process.terminate()
            server.wait_for_line("Waiting for")
            rows = list(csv.reader(lines))
        server.ended()
        assert [int(number) for number, _ in rows] == list(range(1, ROWS + 1))
        assert all(len(title) == WIDTH for _, title in rows)
