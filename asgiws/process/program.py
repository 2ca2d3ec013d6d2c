"""The program: one process that serves, or a supervisor and its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from ..options.config import Config
from . import upgrade
from .importer import is_loading
from .server import Server


def run(app: Any, **options: Any) -> None:
    """Serve ``app``, an ASGI application or its import string, until SIGINT or SIGTERM.

    ``options`` are the fields of Config. Raises ConfigError and the other kinds of
    StartupError; returns after a clean shutdown. With several ``workers``, or ``reload``,
    ``app`` must be an import string, and the call stand behind ``if __name__ == "__main__"``.
    """
    serve(Config(app, **options))


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
