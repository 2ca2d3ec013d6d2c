"""One asgiws per application, checked when it ends: exit code 0, and no error was printed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from ..browser.chromium import Window, chromium
from ..toolkit.npm import npm_install
from ..toolkit.served import Served

# A server in use that is asked to end must do so long before any deadline of its own.
END = 8.0
LONG = ("--timeout-graceful-shutdown=60", "--ws-close-timeout=60", "--timeout-keep-alive=60")


def serve(framework: str, *options: str) -> Iterator[Served]:
    """Serve ``apps/{framework}.py``. The one error it may print is the exception of ``boom``."""
    with Served("asgiws", f"tests.compat.apps.{framework}:app", "--port", "0", *options) as served:
        yield served
        check(served, served.stop())


def check(served: Served, code: int) -> None:
    """The server, which has ended with this exit code, ended well."""
    output = "".join(served.output)
    assert code == 0, output
    assert output.count("Traceback") == output.count("RuntimeError: boom"), output
    assert not re.search("CRITICAL|never retrieved|never awaited|was destroyed", output), output


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The application that the test module names in ``APPLICATION``."""
    yield from serve(request.module.APPLICATION)


class InUse(Served):
    """``apps/{application}.py``, which its test ends while clients are connected."""

    def __init__(self, application: str, **environment: str) -> None:
        module = f"tests.compat.apps.{application}:app"
        super().__init__("asgiws", module, "--port", "0", *LONG, deadline=180, **environment)

    def end(self) -> None:
        """SIGTERM ends it at once, though clients are connected, without a word of an error."""
        self.process.terminate()
        self.ended()

    def ended(self) -> None:
        """What ``end`` promises, for a server that has got its SIGTERM."""
        try:
            self.process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()  # its exit code is wrong then
        check(self, self.wait_for_end())
        output = "".join(self.output)
        assert not re.search("ERROR|Traceback", output), output


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def visit(browser: Chrome) -> Iterator[Callable[[str], Window]]:
    """``visit(url)`` opens a window of Chromium, which the end of the test closes."""
    first = browser.current_window_handle
    yield lambda url: Window(browser, url)
    for window in browser.window_handles:
        if window != first:
            browser.switch_to.window(window)
            browser.close()
    browser.switch_to.window(first)


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., list[str]]:
    """``node(script, *packages)`` installs packages of npm's; the command that runs the script.

    A missing Node.js is a failure, never a skip.
    """

    def command(script: str, *packages: str) -> list[str]:
        program = shutil.which("node")
        assert program, "Node.js is not installed, and this test needs it: apt-get install nodejs"
        npm_install(tmp_path, *packages)
        return [program, str(shutil.copy(Path(__file__).with_name(script), tmp_path))]

    return command
