"""Two loggers, and nothing of a peer's that could command a terminal.

``asgiws.error`` carries what the server has to say (stderr), ``asgiws.access`` one
line per HTTP request and one per WebSocket session (stdout). Both carry a filter
that escapes control characters before any handler sees the record, so it holds
whatever ``--log-config`` puts behind them.
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
from pathlib import Path
from typing import Any, TextIO

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

error_log = logging.getLogger("asgiws.error")
access_log = logging.getLogger("asgiws.access")

_COLORS = {
    TRACE: "34",
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


class SafeFilter(logging.Filter):
    """Escapes the message of a record (one line) and its traceback (many lines), once for all."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = printable(record.getMessage())
        record.args = None
        if record.exc_info and record.exc_text is None:
            # A formatter that finds exc_text uses it as it stands.
            text = _traceback_formatter.formatException(record.exc_info)
            record.exc_text = printable_lines(text)
        if record.stack_info:
            record.stack_info = printable_lines(record.stack_info)
        return True


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
    """Writes to a stream until nobody reads it any more, and then nothing, and no error.

    Ctrl-C ends both sides of ``asgiws main:app | tee log``, and tee is faster.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        # What is still buffered must have somewhere to go when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)


def _colors(wanted: bool | None, stream: TextIO) -> bool:
    if wanted is not None:
        return wanted
    return stream.isatty() and not os.environ.get("NO_COLOR")


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
            "error": {
                "()": TerminalHandler,
                "formatter": "error",
                "stream": "ext://sys.stderr",
            },
            "access": {
                "()": TerminalHandler,
                "formatter": "access",
                "stream": "ext://sys.stdout",
            },
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


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the file does not hold a table of settings")
    return value


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
    access_log.setLevel(logging.NOTSET)
    if config is None:
        logging.config.dictConfig(default_config(use_colors))
    else:
        name = f"--log-config {config}" if isinstance(config, str) else "log_config"
        try:
            settings = _load(config) if isinstance(config, str) else config
            if isinstance(settings, configparser.RawConfigParser):
                logging.config.fileConfig(settings, disable_existing_loggers=False)
            else:
                logging.config.dictConfig({"disable_existing_loggers": False, **settings})
        except ConfigError:
            raise
        except Exception as error:
            # Whatever a logging configuration names may be imported and called here.
            cause = error.__cause__ or error.__context__
            because = f" ({printable(str(cause))})" if cause is not None else ""
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{name}: {printable(problem)}{because}") from error
    if level is not None:
        logging.getLogger("asgiws").setLevel(LEVELS[level])
    if not access:
        # The level tells callers too: a line that nobody wants is not even made.
        access_log.setLevel(SILENT)
