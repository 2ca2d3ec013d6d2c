"""docs/deploy/restarts.md: a deploy into a directory of its own, and a switched link."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from ..toolkit.served import Served
from .pages import put, typed

pytestmark = pytest.mark.slow  # 4 s each: several workers

APP = """
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": b"{version}"}})
"""


def release(folder: Path, version: str) -> None:
    made = folder / "releases" / version
    made.mkdir(parents=True)
    (made / "main.py").write_text(APP.format(version=version))
    config = f'[tool.asgiws]\napp = "main:app"\nworkers = 2\nheader = ["x-release: {version}"]\n'
    (made / "pyproject.toml").write_text(config)


def switch(folder: Path, version: str) -> None:
    """Type what the page says, for this release."""
    lines = put(typed("deploy/restarts", "switch"), "/srv/chat", str(folder))
    lines = put(lines, "/releases/2", f"/releases/{version}")
    subprocess.run(["sh", "-ec", lines], check=True)


@pytest.mark.parametrize(("named", "expected"), [(True, "2"), (False, "1")])
def test_a_rolling_restart_follows_the_link_only_if_options_name_it(
    named: bool, expected: str, tmp_path: Path
) -> None:
    release(tmp_path, "1")
    switch(tmp_path, "1")
    current = tmp_path / "current"
    serve = put(typed("deploy/restarts", "serve"), "/srv/chat", str(tmp_path)).split()
    command = serve if named else serve[:1]
    with Served(*command, "--port", "0", "--lifespan", "off", cwd=current) as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert httpx.get(url).text == "1"
        release(tmp_path, "2")
        switch(tmp_path, "2")
        server.send(signal.SIGHUP)
        server.wait_for_line("All workers are replaced")
        answers = [httpx.get(url) for _ in range(10)]
        assert {answer.text for answer in answers} == {expected}
        assert {answer.headers["x-release"] for answer in answers} == {expected}
        assert server.stop() == 0
