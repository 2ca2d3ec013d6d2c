"""Every option through each of its sources, and which one wins."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from asgiws.options.config import OPTIONS, Config
from asgiws.options.kinds import Option
from asgiws.options.sources import load

from ..toolkit.project import write_pyproject

APP = {"app": "main:app"}


# One value that is not the default for each option, as text; files are made by the fixture.
TEXTS = {
    "app": "main:app",
    "app_dir": "apps",
    "factory": "true",
    "lifespan": "off",
    "root_path": "/api",
    "env_file": "a.file",
    "bind": "[::1]:1",
    "reload": "true",
    "reload_dirs": "apps",
    "reload_includes": "*.html",
    "reload_excludes": "test_*.py",
    "reload_delay": "0.5",
    "host": "0.0.0.0",
    "port": "0",
    "uds": "a.sock",
    "uds_permissions": "660",
    "fd": "3",
    "backlog": "7",
    "loop": "asyncio",
    "workers": "3",
    "timeout_worker_healthcheck": "none",
    "timeout_worker_start": "20",
    "http": "h11",
    "headers": "X-Name: a value",
    "allowed_hosts": "example.com,*.example.com",
    "pathsend": "true",
    "server_header": "false",
    "date_header": "no",
    "timeout_request_head": "2.5",
    "timeout_request_body": "2.5",
    "timeout_keep_alive": "0",
    "h11_max_incomplete_event_size": "1000",
    "ws_max_size": "1",
    "ws_max_queue": "1",
    "ws_ping_interval": "none",
    "ws_ping_timeout": "0.5",
    "ws_close_timeout": "1",
    "ws_accept_timeout": "none",
    "ws_idle_timeout": "600",
    "ws_origins": "same-host,https://*.example.com",
    "ws_per_message_deflate": "off",
    "ws_deflate_window_bits": "15",
    "ws_deflate_mem_level": "9",
    "ws_deflate_level": "1",
    "ws_deflate_context_takeover": "0",
    "ws_deflate_min_size": "0",
    "ws_deflate_library": "zlib-ng",
    "topics_history": "100",
    "topics_history_age": "60",
    "topics_history_memory": "1000000",
    "topics_url": "redis://user:secret@example.com:6379/1",
    "timeout_write": "none",
    "limit_concurrency": "10",
    "limit_handshakes": "200",
    "limit_max_requests": "1000",
    "limit_max_requests_jitter": "100",
    "limit_max_age": "86400",
    "timeout_graceful_shutdown": "0",
    "drain_delay": "5",
    "drain_window": "30",
    "drain_code": "4000",
    "drain_reason": "a new version",
    "proxy_headers": "off",
    "forwarded_allow_ips": "10.0.0.0/8,::1",
    "ssl_certfile": "a.file",
    "ssl_keyfile": "a.file",
    "ssl_keyfile_password": "secret",
    "ssl_ca_certs": "a.file",
    "ssl_cert_reqs": "2",
    "ssl_ciphers": "ECDHE+AESGCM",
    "log_level": "trace",
    "log_config": "a.file",
    "access_log": "off",
    "use_colors": "on",
}


# What an option cannot do without.
COMPANIONS = {
    "ssl_keyfile": {"ssl_certfile": "a.file"},
    "ssl_keyfile_password": {"ssl_certfile": "a.file"},
    "ssl_ca_certs": {"ssl_certfile": "a.file"},
    "ssl_ciphers": {"ssl_certfile": "a.file"},
    "ssl_cert_reqs": {"ssl_certfile": "a.file", "ssl_ca_certs": "a.file"},
    "reload_dirs": {"reload": True},
    "reload_includes": {"reload": True},
    "reload_excludes": {"reload": True},
    "reload_delay": {"reload": True},
}


every_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str([item if isinstance(item, str) else b": ".join(item).decode() for item in value])
        lines = [item if isinstance(item, str) else b": ".join(item).decode() for item in value]
        return str(lines)
    if value is None:
        return '"none"'
    return f'"{value}"' if isinstance(value, str) else str(value)


def typed(option: Option) -> Any:
    text = TEXTS[option.name]
    if option.kind.switch:
        return option.parse(text)
    return (text,) if option.kind.repeated else text


class TestSources:
    @every_option
    def test_an_option_means_the_same_from_every_source(self, option: Option) -> None:
        companions = COMPANIONS.get(option.name, {})
        rest = {**APP, **companions}
        wanted = option.parse(TEXTS[option.name])
        assert option.name == "app" or wanted != option.default

        from_command_line = load({**rest, option.name: typed(option)}, {})
        from_environment = load(
            {k: v for k, v in rest.items() if k != option.name},
            {option.variable: TEXTS[option.name]},
        )
        write_pyproject(f"{option.key} = {toml(wanted)}")
        from_file = load({k: v for k, v in rest.items() if k != option.name}, {})
        in_python = Config(**{**rest, option.name: wanted})

        assert getattr(from_command_line, option.name) == wanted
        assert from_command_line == from_environment == from_file == in_python

    @every_option
    def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
        self, option: Option
    ) -> None:
        companions = {k: v for k, v in COMPANIONS.get(option.name, {}).items() if k != option.name}
        rest: dict[str, Any] = {**APP, **companions}
        rest.pop(option.name, None)
        strong = option.parse(TEXTS[option.name])
        weak_text = weak_value(option)
        weak = option.parse(weak_text)
        write_pyproject(f"{option.name} = {toml(weak)}")

        assert getattr(load(rest, {}), option.name) == weak
        environ = {option.variable: TEXTS[option.name]}
        assert getattr(load(rest, environ), option.name) == strong
        environ = {option.variable: weak_text}
        assert getattr(load({**rest, option.name: typed(option)}, environ), option.name) == strong

    def test_the_default_counts_last(self) -> None:
        assert load(APP, {}) == Config("main:app")

    def test_every_option_has_a_default_that_is_right(self) -> None:
        config = Config("main:app")
        for option in OPTIONS:
            if option.default is not dataclasses.MISSING:
                assert getattr(config, option.name) == option.default

    def test_keys_may_have_dashes_or_underscores_and_headers_its_flag(self) -> None:
        write_pyproject('ws-max-size = 5\nws_max_queue = 6\nheader = ["A: b"]')
        config = load(APP, {})
        assert (config.ws_max_size, config.ws_max_queue) == (5, 6)
        assert config.headers == ((b"a", b"b"),)

    def test_a_variable_holds_one_header_per_line(self) -> None:
        config = load(APP, {"ASGIWS_HEADER": "A: b\nC: d: e"})
        assert config.headers == ((b"a", b"b"), (b"c", b"d: e"))

    def test_a_variable_holds_several_addresses_with_commas_between(self) -> None:
        wanted = ("127.0.0.1:1", "[::1]:2", "unix:/a,b.sock", "fd://3")
        assert load({**APP, "bind": wanted}, {}).bind == wanted
        several = wanted[:2] + wanted[3:]
        assert load(APP, {"ASGIWS_BIND": ", ".join(several)}).bind == several
        write_pyproject(f"bind = {list(wanted)}")
        assert load(APP, {}).bind == wanted
        write_pyproject('bind = "127.0.0.1:1"')
        assert load(APP, {}).bind == ("127.0.0.1:1",)

    def test_permissions_are_octal_everywhere(self) -> None:
        assert load({**APP, "uds_permissions": "660"}, {}).uds_permissions == 0o660
        assert load(APP, {"ASGIWS_UDS_PERMISSIONS": "0o600"}).uds_permissions == 0o600
        for line in ("0o660", '"660"', '"0660"'):
            write_pyproject(f"uds-permissions = {line}")
            assert load(APP, {}).uds_permissions == 0o660

    def test_what_is_typed_and_does_nothing_without_reload_is_told(
        self, noticed: list[Any]
    ) -> None:
        write_pyproject('reload-exclude = ["test_*.py"]')
        load({**APP, "reload": False}, {"ASGIWS_RELOAD_DELAY": "1"})  # for another day
        load({**APP, "reload": True, "reload_dirs": (".",)}, {})
        assert noticed == []
        load({**APP, "reload_dirs": (".",)}, {})
        where = "--reload-dir on the command line"
        assert noticed == [(logging.WARNING, "%s: it does nothing without --reload", (where,))]

    def test_an_empty_variable_counts_as_not_set(self) -> None:
        assert load(APP, {"ASGIWS_PORT": ""}).port == 8000

    def test_variables_of_others_and_the_build_switch_are_left_alone(self) -> None:
        assert load(APP, {"ASGIWS_PURE": "1", "PORT": "x", "UVICORN_PORT": "x"}).port == 8000

    def test_the_variable_of_other_servers_stands_in_for_a_default_only(self) -> None:
        environ = {"FORWARDED_ALLOW_IPS": "10.1.1.1"}
        assert load(APP, environ).forwarded_allow_ips == "10.1.1.1"
        write_pyproject('forwarded-allow-ips = "10.2.2.2"')
        assert load(APP, environ).forwarded_allow_ips == "10.2.2.2"

    def test_config_names_another_file_whose_table_or_whole_counts(self) -> None:
        write_pyproject("port = 1")
        Path("table.toml").write_text("[tool.asgiws]\nport = 2\n")
        Path("plain.toml").write_text("port = 3\n")
        assert load(APP, {}).port == 1
        assert load(APP, {}, "table.toml").port == 2
        assert load(APP, {}, "plain.toml").port == 3
        assert load(APP, {"ASGIWS_CONFIG": "plain.toml"}).port == 3
        assert load(APP, {"ASGIWS_CONFIG": "plain.toml"}, "table.toml").port == 2

    def test_a_pyproject_of_others_is_no_concern(self) -> None:
        Path("pyproject.toml").write_text('[project]\nname = "x"\n[tool.other]\nport = 1\n')
        assert load(APP, {}).port == 8000

    def test_the_application_may_come_from_anywhere(self) -> None:
        assert load({}, {"ASGIWS_APP": "a:b"}).app == "a:b"
        write_pyproject('app = "c:d"')
        assert load({}, {}).app == "c:d"


def weak_value(option: Option) -> str:
    """A second value that is right, and not the one of TEXTS."""
    if option.kind.switch:
        return "false" if option.parse(TEXTS[option.name]) else "true"
    if option.kind.metavar == "FILE":
        Path("b.file").touch()
        return "b.file"
    special = {
        "app": "other:app",
        "app_dir": ".",
        "reload_dirs": ".",
        "lifespan": "on",
        "http": "auto",
        "topics_history_memory": "65536",
        "topics_url": "unix:///b.sock",
        "loop": "auto",
        "ws_deflate_library": "zlib",
        "log_level": "info",
        "root_path": "/b",
        "headers": "b: c",
        "bind": "unix:b.sock",
        "uds_permissions": "600",
        "forwarded_allow_ips": "*",
        "ws_origins": "*",
        "allowed_hosts": "*",
        "ssl_cert_reqs": "1",
        "h11_max_incomplete_event_size": "2000",
        "ws_deflate_window_bits": "10",
        "drain_code": "1001",
    }
    return special.get(option.name, "8")
