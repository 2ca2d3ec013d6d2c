"""docs/five-minutes.md: each application is served by the command of the page."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from ..toolkit.served import ROOT, Served

PAGE = (ROOT / "docs" / "five-minutes.md").read_text("utf-8")
FOUND = re.findall(r"<!-- snippet: minutes-(\w+) -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)


def test_each_framework_of_the_page_is_here() -> None:
    assert [name for name, _ in FOUND] == ["fastapi", "starlette", "django", "litestar", "asgi"]


@pytest.mark.slow  # 1 to 3 s each; needs the frameworks of [compat]
@pytest.mark.parametrize(("name", "code"), FOUND, ids=[name for name, _ in FOUND])
def test_it_answers_says_back_what_it_hears_and_ends(name: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(code, "utf-8")
    with Served("asgiws", "main:app", "--port", "0", cwd=tmp_path) as server:
        response = httpx.get(f"http://127.0.0.1:{server.port}/")
        assert response.json() == {"say": "hello"}
        page = f"http://127.0.0.1:{server.port}"  # a browser names it, and Channels wants it
        with connect(f"{page.replace('http', 'ws')}/echo", origin=Origin(page)) as websocket:
            for text in ("hello", "\N{SNAIL}" * 1000):
                websocket.send(text)
                assert websocket.recv(5) == text
        assert server.stop() == 0
        assert not server.lines("ERROR|Traceback"), server.output
