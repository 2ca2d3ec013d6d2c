"""The program: one process that serves, or a supervisor and its workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import ConfigError, StartupError
from ..options.config import Config
from . import upgrade
from .importer import is_loading
from .server import Server


def run(app: Any, **options: Any) -> None:
    """Serve ``app``, an ASGI application or its import string, until SIGINT or SIGTERM.

    ``options`` are the fields of Config. Returns after a clean shutdown. What keeps the server
    from starting is printed, and ends the program with the exit code that the command line
    has for it: it raises SystemExit. With several ``workers``, or ``reload``, ``app`` must be
    an import string, and the call stand behind ``if __name__ == "__main__"``.
    """
    try:
        serve(Config(app, **options))
    except StartupError as error:
        if is_loading():
            raise  # whoever imports this program tells it
        fail(error)


def fail(error: StartupError) -> NoReturn:
    """End the program, which cannot start: one line on stderr, and an exit code of its own.

    Where the application raised, its traceback comes before that line.
    """
    if sys.stderr is not None:
        details = error.details.rstrip("\n")
        print(f"{details}\n" if details else "", f"Error: {error}", sep="", file=sys.stderr)
    sys.exit(error.exit_code)


def serve(
    config: Config, reread: Callable[[], Config] | None = None, options_file: str = ""
) -> None:
    """Serve as ``config`` says, until SIGINT or SIGTERM; raises StartupError.

    ``reread`` gives the options anew when the workers are replaced (SIGHUP, --reload);
    ``options_file`` is the file in which some of them may stand.
    """
    if is_loading():
        raise ConfigError(
            "asgiws.run was called while the application was being imported: put the call "
            'behind if __name__ == "__main__":'
        )
    if upgrade.is_check():
        upgrade.check(config)
        # What stands behind the call is for the end of a program that has served.
        raise SystemExit(0)
    # Below: one process pays nothing for what it does not use.
    if config.reload:
        from .reload import Reloader

        Reloader(config, reread, options_file).run()
    elif config.workers == 1 and not upgrade.has_taken_over():
        Server(config).run()
    else:
        from .supervisor import Supervisor

        Supervisor(config, reread).run()
