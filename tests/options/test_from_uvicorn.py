"""What was written for uvicorn and asks for nothing special is taken as it is."""

from __future__ import annotations

import inspect
import logging
import ssl
from typing import Any

import click
import pytest
import uvicorn
from click.testing import CliRunner

from asgiws import cli
from asgiws.errors import ConfigError
from asgiws.options.config import Config
from asgiws.options.sources import load
from asgiws.process import program

from ..toolkit.project import write_pyproject

APP = {"app": "main:app"}
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(uvicorn.Config).parameters.items()
    # The log is set up by each server in its own way.
    if name not in ("app", "log_config")
} | {"app_dir": inspect.signature(uvicorn.run).parameters["app_dir"].default}


def test_all_of_uvicorn_s_defaults_together_ask_for_nothing() -> None:
    assert len(DEFAULTS) > 40
    assert Config("main:app", **DEFAULTS) == Config("main:app")


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_of_uvicorn_asks_for_nothing(name: str) -> None:
    assert Config("main:app", **{name: DEFAULTS[name]}) == Config("main:app")


@pytest.mark.parametrize(
    ("options", "meaning"),
    [
        ({"workers": 1}, {}),
        ({"workers": None}, {}),
        ({"reload": False, "reload_dirs": [], "reload_includes": None}, {}),
        ({"reload_includes": "*.html"}, {"reload_includes": ["*.html"]}),
        ({"ws": "auto", "http": "auto", "interface": "asgi3"}, {}),
        ({"loop": "none"}, {"loop": "asyncio"}),
        ({"log_level": "INFO"}, {"log_level": "info"}),
        ({"log_level": logging.INFO}, {"log_level": "info"}),
        ({"log_level": 5}, {"log_level": "trace"}),
        ({"log_level": logging.CRITICAL}, {"log_level": "critical"}),
        ({"ssl_ciphers": "TLSv1"}, {}),
        ({"ssl_version": ssl.PROTOCOL_TLS_SERVER, "ssl_cert_reqs": ssl.CERT_NONE}, {}),
        ({"headers": None, "forwarded_allow_ips": None, "app_dir": None}, {}),
        ({"timeout_graceful_shutdown": None, "h11_max_incomplete_event_size": None}, {}),
    ],
)
def test_what_asks_for_nothing_in_python_is_taken(
    options: dict[str, Any], meaning: dict[str, Any]
) -> None:
    assert Config("main:app", **options) == Config("main:app", **meaning)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 129},
        {"reload": 1},
        {"reload_dirs": ["nowhere"]},
        {"ws": "websockets"},
        {"ws": "none"},
        {"http": "zttp"},
        {"interface": "wsgi"},
        {"http2": True},
        {"ssl_version": ssl.PROTOCOL_TLS_CLIENT},
        {"callback_notify": print},
        {"ssl_context_factory": print},
        {"reset_contextvars": True},
        {"loop": "None"},
        {"loop": None},
        {"log_level": "loud"},
        {"log_level": 25},
        {"log_level": True},
        {"port": None},
        {"access_log": None},
    ],
)
def test_what_asks_for_something_is_still_a_mistake(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Config("main:app", **options)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("ws", "auto"),
        ("http", "auto"),
        ("interface", "asgi3"),
        ("loop", "auto"),
        ("ssl-ciphers", "TLSv1"),
        ("ssl-version", "17"),
    ],
)
def test_the_same_from_the_other_sources(
    key: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(APP, {"ASGIWS_" + key.upper().replace("-", "_"): word}) == Config("main:app")
    write_pyproject(f'{key} = "{word}"')
    assert load(APP, {}) == Config("main:app")
    if word.isdigit():
        write_pyproject(f"{key} = {word}")
        assert load(APP, {}) == Config("main:app")
    write_pyproject("")
    started: list[Config] = []
    monkeypatch.setattr(program, "serve", lambda config, *_: started.append(config))
    for line in ([f"--{key}", word, "main:app"], ["main:app", f"--{key}={word}"]):
        result = CliRunner().invoke(cli.command, line)
        assert (result.exit_code, result.output) == (0, "")
    assert started == [Config("main:app")] * 2


def test_the_command_line_hides_what_it_only_answers() -> None:
    text = cli.command.get_help(click.Context(cli.command))
    assert "--ws " not in text
    assert "--callback-notify" not in text
