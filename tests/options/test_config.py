"""The options: what a mistake is told, and a configuration in Python."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asgiws.errors import ConfigError
from asgiws.options import config as config_module
from asgiws.options.addresses import Descriptor, Inet, Unix
from asgiws.options.config import OPTIONS, UVICORN_ONLY, Config, parser
from asgiws.options.sources import load
from asgiws.wire.deflate import LIBRARIES

from ..toolkit.project import write_pyproject

ROOT = Path(__file__).parents[2]


APP = {"app": "main:app"}


def refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    assert caught.value.exit_code == 2
    return str(caught.value)


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "text", "wanted"),
        [
            ("port", "abc", "must be a whole number from 0 to 65535"),
            ("port", "65536", "must be a whole number from 0 to 65535"),
            ("port", "-1", "must be a whole number from 0 to 65535"),
            ("port", "80.5", "must be a whole number from 0 to 65535"),
            ("ws_max_size", "0", "must be a whole number, 1 or more"),
            ("ws_max_size", "99999999999", "must be at most 2147483647"),
            ("ws_deflate_window_bits", "8", "must be a whole number from 9 to 15"),
            ("ws_deflate_window_bits", "16", "must be a whole number from 9 to 15"),
            ("ws_ping_interval", "0", "must be a number of seconds above 0, or none"),
            ("ws_ping_interval", "nan", "must be a number of seconds above 0, or none"),
            ("timeout_keep_alive", "-1", "must be a number of seconds, 0 or more"),
            ("timeout_keep_alive", "inf", "must be at most 2147483647"),
            ("timeout_keep_alive", "none", "must be a number of seconds, 0 or more"),
            ("access_log", "maybe", "must be true or false"),
            ("loop", "trio", "must be auto, uvloop or asyncio"),
            ("root_path", "api", "must be empty or a path that begins with /"),
            ("bind", "127.0.0.1", "127.0.0.1 has no port: 127.0.0.1:8000, for example"),
            ("bind", "a:1,a:1", "a:1 is given twice"),
            ("uds_permissions", "888", "must be three octal digits, like 660"),
            ("ssl_certfile", "nowhere", "there is no file nowhere"),
            ("app_dir", "nowhere", "there is no directory nowhere"),
            ("forwarded_allow_ips", "10.0.0.0/33", "10.0.0.0/33 is not an IP address or network"),
            ("headers", "no colon", "'no colon' must have the form 'Name: value'"),
            ("headers", "a b: c", "'a b' is not a header name (RFC 9110, 5.1)"),
            ("headers", "a: \x07", "the value of a holds a control character"),
            ("headers", "Content-Length: 3", "content-length is set by the server"),
            ("headers", "a: \u20ac", "must consist of latin-1 characters (RFC 9110, 5.5)"),
        ],
    )
    def test_a_wrong_value_is_told_with_its_option_and_its_place(
        self, name: str, text: str, wanted: str
    ) -> None:
        option = next(option for option in OPTIONS if option.name == name)
        message = refused(APP, {option.variable: text})
        assert message.startswith(f"{option.variable}=")
        assert option.flag in message
        assert message.endswith(wanted)

    def test_the_place_is_named_for_each_source(self) -> None:
        rule = "--port must be a whole number from 0 to 65535"
        assert refused(APP, {"ASGIWS_PORT": "abc"}) == f"ASGIWS_PORT=abc: {rule}"
        assert refused({**APP, "port": "abc"}, {}) == f"--port=abc on the command line: {rule}"
        write_pyproject('port = "80"')
        assert refused(APP, {}) == f'port = "80" in pyproject.toml [tool.asgiws]: {rule}'
        Path("my.toml").write_text("port = true")
        assert refused(APP, {}, "my.toml") == f"port = true in my.toml: {rule}"
        with pytest.raises(ConfigError, match=r"^Config\(port='80'\): port must be a whole"):
            Config("main:app", port="80")  # type: ignore[arg-type]

    def test_an_option_is_not_named_twice(self) -> None:
        reason = "there is no file nowhere"
        line = {**APP, "ssl_certfile": "nowhere"}
        assert refused(line, {}) == f"--ssl-certfile=nowhere on the command line: {reason}"
        message = refused(APP, {"ASGIWS_SSL_CERTFILE": "nowhere"})
        assert message == f"ASGIWS_SSL_CERTFILE=nowhere: --ssl-certfile: {reason}"

    def test_a_mistake_is_told_even_where_a_stronger_source_hides_it(self) -> None:
        assert "ASGIWS_PORT=abc" in refused({**APP, "port": "1"}, {"ASGIWS_PORT": "abc"})

    @pytest.mark.parametrize(
        ("line", "wanted"),
        [
            ('port = "8000"', "--port must be a whole number"),
            ("port = 80.0", "--port must be a whole number"),
            ("port = true", "--port must be a whole number"),
            ("access-log = 1", "--access-log must be true or false"),
            ("bind = 8000", "--bind must be addresses, each host:port, [v6]:port, unix:path"),
            ("bind = [8000]", "--bind must be addresses, each host:port"),
            ("uds-permissions = 660", "--uds-permissions must be three octal digits, like 660"),
            ('access-log = "no"', "--access-log must be true or false"),
            ("ws-ping-timeout = true", "--ws-ping-timeout must be a number of seconds"),
            ("host = 1", "--host must be text"),
            ("header = 1", "--header must be a list of headers"),
            ("header = [1]", "--header: 1 must have the form 'Name: value'"),
            ("forwarded-allow-ips = 1", "--forwarded-allow-ips must be IP addresses"),
            ("log-config = 1", "--log-config must be the path of a file"),
            ("app = 1", "APP must be an import string"),
        ],
    )
    def test_a_wrong_type_in_a_file_is_a_mistake(self, line: str, wanted: str) -> None:
        write_pyproject(line)
        assert wanted in refused(APP, {})

    def test_an_unknown_key_gets_the_one_that_was_meant(self) -> None:
        assert refused(APP, {"ASGIWS_PROT": "1"}) == (
            "ASGIWS_PROT: there is no such option; did you mean ASGIWS_PORT?"
        )
        write_pyproject("ws-max-sise = 1")
        assert refused(APP, {}) == (
            "ws-max-sise in pyproject.toml [tool.asgiws]: there is no such option; "
            "did you mean ws-max-size?"
        )
        with pytest.raises(ConfigError, match="did you mean access_log"):
            Config("main:app", acces_log=False)  # type: ignore[call-arg]
        with pytest.raises(ConfigError, match="in Python its name is headers"):
            Config("main:app", header=["a: b"])  # type: ignore[call-arg]

    def test_a_key_like_no_other_gets_no_hint(self) -> None:
        message = refused(APP, {"ASGIWS_XYZZY": "1"})
        assert message == "ASGIWS_XYZZY: there is no such option"

    @pytest.mark.parametrize("key", UVICORN_ONLY)
    def test_options_of_uvicorn_are_named_from_every_source(self, key: str) -> None:
        wanted = f"--{key} is uvicorn's; asgiws does not have it"
        name = key.replace("-", "_")
        assert wanted in refused(APP, {f"ASGIWS_{name.upper()}": "2"})
        write_pyproject(f"{key} = 2")
        assert wanted in refused(APP, {})
        with pytest.raises(ConfigError, match=wanted):
            Config("main:app", **{name: 2})  # type: ignore[arg-type]

    def test_no_application_is_a_mistake(self) -> None:
        assert refused({}, {}).startswith("no application:")

    @pytest.mark.parametrize(
        ("content", "wanted"),
        [
            ("port = ", "my.toml is not valid TOML"),
            ("[tool]\nasgiws = 1", "tool.asgiws must be a table"),
            (None, "--config my.toml: there is no such file"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_a_mistake(
        self, content: str | None, wanted: str
    ) -> None:
        if content is not None:
            Path("my.toml").write_text(content)
        assert wanted in refused(APP, {}, "my.toml")

    def test_other_files_that_cannot_be_read_are_mistakes(self) -> None:
        Path("bytes.toml").write_bytes(b"\xff")
        assert "bytes.toml is not valid TOML" in refused(APP, {}, "bytes.toml")
        assert "--config apps: Is a directory" in refused(APP, {}, "apps")
        Path("apps/pyproject.toml").write_text("[project]\n")
        assert "has no [tool.asgiws]" in refused(APP, {}, "apps/pyproject.toml")

    @pytest.mark.parametrize(
        ("given", "environ", "wanted"),
        [
            ({"uds": "x"}, {"ASGIWS_FD": "3"}, "--uds=x on the command line, ASGIWS_FD=3: --uds"),
            (
                {"bind": ("unix:a",), "port": "9000"},
                {},
                "--bind on the command line, --port=9000 on the command line: "
                "--port cannot stand beside --bind: write it as --bind 127.0.0.1:9000",
            ),
            (
                {"bind": ("unix:a",)},
                {"ASGIWS_HOST": "::", "ASGIWS_PORT": "80"},
                "ASGIWS_HOST=::, ASGIWS_PORT=80: "
                "--host and --port cannot stand beside --bind: write it as --bind [::]:80",
            ),
            ({"bind": ("a:1",), "uds": "b"}, {}, "--uds cannot stand beside --bind: write it as"),
            ({"bind": ("a:1",), "fd": "3"}, {}, "beside --bind: write it as --bind fd://3"),
            ({"ssl_keyfile": "a.file"}, {}, "--ssl-keyfile does nothing without --ssl-certfile"),
            ({"ssl_ca_certs": "a.file"}, {}, "--ssl-ca-certs does nothing without"),
            ({"ssl_cert_reqs": "2", "ssl_certfile": "a.file"}, {}, "--ssl-ca-certs must say whose"),
        ],
    )
    def test_options_that_exclude_or_need_each_other_are_named_with_their_places(
        self, given: dict[str, Any], environ: dict[str, str], wanted: str
    ) -> None:
        assert wanted in refused({**APP, **given}, environ)

    def test_uvloop_must_be_installed_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        assert "--loop uvloop: uvloop is not installed" in refused({**APP, "loop": "uvloop"}, {})

    def test_httptools_must_be_installed_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {**APP, "http": "httptools"}
        assert parser(load(given, {}).http) == parser("auto") == "httptools"
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        message = "--http httptools: httptools is not installed (pip install 'asgiws[httptools]')"
        assert message in refused(given, {})
        assert parser(load(APP, {}).http) == parser("h11") == "h11"

    def test_zlib_ng_must_be_installed_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {**APP, "ws_deflate_library": "zlib-ng"}
        assert load(given, {}).ws_deflate_library == "zlib-ng"
        monkeypatch.delitem(LIBRARIES, "zlib-ng")
        message = "--ws-deflate-library zlib-ng: zlib-ng is not installed (pip install"
        assert message in refused(given, {})

    def test_what_speaks_with_a_broker_must_be_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {**APP, "topics_url": "redis://user:secret@example.com"}
        assert load(given, {}).topics_url == given["topics_url"]
        assert "secret" not in repr(load(given, {}))
        monkeypatch.setattr(importlib.metadata, "version", lambda _name: "7.4.0")
        message = "--topics-url: redis must be 8 or newer (pip install -U 'asgiws[redis]')"
        assert message in refused(given, {})
        monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.4.0")
        message = "--topics-url: nats-py must be 2 or newer (pip install -U 'asgiws[nats]')"
        assert message in refused({**APP, "topics_url": "tls://example.com"}, {})
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        message = "--topics-url: redis is not installed (pip install 'asgiws[redis]')"
        assert message in refused(given, {})

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("kafka://me:secret@example.com", "must be a URL that begins with redis, rediss"),
            ("example.com:6379", "must be a URL that begins with redis, rediss"),
            ("redis:me:secret@example.com", "must be a URL that begins with redis, rediss"),
            ("redis://me:secret@", "must name a host: redis://host:port"),
            ("redis://me:secret@example.com:port", "whose port is a number"),
            ("unix://", "must name the socket: unix:///path"),
            ("nats://me:secret@", "must name a host: nats://host:port"),
        ],
    )
    def test_the_url_of_a_broker_is_checked_and_its_password_not_told(
        self, url: str, message: str
    ) -> None:
        told = refused({**APP, "topics_url": url}, {})
        assert message in told
        assert "--topics-url" in told
        assert "secret" not in told

    def test_watchfiles_must_be_installed_to_reload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = {**APP, "reload": True}
        assert load(given, {}).reload
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        message = "--reload on the command line: --reload: watchfiles is not installed"
        assert f"{message} (pip install 'asgiws[reload]')" in refused(given, {})
        assert not load({**APP, "reload": False}, {"ASGIWS_RELOAD_DIR": "."}).reload

    @pytest.mark.parametrize("option", ["--reload", "--workers 2"])
    def test_where_sockets_cannot_be_handed_over_one_process_serves(
        self, option: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(config_module, "os", SimpleNamespace(name="nt"))
        given = {"reload": True} if option == "--reload" else {"workers": "2"}
        wanted = f"{option}: this system cannot hand over sockets"
        assert wanted in refused({**APP, **given}, {})

    def test_to_reload_an_application_its_import_string_is_needed(self) -> None:
        with pytest.raises(ConfigError, match="imports the application anew: give its import"):
            Config(lambda scope, receive, send: None, reload=True)

    def test_a_password_stands_in_no_message_and_no_repr(self) -> None:
        hidden = {"ssl_keyfile_password": "se\0cret"}
        assert "cret" not in refused({**APP, **hidden}, {})
        assert "cret" not in refused(APP, {"ASGIWS_SSL_KEYFILE_PASSWORD": "secret"})
        write_pyproject('ssl-keyfile-password = "secret"')
        assert "cret" not in refused(APP, {})
        with pytest.raises(ConfigError) as caught:
            Config("main:app", ssl_keyfile_password="se\0cret")
        assert "cret" not in str(caught.value)
        config = Config("main:app", ssl_certfile="a.file", ssl_keyfile_password="secret")
        assert "cret" not in repr(config)

    def test_a_message_is_one_short_line_whatever_was_typed(self) -> None:
        message = refused({**APP, "port": "\x1b[31m\n" + "9" * 4000}, {})
        assert "\x1b" not in message
        assert "\n" not in message
        assert len(message) < 300


class TestPython:
    def test_a_config_cannot_be_changed_but_replaced(self) -> None:
        config = Config("main:app")
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.port = 1  # type: ignore[misc]
        assert dataclasses.replace(config, port=1).port == 1
        with pytest.raises(ConfigError):
            dataclasses.replace(config, port=-1)

    def test_the_application_itself_pairs_of_bytes_lists_and_paths_are_taken(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError

        config = Config(
            app,
            headers=[("A", "b"), (b"C", b"d"), ["E", b"f"], "G: h", "I:"],
            forwarded_allow_ips=["10.0.0.1", "::1"],
            app_dir=Path("apps"),
            log_config={"version": 1},
        )
        assert config.app is app
        assert config.headers == (
            *((b"a", b"b"), (b"c", b"d"), (b"e", b"f")),
            *((b"g", b"h"), (b"i", b"")),
        )
        assert Config("main:app", headers=("A: b",)).headers == ((b"a", b"b"),)
        assert Config("main:app", headers=deque(["A: b"])).headers == ((b"a", b"b"),)
        for wrong in ("A: b", b"A: b", {"A": "b"}, {"A: b"}, ["A"], [b"A: b"], [("A",)], [1]):
            with pytest.raises(ConfigError, match="headers"):
                Config("main:app", headers=wrong)  # type: ignore[arg-type]
        assert config.forwarded_allow_ips == "10.0.0.1,::1"
        assert config.app_dir == "apps"
        assert config.log_config == {"version": 1}

    def test_the_short_forms_say_one_address_and_bind_says_several(self) -> None:
        default = Config("main:app")
        assert default.addresses == (Inet("127.0.0.1", 8000),)
        assert default.listens_by_default
        given = {"host": "127.0.0.1", "port": 8000, "uds": None, "fd": None}
        assert Config("main:app", **given).listens_by_default  # type: ignore[arg-type]
        for options, address in (
            ({"host": ""}, Inet("", 8000)),
            ({"host": "::1", "port": 0}, Inet("::1", 0)),
            ({"uds": "a"}, Unix("a")),
            ({"fd": 0}, Descriptor(0)),
            ({"bind": "a:1", **given}, Inet("a", 1)),
        ):
            config = Config("main:app", **options)  # type: ignore[arg-type]
            assert config.addresses == (address,)
            assert not config.listens_by_default
        several = Config("main:app", bind=["unix:a", "[::1]:1"])
        assert several.addresses == (Unix("a"), Inet("::1", 1))

    def test_nothing_but_the_arguments_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASGIWS_PORT", "1")
        write_pyproject("port = 2")
        assert Config("main:app").port == 8000


class TestDocs:
    def test_the_tables_in_the_docs_are_current(self) -> None:
        path = ROOT / "docs" / "options_table.py"
        spec = importlib.util.spec_from_file_location("options_table", path)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        page = script.PAGE.read_text("utf-8")
        assert page == script.written(page), f"run: python {os.path.relpath(path, ROOT)}"
        for option in OPTIONS:
            assert f"`{option.flag}`" in page
