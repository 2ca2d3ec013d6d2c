"""The program: one process that serves, or a supervisor and its workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn, Unpack

from ..asgi import Application
from ..errors import ConfigError, StartupError
from ..options.config import Config
from ..options.typed import Options
from . import upgrade
from .importer import is_loading
from .server import Server

INTERRUPTED = 130  # as shells report the end by SIGINT


def run(app: Application, **options: Unpack[Options]) -> None:
    """Serve ``app``, an ASGI application or its import string, until SIGINT or SIGTERM.

    ``options`` are the fields of Config. Returns after a clean shutdown. If the server cannot
    start, the reason is printed and SystemExit is raised, with the same exit code as on the command
    line; after Ctrl-C before anything was served it is 130. With several ``workers``,
    or ``reload``, ``app`` must be an import string, and the call must stand behind
    ``if __name__ == "__main__"``.
    """
    try:
        serve(Config(app, **options))
    except StartupError as error:
        if is_loading():
            raise  # the server that imports this program prints it
        fail(error)
    except KeyboardInterrupt:
        if is_loading():
            raise
        sys.exit(INTERRUPTED)


def fail(error: StartupError) -> NoReturn:
    """End the program, which cannot start: one line on stderr, and the exit code of ``error``.

    If the application raised, its traceback comes before that line.
    """
    if sys.stderr is not None:
        details = error.details.rstrip("\n")
        print(f"{details}\n" if details else "", f"Error: {error}", sep="", file=sys.stderr)
    sys.exit(error.exit_code)


def serve(
    config: Config, reread: Callable[[], Config] | None = None, options_file: str = ""
) -> None:
    """Serve as ``config`` says, until SIGINT or SIGTERM; raises StartupError.

    SIGINT before anything was served is a KeyboardInterrupt.

    ``reread`` gives the options anew when the workers are replaced (SIGHUP, --reload);
    ``options_file`` is the file that may contain some of them.
    """
    if is_loading():
        raise ConfigError(
            "asgiws.run was called while the application was being imported: put the call "
            'behind if __name__ == "__main__":'
        )
    if upgrade.is_check():
        upgrade.check(config)
        # The statements after the call are for a program that has served.
        raise SystemExit(0)
    if config.topics_url is not None:
        from ..fanout.brokers import client

        client(config.topics_url)  # now, and not in each worker
    # Imported below, so that one process does not load modules that it does not use.
    if config.reload:
        from .reload import Reloader

        Reloader(config, reread, options_file).run()
    elif config.workers == 1 and not upgrade.has_taken_over():
        Server(config).run()
    else:
        from .supervisor import Supervisor

        Supervisor(config, reread).run()
