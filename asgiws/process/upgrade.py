"""SIGUSR2: a supervisor executes its own command line anew, under the same process id.

So a new version of Python, of asgiws or of the options takes over, and the service manager
(systemd, Docker, supervisord) sees the same process. The new program is first checked in a child,
which starts as the program does and ends when the application is imported. The next program
inherits a file with all that it needs: the descriptors of the sockets, the workers and the
connections that wait for a worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..errors import StartupError
from ..options.config import Config
from ..options.tls import ssl_context
from .descriptors import memory_file
from .importer import load_app

# The format of the state that is handed over, and of what supervisor and workers share. A program
# with another format cannot take over, and says so when it is checked.
FORMAT: Final = 2

CHECK: Final = "_ASGIWS_CHECK"  # in the environment of the child: its parent's format
HANDED_OVER: Final = "_ASGIWS_HANDED_OVER"  # in that of the next program: a descriptor


def command() -> list[str]:
    """The command line of this process, to be executed once more."""
    return [sys.executable, *sys.orig_argv[1:]]


def begin_check() -> int:
    """Start a child that checks whether the program would start; its process id."""
    return os.posix_spawn(
        sys.executable, command(), {**os.environ, CHECK: str(FORMAT)}, setsigmask=[]
    )


def is_check() -> bool:
    """Return whether this process is such a child."""
    return CHECK in os.environ


def check(config: Config) -> None:
    """Check, in that child, that the program would start; raises StartupError."""
    if os.environ.pop(CHECK) != str(FORMAT):
        raise StartupError(
            "this version of asgiws cannot take over from the one that runs: restart it"
        )
    ssl_context(config)
    load_app(config.app, app_dir=config.app_dir, factory=config.factory, env_file=config.env_file)


def has_taken_over() -> bool:
    """Return whether a program before this one has handed something over."""
    return HANDED_OVER in os.environ


def taken_over() -> dict[str, Any] | None:
    """The state that the program before this one has handed over, if there was one."""
    if not has_taken_over():
        return None
    with os.fdopen(int(os.environ.pop(HANDED_OVER)), "rb") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
        return state


@contextmanager
def inheritable(fds: Iterable[int]) -> Iterator[None]:
    """Let a program that is executed in the block have these descriptors."""
    given = tuple(fds)
    try:
        for fd in given:
            os.set_inheritable(fd, True)
        yield
    finally:
        for fd in given:
            os.set_inheritable(fd, False)


def execute(
    state: dict[str, Any], environ: dict[str, str], signals: Iterable[signal.Signals]
) -> None:
    """Execute the program anew, with ``state`` for it; raises OSError where that fails.

    The ``signals`` wait until it listens to them: most of them would end it before.
    """
    with os.fdopen(memory_file(), "wb") as file:
        file.write(json.dumps(state).encode())
        file.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            with inheritable([file.fileno()]):
                os.execve(sys.executable, command(), {**environ, HANDED_OVER: str(file.fileno())})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
