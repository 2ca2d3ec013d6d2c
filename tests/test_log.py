"""What is logged, where it goes, and what never reaches a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import ConfigError
from asgiws.log import LEVELS, TRACE, SafeFilter, access_log, configure, error_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestStreams:
    def test_errors_go_to_stderr_and_access_lines_to_stdout(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(use_colors=False)
        error_log.info("Serving")
        access_log.info('%s - "%s" %d', "127.0.0.1:1", "GET / HTTP/1.1", 200)
        out, err = capsys.readouterr()
        assert err == "INFO:     Serving\n"
        assert out == 'INFO:     127.0.0.1:1 - "GET / HTTP/1.1" 200\n'

    def test_a_full_disk_is_one_line_until_there_is_room(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        told = "ERROR:    The log cannot be written for now: No space left on device\n"
        with open("/dev/full", "w") as full:
            monkeypatch.setattr("sys.stdout", full)
            configure(use_colors=False)
            for _ in range(3):
                access_log.info("a line")
            assert capsys.readouterr().err == told
            with open(tmp_path / "log", "w") as file:
                os.dup2(file.fileno(), full.fileno())
            access_log.info("there is room")
            assert (tmp_path / "log").read_text().endswith("INFO:     there is room\n")
            with open("/dev/full", "w") as again:
                os.dup2(again.fileno(), full.fileno())
            access_log.info("a line")
            assert capsys.readouterr().err == told
            with open(os.devnull, "w") as nowhere:  # for what is still in the buffer
                os.dup2(nowhere.fileno(), full.fileno())

    def test_a_full_disk_for_both_logs_ends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with open("/dev/full", "w") as full:
            monkeypatch.setattr("sys.stdout", full)
            monkeypatch.setattr("sys.stderr", full)
            configure(use_colors=False)
            access_log.info("a line")
            error_log.info("a line")
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), full.fileno())

    def test_no_access_log_silences_it_wholly(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(access=False)
        access_log.critical("a line")
        assert capsys.readouterr() == ("", "")
        assert not access_log.isEnabledFor(logging.INFO)
        configure()
        assert access_log.isEnabledFor(logging.INFO)

    @pytest.mark.parametrize("level", LEVELS)
    def test_what_is_below_the_level_is_not_logged(
        self, level: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(level=level)
        for name, number in LEVELS.items():
            error_log.log(number, "<%s>", name)
            access_log.log(number, "<%s>", name)
        wanted = [name for name, number in LEVELS.items() if number >= LEVELS[level]]
        out, err = capsys.readouterr()
        assert [line.partition("<")[2].rstrip(">") for line in err.splitlines()] == wanted
        assert [line.partition("<")[2].rstrip(">") for line in out.splitlines()] == wanted

    def test_the_level_of_every_event_has_a_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(level="trace")
        error_log.log(TRACE, "event")
        assert capsys.readouterr().err == "TRACE:    event\n"


class TestColors:
    @pytest.mark.parametrize(
        ("option", "terminal", "no_color", "wanted"),
        [
            (None, True, "", True),
            (None, False, "", False),
            (None, True, "1", False),
            (True, False, "1", True),
            (False, True, "", False),
        ],
    )
    def test_colors_are_for_terminals_unless_somebody_says_otherwise(
        self,
        option: bool | None,
        terminal: bool,
        no_color: str,
        wanted: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stream = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("NO_COLOR", no_color)
        configure(use_colors=option)
        error_log.warning("careful")
        plain = "WARNING:  careful\n"
        colored = "\x1b[33mWARNING\x1b[0m:  careful\n"
        assert stream.getvalue() == (colored if wanted else plain)

    def test_each_stream_is_judged_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NO_COLOR", raising=False)
        out, err = io.StringIO(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        configure()
        error_log.info("one")
        access_log.info("two")
        assert "\x1b" in err.getvalue()
        assert "\x1b" not in out.getvalue()


class TestPeers:
    def test_a_peer_cannot_write_to_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(use_colors=False)
        access_log.info('"%s"', "\x1b]0;owned\x07\n\u202eINFO: forged 100%d")
        error_log.warning("\x1b[2Jplain %")
        out, err = capsys.readouterr()
        assert out == 'INFO:     "\\x1b]0;owned\\x07\\x0a\\u202eINFO: forged 100%d"\n'
        assert err == "WARNING:  \\x1b[2Jplain %\n"

    def test_not_even_through_a_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(use_colors=False)
        try:
            raise ValueError("bad name \x1b[31m\r")
        except ValueError:
            error_log.exception("Exception in ASGI application", stack_info=True)
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert "\r" not in err
        assert "ValueError: bad name \\x1b[31m\\x0d\n" in err
        assert err.startswith("ERROR:    Exception in ASGI application\nTraceback")
        assert "Stack (most recent call last)" in err

    def test_not_through_handlers_of_others_either(self) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
        configure()
        access_log.addHandler(handler)
        access_log.info("%s", "\x1b[0m")
        assert stream.getvalue() == "asgiws.access \\x1b[0m\n"

    def test_both_loggers_carry_the_filter_from_the_first_import(self) -> None:
        for log in (error_log, access_log):
            assert any(isinstance(item, SafeFilter) for item in log.filters)


SETTINGS = {
    "version": 1,
    "formatters": {"f": {"format": "%(levelname)s|%(name)s|%(message)s"}},
    "handlers": {
        "h": {"class": "logging.StreamHandler", "formatter": "f", "stream": "ext://sys.stderr"}
    },
    "loggers": {"asgiws": {"handlers": ["h"], "level": "WARNING", "propagate": False}},
}


AS_TOML = """
version = 1
formatters.f.format = "%(levelname)s|%(name)s|%(message)s"
handlers.h = {class = "logging.StreamHandler", formatter = "f", stream = "ext://sys.stderr"}
loggers.asgiws = {handlers = ["h"], level = "WARNING", propagate = false}
"""


AS_INI = """
[loggers]
keys = root, asgiws
[handlers]
keys = h
[formatters]
keys = f
[logger_root]
handlers =
[logger_asgiws]
qualname = asgiws
handlers = h
level = WARNING
propagate = 0
[handler_h]
class = StreamHandler
formatter = f
args = (sys.stderr,)
[formatter_f]
format = %(levelname)s|%(name)s|%(message)s
"""


class TestLogConfig:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("l.json", json.dumps(SETTINGS)),
            ("l.toml", AS_TOML),
            ("l.ini", AS_INI),
            ("l.conf", AS_INI),
            ("", SETTINGS),
        ],
        ids=["json", "toml", "ini", "other", "dict"],
    )
    def test_settings_are_read_in_every_form(
        self, name: str, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = content
        if name:
            path = tmp_path / name
            path.write_text(content)
            source = str(path)
        elsewhere = logging.getLogger("elsewhere")
        configure(config=source)
        error_log.warning("here\x1b")
        access_log.error("there")
        error_log.info("too low")
        out, err = capsys.readouterr()
        assert err == "WARNING|asgiws.error|here\\x1b\nERROR|asgiws.access|there\n"
        assert out == ""
        assert not elsewhere.disabled

    def test_log_level_counts_beside_it_where_it_is_given(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(config=SETTINGS, level="info")
        error_log.info("now")
        assert capsys.readouterr().err == "INFO|asgiws.error|now\n"

    def test_no_access_log_counts_beside_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(config=SETTINGS, access=False)
        access_log.critical("there")
        assert capsys.readouterr() == ("", "")

    def test_yaml_is_read_where_pyyaml_is_and_asked_for_where_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "l.yaml"
        path.write_text(json.dumps(SETTINGS))  # JSON is YAML
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ConfigError, match="needs PyYAML"):
            configure(config=str(path))

        class Yaml:
            safe_load = staticmethod(json.loads)

        monkeypatch.setitem(sys.modules, "yaml", Yaml)
        configure(config=str(path))
        error_log.warning("here")
        assert capsys.readouterr().err == "WARNING|asgiws.error|here\n"

    @pytest.mark.parametrize(
        ("name", "content", "wanted"),
        [
            ("l.json", "{", "Expecting property name"),
            ("l.json", "[1]", "the file does not hold a table of settings"),
            ("l.toml", "version = ", "Invalid value"),
            ("l.json", '{"version": 2}', "Unsupported version"),
            (
                "l.json",
                '{"version": 1, "handlers": {"h": {"class": "no.Such"}}}',
                "Unable to configure handler 'h' (Cannot resolve 'no.Such'",
            ),
            ("l.ini", "nonsense", "no section headers"),
            ("l.ini", "[a]\n", "'formatters' is missing"),
        ],
    )
    def test_settings_that_do_not_work_are_told_with_the_file(
        self, name: str, content: str, wanted: str, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            configure(config=str(path))
        message = str(caught.value)
        assert message.startswith(f"--log-config {path}: ")
        assert wanted in message
        assert "\n" not in message
