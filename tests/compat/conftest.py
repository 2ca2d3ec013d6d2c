"""One asgiws per application, checked when it ends: exit code 0, and no error was printed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ..toolkit.served import Served


def serve(framework: str) -> Iterator[Served]:
    """Serve ``apps/{framework}.py``. The one error it may print is the exception of ``boom``."""
    with Served("asgiws", f"tests.compat.apps.{framework}:app", "--port", "0") as served:
        yield served
        code = served.stop()
    output = "".join(served.output)
    assert code == 0, output
    assert output.count("Traceback") == output.count("RuntimeError: boom"), output
    assert not re.search("CRITICAL|never retrieved|never awaited|was destroyed", output), output


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The application that the test module names in ``APPLICATION``."""
    yield from serve(request.module.APPLICATION)
