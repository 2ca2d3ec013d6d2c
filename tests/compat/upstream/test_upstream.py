"""Starlette's and FastAPI's own tests of WebSockets must pass over a real socket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from ...toolkit.running import PARSERS
from ...toolkit.served import ROOT

pytestmark = pytest.mark.slow

STARLETTE = ("tests/test_websockets.py", "tests/test_endpoints.py")
FASTAPI = (
    "tests/test_dependency_after_yield_websockets.py",
    "tests/test_dependency_yield_scope_websockets.py",
    "tests/test_security_websockets.py",
    "tests/test_tutorial/test_websockets",
    "tests/test_ws_dependencies.py",
    "tests/test_ws_router.py",
)
LEFT_OUT = (
    "trio",  # the variant of a test that has TestClient itself run on trio
    "test_websocket_headers",  # compares with a Sec-WebSocket-Key that is none
    # The application writes to the WebSocket of another client, and here each client has a server
    # in an event loop of its own, which sleeps meanwhile: it hangs, now and then.
    "test_websocket_handle_disconnection",
    "test_receive_wrong_message_type",  # sends an event that no frame can carry
)


def download(package: str, directory: Path) -> Path:
    """The unpacked source distribution of ``package``, in the version that is installed."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    wanted = f"{package}=={version(package)}"
    subprocess.run([*pip, "--dest", str(directory), wanted], check=True, timeout=300)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as unpacked:
        unpacked.extractall(directory, filter="data")
    (source,) = (path for path in directory.iterdir() if path.is_dir())
    return source


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("package", "files", "at_least"), [("starlette", STARLETTE, 45), ("fastapi", FASTAPI, 60)]
)
def test_their_tests_pass(
    package: str, files: tuple[str, ...], at_least: int, parser: str, tmp_path: Path
) -> None:
    source = download(package, tmp_path)
    chosen = " and ".join(f"not {name}" for name in LEFT_OUT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", "."),
            *("-p", "over_a_socket", "-p", "no:cacheprovider", "-p", "no:asyncio"),
            *("-q", "--tb=short", "-k", chosen, *files),
        ],
        cwd=source,
        env={
            **os.environ,
            "PARSER": parser,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= at_least, done.stdout
