"""The sources of the command line's configuration, and their order.

The command line wins over ``ASGIWS_*``, which win over one TOML file, which wins over the default.
Every value is checked where it is read. So a mistake is reported with its place, even if a stronger
source would have hidden it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from logging import DEBUG, INFO, WARNING
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..log import once_configured
from ..text import clip
from .config import BY_NAME, OPTIONS, RELOAD, Config, Contradiction, find
from .guess import guesses
from .kinds import PREFIX, Option, convert

# Variables that are not options: which file to read, and which build to run.
CONFIG_VARIABLE = PREFIX + "CONFIG"
DEFAULT_FILE = "pyproject.toml"
OTHER_VARIABLES = (CONFIG_VARIABLE, PREFIX + "PURE")


# The variables of Kubernetes and of Docker's old links for a service asgiws or asgiws-...
_SERVICE_VARIABLE = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?"
    r"|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


def _is_kubernetes(variable: str, word: str) -> bool:
    """True if Kubernetes or Docker has set the variable. ASGIWS_PORT may be from either side."""
    if variable.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(word):
        return True
    return _SERVICE_VARIABLE.fullmatch(variable) is not None


def load(
    command_line: Mapping[str, str | bool | tuple[str, ...]],
    environ: Mapping[str, str],
    config_file: str | None = None,
) -> Config:
    """The configuration of a server started from a command line.

    ``command_line`` holds what was typed, by field name: text, a bool for a switch, a
    tuple for a repeated option. ``config_file`` is the argument of ``--config``; without
    it ASGIWS_CONFIG is asked, then pyproject.toml in the current directory. Raises
    ``ConfigError``.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    # Weakest first: later ones overwrite.
    _read_fallbacks(environ, values, origins)
    table, file = _table(config_file or environ.get(CONFIG_VARIABLE) or None)
    for key, raw in table.items():
        declared = find(key, raw, f"{key} in {file}", lambda option: option.key)
        if declared is None:
            continue
        where = f"{key} = {_toml(declared, raw)} in {file}"
        values[declared.name] = convert(declared.check, raw, declared, where, declared.flag)
        origins[declared.name] = where
    read_variables(environ, values, origins)
    for name, typed in command_line.items():
        declared = BY_NAME[name]
        if isinstance(typed, str):
            where = f"{declared.flag}={_shown(declared, typed)} on the command line"
            _read_word(declared, typed, where, values, origins)
        else:
            where = f"{declared.flag} on the command line"
            values[name] = convert(declared.check, typed, declared, where, declared.flag)
            origins[name] = where
    if "app" not in values:
        raise ConfigError(_no_application(values.get("app_dir", ""), file))
    if "app" not in command_line:
        once_configured(INFO, "The application is %s, from %s", values["app"], origins["app"])
    try:
        config = Config(**values)
    except Contradiction as error:
        places = ", ".join(origins[name] for name in error.names if name in origins)
        raise ConfigError(f"{clip(places)}: {error}") from None
    for name in command_line:
        # In the file it may wait for the day on which --reload is typed.
        if BY_NAME[name].group == RELOAD and not (config.reload or name == "reload"):
            once_configured(WARNING, "%s: it does nothing without --reload", origins[name])
    return config


def read_variables(
    environ: Mapping[str, str], values: dict[str, Any], origins: dict[str, str]
) -> None:
    """Read the options of ``ASGIWS_*`` variables into ``values``; raises ConfigError."""
    for variable, word in environ.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or not word:
            continue
        if _is_kubernetes(variable, word):
            once_configured(
                DEBUG, "%s=%s is taken for what Kubernetes says of a service", variable, word
            )
            continue
        key = variable.removeprefix(PREFIX).lower()
        declared = find(key, word, variable, lambda option: option.variable)
        if declared is not None:
            _read_word(declared, word, f"{variable}={_shown(declared, word)}", values, origins)


def _no_application(directory: str, table: str) -> str:
    """The message for a user who names no application, with a command for one that is here."""
    found = guesses(directory)
    if not found:
        return (
            "no application: give its import string, as in `asgiws main:app` "
            '(or ASGIWS_APP, or app = "main:app" in [tool.asgiws])'
        )
    first, *others = found
    where = f" --app-dir {directory}" if directory else ""
    message = f"no application: {first.file} has one, which `{first.typed}{where}` serves"
    if others:
        typed = " or ".join(f"`{other.typed}{where}`" for other in others[:2])
        message += f"; another may be {typed}"
    if table:
        message += f' (or write app = "{first.app}" in {table})'
    return message


def file_of_options(environ: Mapping[str, str], config_file: str | None = None) -> str:
    """The file that ``load`` reads: pyproject.toml, which need not exist, or the one named."""
    return config_file or environ.get(CONFIG_VARIABLE) or DEFAULT_FILE


def _read_word(
    declared: Option, word: str, where: str, values: dict[str, Any], origins: dict[str, str]
) -> None:
    values[declared.name] = convert(declared.parse, word, declared, where, declared.flag)
    origins[declared.name] = where


def _read_fallbacks(
    environ: Mapping[str, str], values: dict[str, Any], origins: dict[str, str]
) -> None:
    for declared in OPTIONS:
        word = environ.get(declared.fallback, "") if declared.fallback else ""
        if word:
            _read_word(declared, word, f"{declared.fallback}={word}", values, origins)


def _shown(declared: Option, raw: object) -> object:
    return "..." if declared.secret else raw


def _toml(declared: Option, raw: object) -> str:
    """A value as it may have stood in the file."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return f'"{_shown(declared, raw)}"' if isinstance(raw, str) else str(_shown(declared, raw))


def _table(config_file: str | None) -> tuple[dict[str, Any], str]:
    """The table of options in the TOML file that counts, and what to call it in messages.

    Without ``config_file`` that is [tool.asgiws] of a pyproject.toml in the current
    directory, if there is one. In a file given by name it is [tool.asgiws] too, or
    the whole file if it has no such table and is not a pyproject.toml.
    """
    path = Path(config_file or DEFAULT_FILE)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if config_file is None:
            return {}, ""
        raise ConfigError(f"--config {clip(config_file)}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"--config {clip(str(path))}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{clip(str(path))} is not valid TOML: {error}") from None
    table = content.get("tool", {}).get("asgiws") if isinstance(content.get("tool"), dict) else None
    if table is not None:
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: tool.asgiws must be a table, [tool.asgiws]")
        return table, f"{path} [tool.asgiws]"
    if path.name == DEFAULT_FILE:
        if config_file is not None:
            raise ConfigError(f"--config {clip(config_file)}: the file has no [tool.asgiws]")
        return {}, ""
    return content, str(path)
