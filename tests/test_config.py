"""Every option through each of its sources: which one wins, and what a mistake is told."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from asgiws.errors import ConfigError
from asgiws.options.config import OPTIONS, UVICORN_ONLY, Config
from asgiws.options.kinds import Option
from asgiws.options.sources import load
from asgiws.wire.deflate import LIBRARIES

ROOT = Path(__file__).parent.parent
APP = {"app": "main:app"}

# One value that is not the default for each option, as text; files are made by the fixture.
TEXTS = {
    "app": "main:app",
    "app_dir": "apps",
    "factory": "true",
    "lifespan": "off",
    "root_path": "/api",
    "env_file": "a.file",
    "host": "0.0.0.0",
    "port": "0",
    "uds": "a.sock",
    "fd": "3",
    "backlog": "7",
    "loop": "asyncio",
    "headers": "X-Name: a value",
    "server_header": "false",
    "date_header": "no",
    "timeout_request_head": "2.5",
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
    "timeout_write": "none",
    "limit_concurrency": "10",
    "timeout_graceful_shutdown": "0",
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
}

every_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("apps").mkdir()
    Path("a.file").touch()


def write_pyproject(text: str) -> None:
    Path("pyproject.toml").write_text(f"[tool.asgiws]\n{text}\n")


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str([f"{name.decode()}: {content.decode()}" for name, content in value])
    if value is None:
        return '"none"'
    return f'"{value}"' if isinstance(value, str) else str(value)


def typed(option: Option) -> Any:
    text = TEXTS[option.name]
    if option.kind.switch:
        return option.parse(text)
    return (text,) if option.kind.repeated else text


def refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    assert caught.value.exit_code == 2
    return str(caught.value)


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
        "lifespan": "on",
        "loop": "auto",
        "ws_deflate_library": "zlib",
        "log_level": "info",
        "root_path": "/b",
        "headers": "b: c",
        "forwarded_allow_ips": "*",
        "ws_origins": "*",
        "ssl_cert_reqs": "1",
        "h11_max_incomplete_event_size": "2000",
        "ws_deflate_window_bits": "10",
    }
    return special.get(option.name, "8")


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
            ("ssl_certfile", "nowhere", "there is no file nowhere"),
            ("app_dir", "nowhere", "there is no directory nowhere"),
            ("forwarded_allow_ips", "10.0.0.0/33", "10.0.0.0/33 is no IP address or network"),
            ("headers", "no colon", "'no colon' must have the form 'Name: value'"),
            ("headers", "a b: c", "'a b' is no header name (RFC 9110, 5.1)"),
            ("headers", "a: \x07", "the value of a holds a control character"),
            ("headers", "Content-Length: 3", "content-length is the server's to write"),
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
        with pytest.raises(ConfigError, match="in Python it is headers"):
            Config("main:app", header=["a: b"])  # type: ignore[call-arg]

    def test_a_key_like_no_other_gets_no_hint(self) -> None:
        message = refused(APP, {"ASGIWS_XYZZY": "1"})
        assert message == "ASGIWS_XYZZY: there is no such option"

    @pytest.mark.parametrize("key", UVICORN_ONLY)
    def test_options_of_uvicorn_are_named_from_every_source(self, key: str) -> None:
        wanted = f"--{key} is uvicorn's; asgiws does not have it yet"
        name = key.replace("-", "_")
        assert wanted in refused(APP, {f"ASGIWS_{name.upper()}": "1"})
        write_pyproject(f"{key} = 1")
        assert wanted in refused(APP, {})
        with pytest.raises(ConfigError, match=wanted):
            Config("main:app", **{name: 1})  # type: ignore[arg-type]

    def test_no_application_is_a_mistake(self) -> None:
        assert refused({}, {}).startswith("no application:")

    @pytest.mark.parametrize(
        ("content", "wanted"),
        [
            ("port = ", "my.toml is no valid TOML"),
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
        assert "bytes.toml is no valid TOML" in refused(APP, {}, "bytes.toml")
        assert "--config apps: Is a directory" in refused(APP, {}, "apps")
        Path("apps/pyproject.toml").write_text("[project]\n")
        assert "has no [tool.asgiws]" in refused(APP, {}, "apps/pyproject.toml")

    @pytest.mark.parametrize(
        ("given", "environ", "wanted"),
        [
            ({"uds": "x"}, {"ASGIWS_FD": "3"}, "--uds=x on the command line, ASGIWS_FD=3: --uds"),
            ({"ssl_keyfile": "a.file"}, {}, "--ssl-keyfile does nothing without --ssl-certfile"),
            ({"ssl_ca_certs": "a.file"}, {}, "--ssl-ca-certs does nothing without"),
            ({"ssl_cert_reqs": "2", "ssl_certfile": "a.file"}, {}, "--ssl-ca-certs must say whose"),
        ],
    )
    def test_options_that_exclude_or_need_each_other_are_named_with_their_places(
        self, given: dict[str, str], environ: dict[str, str], wanted: str
    ) -> None:
        assert wanted in refused({**APP, **given}, environ)

    def test_uvloop_must_be_installed_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        assert "--loop uvloop: uvloop is not installed" in refused({**APP, "loop": "uvloop"}, {})

    def test_zlib_ng_must_be_installed_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = {**APP, "ws_deflate_library": "zlib-ng"}
        assert load(given, {}).ws_deflate_library == "zlib-ng"
        monkeypatch.delitem(LIBRARIES, "zlib-ng")
        message = "--ws-deflate-library zlib-ng: zlib-ng is not installed (pip install"
        assert message in refused(given, {})

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
            headers=[("A", "b"), (b"C", b"d")],  # type: ignore[arg-type]
            forwarded_allow_ips=["10.0.0.1", "::1"],  # type: ignore[arg-type]
            app_dir=Path("apps"),  # type: ignore[arg-type]
            log_config={"version": 1},
        )
        assert config.app is app
        assert config.headers == ((b"a", b"b"), (b"c", b"d"))
        assert config.forwarded_allow_ips == "10.0.0.1,::1"
        assert config.app_dir == "apps"
        assert config.log_config == {"version": 1}

    def test_nothing_but_the_arguments_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASGIWS_PORT", "1")
        write_pyproject("port = 2")
        assert Config("main:app").port == 8000


class TestTLS:
    def test_no_certificate_no_tls(self) -> None:
        assert Config("main:app").ssl_context() is None

    def test_the_context_has_what_the_options_say(self) -> None:
        ca = trustme.CA()
        cert = ca.issue_cert("localhost")
        cert.private_key_and_cert_chain_pem.write_to_path("both.pem")
        ca.cert_pem.write_to_path("ca.pem")
        context = Config(
            "main:app",
            ssl_certfile="both.pem",
            ssl_ca_certs="ca.pem",
            ssl_cert_reqs=ssl.CERT_REQUIRED,
            ssl_ciphers="ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384",
        ).ssl_context()
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.cert_store_stats()["x509_ca"] == 1
        tls12 = {c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"}
        assert tls12 == {"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"}

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ({"ssl_certfile": "a.file"}, "--ssl-certfile a.file"),
            ({"ssl_ca_certs": "a.file"}, "--ssl-ca-certs a.file"),
            ({"ssl_ciphers": "NONSENSE"}, "--ssl-ciphers NONSENSE"),
            ({"ssl_keyfile": "other.pem"}, "--ssl-keyfile other.pem"),
            ({"ssl_keyfile": "locked.pem"}, "--ssl-keyfile locked.pem"),
        ],
    )
    def test_a_file_that_does_not_fit_is_told_with_its_option(
        self, options: dict[str, Any], wanted: str
    ) -> None:
        ca = trustme.CA()
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("both.pem")
        other = ca.issue_cert("localhost").private_key_pem
        other.write_to_path("other.pem")
        lock("other.pem", "locked.pem", b"open sesame")
        config = Config("main:app", **{"ssl_certfile": "both.pem", **options})
        with pytest.raises(ConfigError, match=wanted):
            config.ssl_context()

    def test_a_locked_key_opens_with_its_password(self) -> None:
        cert = trustme.CA().issue_cert("localhost")
        cert.cert_chain_pems[0].write_to_path("cert.pem")
        cert.private_key_pem.write_to_path("key.pem")
        lock("key.pem", "locked.pem", b"open sesame")
        files = {"ssl_certfile": "cert.pem", "ssl_keyfile": "locked.pem"}
        assert Config("main:app", **files, ssl_keyfile_password="open sesame").ssl_context()
        with pytest.raises(ConfigError, match=r"locked\.pem"):
            Config("main:app", **files, ssl_keyfile_password="wrong").ssl_context()


def lock(source: str, target: str, password: bytes) -> None:
    """Write a private key encrypted."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(source).read_bytes(), None)
    Path(target).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
    )


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
