"""Two loggers, in whose lines a peer's text cannot command a terminal.

``asgiws.error`` has the messages of the server (stderr), ``asgiws.access`` has one
line per HTTP request and one per WebSocket session (stdout). Both have a filter
that escapes control characters before any handler sees the record, so it works with every
``--log-config``. Neither raises into its caller, whatever its handlers do: a connection goes
on, whether its line is logged or not.

A record of the access log has the same arguments as uvicorn's, for the filters and
formatters that are written for those: client, method, path, HTTP version, status.
"""

from __future__ import annotations

import configparser
import importlib
import json
import logging
import logging.config
import os
import sys
import tomllib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO, cast

from .errors import ConfigError
from .text import printable, printable_lines

TRACE = 5
LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
SILENT = logging.CRITICAL + 1

# The arguments of all three are (client, method, path, HTTP version, status).
REQUEST_LINE = '%s - "%s %s HTTP/%s" %d'
SESSION_LINE = '%s - "%s %s%.0s" %d'  # the method is "WebSocket"
MALFORMED_LINE = '%s - "%.0s%s%.0s" %d'  # in place of a path, what was sent


class GuardedLogger(logging.Logger):
    """A logger that raises neither an ``Exception`` nor SystemExit, whatever its handlers do.

    Only the first failure is told on stderr, because each line would bring one.
    """

    told = False

    def _log(
        self,
        level: int,
        msg: object,
        args: Any,
        exc_info: Any = None,
        extra: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
    ) -> None:
        try:
            # One frame more between the caller and the record.
            super()._log(level, msg, args, exc_info, extra, stack_info, stacklevel + 1)
        except (Exception, SystemExit):
            if not self.told:
                self.told = True
                _tell(self.name)


def _tell(name: str) -> None:
    try:
        text = printable_lines(traceback.format_exc())
        sys.stderr.write(f"Logging to {name} failed; this is told once.\n{text}")
    except Exception:
        pass  # there is nowhere left to tell it


def _guarded(name: str) -> GuardedLogger:
    """The logger of that name, guarded even if it was asked for before."""
    logger: Any = logging.getLogger(name)
    if not isinstance(logger, GuardedLogger):
        kind = type(logger)
        logger.__class__ = (
            GuardedLogger
            if kind is logging.Logger
            else type(kind.__name__, (GuardedLogger, kind), {})
        )
    return cast(GuardedLogger, logger)


error_log = _guarded("asgiws.error")
access_log = _guarded("asgiws.access")

