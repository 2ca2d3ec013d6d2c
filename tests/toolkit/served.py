"""A server in a process of its own, started as a user starts it.

`Served("asgiws", "app:app", ...)` runs `python -m asgiws app:app ...` and waits until it
has printed its URL; `stop()` ends it as a terminal or a service manager does and returns
its exit code. Keyword arguments are environment variables.
"""

from __future__ import annotations

from typing import Any

from .program import ROOT, Program

EXAMPLE = ROOT / "examples" / "starlette_app"


class Served(Program):
    """One running server, which serves as soon as it is made."""

    def __init__(self, *command: str, **options: Any) -> None:
        super().__init__(*command, **options)
        try:
            self.wait_until_serving()
        except BaseException:
            self.kill()
            raise


def serve_example(server: str = "asgiws", port: int = 0, **environment: str) -> Served:
    """The example of the README; `server` is asgiws, or another one that it must run on."""
    command = (server, "app:app", "--app-dir", str(EXAMPLE), "--port", str(port))
    return Served(*command, **environment)
