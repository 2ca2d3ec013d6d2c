"""``asgiws APP [OPTIONS]``: argv to Config to a running server.

The options come from the declaration in config.py. click parses the words, and sources.py checks
the values of all sources, so the message about a mistake is the same for each source.
docs/exit-codes.md lists the exit codes.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from platform import python_implementation, python_version
from typing import Any, NoReturn

import click

from . import __version__, build
from .errors import StartupError
from .options.config import OPTIONS, UVICORN_ONLY, parser, uvicorn_only
from .options.kinds import SWITCH_WORDS, Option, asks_for_nothing
from .options.sources import file_of_options, load
from .process import program
from .process.descriptors import fill_standard_descriptors
from .process.importer import look_first_in
from .process.program import INTERRUPTED
from .text import clip, printable


def version_line() -> str:
    """The versions of asgiws (and its build), Python, the parsers and the event loop."""
    try:
        loop = f"uvloop {version('uvloop')}"
    except PackageNotFoundError:
        loop = "asyncio"
    python = f"{python_implementation()} {python_version()}"
    parsers = [f"{name} {version(name)}" for name in dict.fromkeys((parser("auto"), "h11"))]
    return ", ".join([f"asgiws {__version__} ({build()})", python, *parsers, loop])


def _print_version(context: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(version_line())
        context.exit()


def _refuse(context: click.Context, param: click.Parameter, value: object) -> None:
    key = param.opts[0].removeprefix("--")
    if value is None or context.resilient_parsing:
        return
    if not asks_for_nothing(value, UVICORN_ONLY[key].nothing):
        raise click.UsageError(f"{uvicorn_only(key)}.", context)


class GroupedOption(click.Option):
    """An option that knows the heading of the help under which it stands."""

    def __init__(self, *args: Any, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading


# Flags of gunicorn, hypercorn and daphne whose counterparts have names that are not similar.
ELSEWHERE = {
    "-b": "--bind",
    "-w": "--workers",
    "--access-logfile": "--log-config",
    "--access-logformat": "--log-config",
    "--chdir": "--app-dir",
    "--env": "--env-file",
    "--error-logfile": "--log-config",
    "--graceful-timeout": "--timeout-graceful-shutdown",
    "--limit-request-field-size": "--h11-max-incomplete-event-size",
    "--limit-request-line": "--h11-max-incomplete-event-size",
    "--pythonpath": "--app-dir",
    "--reload-extra-file": "--reload-include",
    "--server-name": "--allowed-hosts",
    "--timeout": "--timeout-worker-healthcheck",
    "--umask": "--uds-permissions",
    "--verbosity": "--log-level",
    "--verify-mode": "--ssl-cert-reqs",
    "--websocket-connect-timeout": "--ws-accept-timeout",
    "--websocket-timeout": "--ws-idle-timeout",
}


class ServeCommand(click.Command):
    """A command whose help is grouped and whose switches also take a word, as uvicorn's do."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, list(_switches_without_words(args)))
        except click.NoSuchOption as error:
            raise click.UsageError(self._unknown(context, error.option_name), context) from None

    def _unknown(self, context: click.Context, name: str) -> str:
        """The message about an unknown option, in the words of the other sources."""
        shown = [param for param in self.get_params(context) if not getattr(param, "hidden", False)]
        names = [name for param in shown for name in (*param.opts, *param.secondary_opts)]
        word = name.lower().replace("_", "-")
        meant = [ELSEWHERE[word]] if word in ELSEWHERE else difflib.get_close_matches(word, names)
        hint = f"; did you mean {meant[0]}?" if meant else ""
        if meant[:1] == ["app"]:
            hint = "; the application needs no option, as in `asgiws main:app`"
        return f"{clip(printable(name))}: there is no such option{hint}"

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return ["APP", "[OPTIONS]"]

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(context) if isinstance(param, click.Option)]
        for heading, group in groupby(
            options, key=lambda option: getattr(option, "heading", "Other")
        ):
            rows = [row for param in group if (row := param.get_help_record(context))]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


_SWITCHES = {declared.flag: declared for declared in OPTIONS if declared.kind.switch}


def _switches_without_words(args: list[str]) -> Iterator[str]:
    """``--name true`` as ``--name``, ``--name=false`` as ``--no-name``."""
    waiting = iter(args)
    held: str | None = None
    for arg in waiting:
        flag, equals, word = arg.partition("=")
        if held is not None and arg.lower() in SWITCH_WORDS:
            yield _switch(held, arg)
            held = None
            continue
        if held is not None:
            yield held
            held = None
        if arg == "--":
            yield arg
            yield from waiting
        elif arg in _SWITCHES:
            held = arg
        elif equals and flag in _SWITCHES and word.lower() in SWITCH_WORDS:
            yield _switch(flag, word)
        else:
            yield arg
    if held is not None:
        yield held


def _switch(flag: str, word: str) -> str:
    on = _SWITCHES[flag].kind.parse(word)
    return flag if on else f"--no-{flag.removeprefix('--')}"


def _parameters() -> Iterator[click.Parameter]:
    for declared in OPTIONS:
        if declared.name == "app":
            yield click.Argument(["app"], required=False)
        else:
            yield _parameter(declared)
    yield click.Option(
        ["--config"],
        metavar="FILE",
        help="TOML file with options instead of pyproject.toml: its table [tool.asgiws], or the "
        "whole file.",
    )
    yield click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Show the versions of asgiws, Python, the parsers and the event loop, and exit.",
    )
    for key in UVICORN_ONLY:
        # An optional value, for all of them alike.
        yield click.Option(
            [f"--{key}"],
            is_flag=False,
            flag_value="",
            hidden=True,
            expose_value=False,
            is_eager=True,
            callback=_refuse,
        )


def _parameter(declared: Option) -> click.Option:
    default = declared.default_text
    text = f"{declared.help}  [default: {default}]" if default else declared.help
    flag = declared.flag
    if declared.kind.switch:
        names = [f"{flag}/--no-{declared.key}", declared.name]
        return GroupedOption(names, default=None, heading=declared.group, help=text)
    return GroupedOption(
        [flag, declared.name],
        metavar=declared.kind.metavar,
        multiple=declared.kind.repeated,
        heading=declared.group,
        help=text,
    )


def serve(config: str | None, **typed: Any) -> None:
    """Start a server from what was typed, and see it to its end."""
    given = {name: value for name, value in typed.items() if value not in (None, ())}
    try:
        reread = partial(load, given, dict(os.environ), config)
        configured = reread()
        # Already here: --log-config may name a formatter of the application's.
        look_first_in(configured.app_dir)
        program.serve(configured, reread, file_of_options(os.environ, config))
    except StartupError as error:
        program.fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


command = ServeCommand(
    "asgiws",
    params=list(_parameters()),
    callback=serve,
    context_settings={"max_content_width": 100},
    epilog="Every option is also a variable (--ws-max-size: ASGIWS_WS_MAX_SIZE) and a key of "
    "[tool.asgiws] in pyproject.toml (ws-max-size = 1000000). The command line wins over the "
    "environment, the environment over the file.",
    help="Serve APP, an ASGI application named as module:attribute: main:app is the object app "
    "of main.py.",
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The program: ``argv`` without its name, by default the process's."""
    fill_standard_descriptors()
    try:
        command.main(args=None if argv is None else list(argv), prog_name="asgiws")
    finally:
        # The server has ended: one more Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