_COLORS = {
    TRACE: "34",
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


class SafeFilter(logging.Filter):
    """Escapes the message of a record (one line) and its traceback (many lines), once for all.

    If all arguments are text or numbers, they are kept, and escaped one by one.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        plain = type(args) is tuple and all(type(arg) in _PLAIN for arg in args)
        if plain and type(record.msg) is str:
            record.msg = printable(record.msg)
            record.args = tuple([printable(arg) if type(arg) is str else arg for arg in args or ()])
        else:
            record.msg = printable(record.getMessage())
            record.args = None
        if record.exc_info and record.exc_text is None:
            # A formatter that finds exc_text uses it as it stands.
            text = _traceback_formatter.formatException(record.exc_info)
            record.exc_text = printable_lines(text)
        if record.stack_info:
            record.stack_info = printable_lines(record.stack_info)
        return True


_PLAIN = (str, int, float)
_traceback_formatter = logging.Formatter()

for _logger in (error_log, access_log):
    _logger.addFilter(SafeFilter())


class LevelFormatter(logging.Formatter):
    """``INFO:     message``, the level coloured where ``colors`` says so."""

    def __init__(self, colors: bool = False) -> None:
        super().__init__("%(prefix)s %(message)s")
        self.colors = colors

    def formatMessage(self, record: logging.LogRecord) -> str:
        level = record.levelname
        padding = " " * max(0, 8 - len(level))
        if self.colors:
            level = f"\x1b[{_COLORS.get(record.levelno, '0')}m{level}\x1b[0m"
        record.prefix = f"{level}:{padding}"
        return super().formatMessage(record)


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream until its reader is gone, and then nothing, without an error.

    Ctrl-C ends both sides of ``asgiws main:app | tee log``, and tee is faster.
    """

    _is_told = False  # that nothing can be written, as on a full disk

    def flush(self) -> None:
        super().flush()
        self._is_told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not isinstance(error, BrokenPipeError):
            if not self._is_told:
                self._is_told = True
                error_log.error("The log cannot be written for now: %s", error.strerror)
        else:
            # Buffered output must have a place to go when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def _colors(wanted: bool | None, stream: TextIO | None) -> bool:
    if wanted is not None:
        return wanted
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def _handler(formatter: str, stream: str) -> dict[str, Any]:
    if getattr(sys, stream) is None:  # closed before the process was started
        return {"class": "logging.NullHandler"}
    return {"()": TerminalHandler, "formatter": formatter, "stream": f"ext://sys.{stream}"}


def default_config(use_colors: bool | None = None) -> dict[str, Any]:
    """The ``logging.config`` dictionary used where ``--log-config`` gives none."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "error": {"()": LevelFormatter, "colors": _colors(use_colors, sys.stderr)},
            "access": {"()": LevelFormatter, "colors": _colors(use_colors, sys.stdout)},
        },
        "handlers": {
            "error": _handler("error", "stderr"),
            "access": _handler("access", "stdout"),
        },
        "loggers": {
            "asgiws": {"handlers": ["error"], "level": "INFO", "propagate": False},
            "asgiws.error": {"level": "NOTSET", "propagate": True},
            "asgiws.access": {"handlers": ["access"], "level": "NOTSET", "propagate": False},
        },
    }


def _load(path: str) -> dict[str, Any] | configparser.RawConfigParser:
    """Read a ``--log-config`` file; its ending says how."""
    match Path(path).suffix.lower():
        case ".json":
            return _table(json.loads(Path(path).read_bytes()))
        case ".toml":
            return tomllib.loads(Path(path).read_text("utf-8"))
        case ".yaml" | ".yml":
            try:
                yaml = importlib.import_module("yaml")
            except ImportError:
                raise ConfigError(
                    f"--log-config {path}: reading YAML needs PyYAML (pip install pyyaml); "
                    ".json, .toml and .ini need nothing"
                ) from None
            return _table(yaml.safe_load(Path(path).read_bytes()))
    parser = configparser.RawConfigParser()
    parser.read_string(Path(path).read_text("utf-8"))
    return parser


def _forgets_ours(names: Iterable[str]) -> str:
    """The advice about settings that name uvicorn's loggers and none of ours; otherwise ""."""
    named = sorted({name for name in names if name.split(".")[0] == "uvicorn"})
    if not named or any(name.split(".")[0] == "asgiws" for name in names):
        return ""
    verb = "is" if len(named) == 1 else "are"
    return (
        f"{', '.join(named)} {verb} not used by asgiws: its loggers are asgiws.error and "
        "asgiws.access, under asgiws"
    )


def _loggers(settings: dict[str, Any] | configparser.RawConfigParser) -> list[str]:
    """The names of the loggers that are set up."""
    if isinstance(settings, dict):
        return [str(name) for name in settings.get("loggers") or ()]
    return [
        settings.get(section, "qualname", fallback="")
        for section in settings.sections()
        if section.startswith("logger_")
    ]


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the file does not hold a table of settings")
    return value


_early: list[tuple[int, str, tuple[object, ...]]] = []


def once_configured(level: int, message: str, *args: object) -> None:
    """Keep a message from before the log is configured, and log it then."""
    _early.append((level, message, args))


def configure(
    level: str | None = None,
    config: str | dict[str, Any] | None = None,
    access: bool = True,
    use_colors: bool | None = None,
) -> None:
    """Set up both loggers; raises ConfigError where ``config`` is wrong.

    ``level`` is one of LEVELS, ``config`` the file of ``--log-config`` or the dictionary
    itself, ``access`` whether requests are logged, and ``use_colors`` None asks the terminal.
    """
    logging.addLevelName(TRACE, "TRACE")
    error_log.told = access_log.told = False
    access_log.setLevel(logging.NOTSET)
    name = f"--log-config {config}" if isinstance(config, str) else "log_config"
    advice = ""
    if config is None:
        logging.config.dictConfig(default_config(use_colors))
    else:
        try:
            settings = _load(config) if isinstance(config, str) else config
            if isinstance(settings, configparser.RawConfigParser):
                logging.config.fileConfig(settings, disable_existing_loggers=False)
            else:
                logging.config.dictConfig({"disable_existing_loggers": False, **settings})
        except ConfigError:
            raise
        except Exception as error:
            # This may import and call anything that the logging configuration names.
            cause = error.__cause__ or error.__context__
            because = f" ({printable(str(cause))})" if cause is not None else ""
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{name}: {printable(problem)}{because}") from error
        advice = _forgets_ours(_loggers(settings))
    if level is not None:
        logging.getLogger("asgiws").setLevel(LEVELS[level])
    if not access:
        # Callers look at the level, too: a line that is not logged is not even made.
        access_log.setLevel(SILENT)
    if advice:
        error_log.warning("%s: %s", name, advice)
    for number, message, args in _early:
        error_log.log(number, message, *args)
    _early.clear()
