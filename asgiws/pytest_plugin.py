"""The fixture ``asgiws_server`` of pytest; ``pip install asgiws`` is enough to have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import TYPE_CHECKING

import pytest

# Imported with the first server: this module is loaded by every run of pytest.
if TYPE_CHECKING:
    from typing import Unpack

    from .asgi import Application
    from .options.typed import Options
    from .testing import Background, Served


class Servers:
    """The type of the fixture ``asgiws_server``: starts servers, in threads or in a test's loop."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, app: Application, **options: Unpack[Options]) -> Background:
        """Serve ``app`` in a thread until the test ends; raises StartupError."""
        from .testing import serve

        return self._stack.enter_context(serve(app, **options))

    def here(
        self, app: Application, **options: Unpack[Options]
    ) -> AbstractAsyncContextManager[Served]:
        """Serve ``app`` in the running event loop while an ``async with`` block runs."""
        from .testing import serve_here

        return serve_here(app, **options)


@pytest.fixture
def asgiws_server() -> Iterator[Servers]:
    """``server = asgiws_server(app)`` serves it; ``server.url``, ``server.ws_url``."""
    with ExitStack() as stack:
        yield Servers(stack)
