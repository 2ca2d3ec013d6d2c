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
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .errors import ConfigError

if TYPE_CHECKING:
    from .options.config import Config

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

# C0, DEL, C1; then what reorders or breaks a line without being a control:
# bidirectional marks, embeddings and isolates, the line and paragraph
# separators. Lone surrogates cannot be encoded, so no stream takes them.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ONE_LINE = re.compile(f"[{_UNSAFE}]")
_MANY_LINES = re.compile(f"(?![\n\t])[{_UNSAFE}]")

_COLORS = {
    TRACE: "34",
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: str | bytes) -> str:
    """Text of a peer's, made safe for one line of a log: controls become ``\\xNN`` or ``\\uNNNN``.

    Bytes are read as latin-1, so every byte has its own character.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return _ONE_LINE.sub(_escape, text)


class SafeFilter(logging.Filter):
    """Escapes the message of a record (one line) and its traceback (many lines), once for all."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = printable(record.getMessage())
        record.args = None
        if record.exc_info and record.exc_text is None:
            # A formatter that finds exc_text uses it as it stands.
            text = _traceback_formatter.formatException(record.exc_info)
            record.exc_text = _MANY_LINES.sub(_escape, text)
        if record.stack_info:
            record.stack_info = _MANY_LINES.sub(_escape, record.stack_info)
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


def _colors(config: Config, stream: TextIO) -> bool:
    if config.use_colors is not None:
        return config.use_colors
    return stream.isatty() and not os.environ.get("NO_COLOR")


def default_config(config: Config) -> dict[str, Any]:
    """The ``logging.config`` dictionary used where ``--log-config`` gives none."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "error": {"()": LevelFormatter, "colors": _colors(config, sys.stderr)},
            "access": {"()": LevelFormatter, "colors": _colors(config, sys.stdout)},
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


def configure(config: Config) -> None:
    """Set up both loggers as ``config`` says; ``ConfigError`` where ``--log-config`` is wrong."""
    logging.addLevelName(TRACE, "TRACE")
    access_log.setLevel(logging.NOTSET)
    source = config.log_config
    if source is None:
        logging.config.dictConfig(default_config(config))
    else:
        name = f"--log-config {source}" if isinstance(source, str) else "log_config"
        try:
            settings = _load(source) if isinstance(source, str) else source
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
    if config.log_level is not None:
        logging.getLogger("asgiws").setLevel(LEVELS[config.log_level])
    if not config.access_log:
        # The level tells callers too: a line that nobody wants is not even made.
        access_log.setLevel(SILENT)
