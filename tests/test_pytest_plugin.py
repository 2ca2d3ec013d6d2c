"""The fixture of pytest, in a run of pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = """
import asyncio
import urllib.request

import pytest


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise LookupError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def get(url):
    return urllib.request.urlopen(url).read()


kept = []


def test_in_a_thread(asgiws_server):
    first, second = asgiws_server(app), asgiws_server(app, timeout_keep_alive=1)
    assert get(first.url) == get(second.url) == b"hello"
    assert first.ws_url.startswith("ws://")
    kept.append(first)


def test_the_end_of_a_test_ends_its_servers():
    with pytest.raises(OSError):
        get(kept[0].url)


def test_here(asgiws_server):
    async def body():
        async with asgiws_server.here(app) as server:
            assert await asyncio.to_thread(get, server.url) == b"hello"

    asyncio.run(body())
"""


def test_the_fixture_serves_applications_until_the_test_ends(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(TESTS, "utf-8")
    words = ["-m", "pytest", "-p", "asgiws.pytest_plugin", "-W", "error", "-q", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, *words, f"--rootdir={tmp_path}", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout


def test_the_plugin_imports_no_server_before_it_is_asked_for() -> None:
    code = "import sys, asgiws.pytest_plugin; print('asgiws.testing' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == "False\n"
