"""The program as its users type it: what is understood, printed and returned."""

from __future__ import annotations

import inspect
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx
import pytest
import uvicorn

import asgiws
from asgiws import cli
from asgiws.errors import AppLoadError, BindError, LifespanError, StartupError
from asgiws.options.config import OPTIONS, UVICORN_ONLY, Config
from asgiws.process import program

ROOT = Path(__file__).parent.parent
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Config]:
    """The configurations that a program was started with, in place of programs."""
    configs: list[Config] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(program, "serve", lambda config, *_: configs.append(config))
    for variable in os.environ:
        if variable.startswith("ASGIWS_") and variable != "ASGIWS_PURE":
            monkeypatch.delenv(variable)
    return configs


class Result(NamedTuple):
    exit_code: object
    stdout: str
    stderr: str


def invoke(*args: str) -> Result:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.command.main(list(args), prog_name="asgiws")
    return Result(ended.value.code, out.getvalue(), err.getvalue())


class TestArguments:
    @pytest.mark.parametrize(
        ("args", "wanted"),
        [
            (["--prot", "8000"], "--prot: there is no such option; did you mean --port?"),
            (
                ["--app", "app:app"],
                "--app: there is no such option; "
                "the application needs no option, as in `asgiws main:app`",
            ),
            (["--wokers=2"], "--wokers: there is no such option; did you mean --workers?"),
            (
                ["--ws_max_size", "2"],
                "--ws_max_size: there is no such option; did you mean --ws-max-size?",
            ),
            (
                ["--no-acces-log"],
                "--no-acces-log: there is no such option; did you mean --no-access-log?",
            ),
            (["--vresion"], "--vresion: there is no such option; did you mean --version?"),
            (["--xyzzy"], "--xyzzy: there is no such option"),
            (["-b", ":80"], "-b: there is no such option; did you mean --bind?"),
            (["-k", "x"], "-k: there is no such option"),
            (
                ["--timeout=60"],
                "--timeout: there is no such option; did you mean --timeout-worker-healthcheck?",
            ),
            (
                ["--websocket_timeout", "60"],
                "--websocket_timeout: there is no such option; did you mean --ws-idle-timeout?",
            ),
        ],
    )
    def test_an_option_that_there_is_not_gets_the_one_that_was_meant(
        self, args: list[str], wanted: str, started: list[Config]
    ) -> None:
        result = invoke("app:app", *args)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: {wanted}")
        assert not started

    @pytest.mark.parametrize(("flag", "counterpart"), cli.ELSEWHERE.items())
    def test_a_flag_of_another_server_has_the_counterpart_that_its_page_names(
        self, flag: str, counterpart: str
    ) -> None:
        pages = [ROOT / "docs" / name for name in ("from-gunicorn.md", "from-hypercorn.md")]
        lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
        rows = [line.split("|")[1:3] for line in lines if line.startswith("| `-")]
        assert any(
            f"`{flag}`" in theirs.replace("_", "-") and f"`{counterpart}`" in ours
            for theirs, ours in rows
        )

    def test_the_two_commands_of_the_readme(self, started: list[Config]) -> None:
        assert invoke("app:app", "--port", "8000").exit_code == 0
        assert started == [Config("app:app", port=8000)]

    def test_options_may_stand_before_the_application(self, started: list[Config]) -> None:
        invoke("--port=1", "--no-access-log", "app:app")
        assert started == [Config("app:app", port=1, access_log=False)]

    def test_headers_may_be_repeated(self, started: list[Config]) -> None:
        invoke("app:app", "--header", "A: b", "--header", "C:d")
        assert started[0].headers == ((b"a", b"b"), (b"c", b"d"))

    @pytest.mark.parametrize(
        ("args", "wanted"),
        [
            (["--ws-per-message-deflate"], True),
            (["--no-ws-per-message-deflate"], False),
            (["--ws-per-message-deflate", "true"], True),
            (["--ws-per-message-deflate", "False"], False),
            (["--ws-per-message-deflate=0"], False),
            (["--ws-per-message-deflate=yes"], True),
        ],
    )
    def test_a_switch_also_takes_a_word_as_uvicorns_does(
        self, args: list[str], wanted: bool, started: list[Config]
    ) -> None:
        for line in (["app:app", *args], [*args, "app:app"], [*args, "--", "app:app"]):
            assert invoke(*line).exit_code == 0
        assert [(c.app, c.ws_per_message_deflate) for c in started] == [("app:app", wanted)] * 3

    def test_all_sources_come_together(
        self, started: list[Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("pyproject.toml").write_text('[tool.asgiws]\napp = "a:b"\nport = 1\nbacklog = 2\n')
        Path("my.toml").write_text('app = "c:d"\nport = 3\n')
        monkeypatch.setenv("ASGIWS_HOST", "::1")
        invoke("--fd", "4")
        invoke("--config", "my.toml")
        assert started == [
            Config("a:b", port=1, backlog=2, host="::1", fd=4),
            Config("c:d", port=3, host="::1"),
        ]

    def test_app_dir_is_on_the_path_before_logging_is_set_up(
        self, started: list[Config], tmp_path: Path
    ) -> None:
        invoke("app:app")
        assert sys.path[0] == str(tmp_path)


class TestMistakes:
    @pytest.mark.parametrize(
        ("args", "wanted"),
        [
            ([], "Error: no application"),
            (["a:b", "c:d"], "unexpected extra argument (c:d)"),
            (["a:b", "--prot", "1"], "--port"),
            (["a:b", "--port"], "'--port' requires an argument"),
            (["a:b", "--port", "x"], "Error: --port=x on the command line: --port must be a whole"),
            (["a:b", "--ws-per-message-deflate=maybe"], "does not take a value"),
            (["a:b", "--loop", "trio"], "--loop must be auto, uvloop or asyncio"),
            (["a:b", "--config", "no.toml"], "--config no.toml: there is no such file"),
        ],
    )
    def test_what_is_wrong_is_told_on_stderr_and_ends_with_2(
        self, args: list[str], wanted: str, started: list[Config]
    ) -> None:
        result = invoke(*args)
        assert result.exit_code == 2
        assert wanted in result.stderr
        assert result.stdout == ""
        assert started == []

    @pytest.mark.parametrize(
        "error",
        [StartupError("s"), AppLoadError("a", "details"), BindError("b"), LifespanError("l", "d")],
        ids=lambda error: type(error).__name__,
    )
    def test_a_start_that_fails_has_its_message_and_its_code(
        self, error: StartupError, started: list[Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def serve(*_: Any) -> None:
            raise error

        monkeypatch.setattr(program, "serve", serve)
        result = invoke("app:app")
        assert result.exit_code == error.exit_code
        details = f"{error.details}\n" if error.details else ""
        assert result.stderr == f"{details}Error: {error}\n"

    def test_the_exit_codes_are_all_different_and_documented(self) -> None:
        page = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
        codes = [
            vars(error)["exit_code"]
            for error in StartupError.__subclasses__()
            if "exit_code" in vars(error)
        ]
        assert sorted(codes) == [2, 3, 4, 5]
        for code in (0, 1, *codes, cli.INTERRUPTED):
            assert re.search(rf"^\| {code}\b", page, re.MULTILINE)

    def test_ctrl_c_while_starting_says_nothing(
        self, started: list[Config], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def serve(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(program, "serve", serve)
        result = invoke("app:app")
        assert result == (130, "", "")


# Neither is an option: the argument, and what click does for both of us.
OTHERS = ("app", "version")


SAME_DEFAULTS = [
    "host",
    "port",
    "backlog",
    "lifespan",
    "root_path",
    "timeout_keep_alive",
    "ws_max_size",
    "ws_max_queue",
    "ws_ping_interval",
    "ws_ping_timeout",
    "ssl_cert_reqs",
]


def uvicorn_options() -> list[str]:
    """The long options of uvicorn's own command."""
    return sorted(
        name
        for param in uvicorn.main.params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("--")
    )


class TestUvicorn:
    def test_every_option_of_uvicorn_is_ours_or_answered(self) -> None:
        ours = {
            name for param in cli.command.params for name in (*param.opts, *param.secondary_opts)
        }
        assert set(uvicorn_options()) - ours == set()

    def test_nothing_is_called_uvicorns_that_is_not(self) -> None:
        in_python = inspect.signature(uvicorn.Config).parameters
        for key in UVICORN_ONLY:
            assert f"--{key}" in uvicorn_options() or key.replace("-", "_") in in_python

    @pytest.mark.parametrize("key", UVICORN_ONLY)
    @pytest.mark.parametrize("form", ["{} app:app", "app:app {}", "app:app {}=x", "app:app {} x"])
    def test_one_that_is_not_here_ends_with_its_name(
        self, key: str, form: str, started: list[Config]
    ) -> None:
        result = invoke(*form.format(f"--{key}").split())
        assert result.exit_code == 2
        assert f"Error: --{key} is uvicorn's; asgiws does not have it" in result.stderr
        assert started == []

    @pytest.mark.parametrize("param", uvicorn.main.params, ids=lambda param: param.name)
    def test_an_option_of_the_same_name_takes_the_same_line(
        self, param: Any, started: list[Config]
    ) -> None:
        option = next((o for o in OPTIONS if f"--{o.key}" in param.opts), None)
        if option is None:
            assert {name.removeprefix("--") for name in param.opts} <= {*UVICORN_ONLY, *OTHERS}
            return
        Path("a.file").touch()
        companions = {"--ssl-certfile", "--ssl-ca-certs"} if "ssl" in option.name else set()
        line = [arg for flag in companions - {option.flag} for arg in (flag, "a.file")]
        values = {
            "NUMBER": "1",
            "SECONDS": "1",
            "FILE": "a.file",
            "DIRECTORY": ".",
            "HEADER": "a: b",
            "PATH": "/p",
            "ADDRESSES": "10.0.0.1, 10.1.0.0/16",
        }
        if option.kind.switch:
            line += [param.opts[0], *(["true"] if not param.is_flag else [])]
        else:
            first_choice = option.kind.metavar.split("|")[0]
            number = {"h11_max_incomplete_event_size": "4096"}.get(option.name)
            line += [param.opts[0], number or values.get(option.kind.metavar, first_choice)]
        result = invoke("app:app", *line)
        assert (result.exit_code, result.stderr) == (0, "")

    @pytest.mark.parametrize("name", SAME_DEFAULTS)
    def test_and_has_the_same_default(self, name: str) -> None:
        param = next(param for param in uvicorn.main.params if param.name == name)
        assert getattr(Config("app:app"), name) == param.default


class TestHelp:
    def test_it_shows_every_option_under_its_heading(self) -> None:
        text = invoke("--help").stdout
        assert text.startswith("Usage: asgiws APP [OPTIONS]\n")
        sections = dict(re.findall(r"^(\S.*):\n((?:  .*\n)+)", text, re.MULTILINE))
        for option in OPTIONS[1:]:
            assert re.search(rf"^  {option.flag}\b", sections[option.group], re.MULTILINE)
        for flag in ("--config", "--version", "--help"):
            assert f"  {flag} " in sections["Other"]
        assert text.count("Other:\n") == 1
        assert "--interface" not in text
        assert all(len(line) <= 100 for line in text.splitlines())

    def test_the_version_says_what_runs(self) -> None:
        line = invoke("--version").stdout
        assert re.fullmatch(
            rf"asgiws {re.escape(asgiws.__version__)} \((compiled|pure Python)\), "
            rf"\w+ 3\.\d+\.\d+\S*, httptools {re.escape(version('httptools'))}, "
            rf"h11 {re.escape(version('h11'))}, "
            rf"uvloop {re.escape(version('uvloop'))}\n",
            line,
        )
        assert f"({asgiws.build()})" in line

    def test_without_httptools_it_names_h11_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli, "parser", lambda _name: "h11")
        line = invoke("--version").stdout
        assert (line.count("h11"), line.count("httptools")) == (1, 0)


# --- As a process ----------------------------------------------------------------------


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k == "ASGIWS_PURE" or "ASGIWS" not in k}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, in the current directory."""
    return subprocess.run(
        [sys.executable, "-m", "asgiws", *args],
        env=environment() | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(APP)
    return tmp_path


class TestProcess:
    def test_the_interpreted_modules_can_be_chosen(self, project: Path) -> None:
        assert "(pure Python)" in run("--version", ASGIWS_PURE="1").stdout

    def test_a_broken_application_shows_its_own_traceback_and_ends_with_3(
        self, project: Path
    ) -> None:
        Path("broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
        ended = run("broken:app")
        assert ended.returncode == 3
        # How a line is underlined is Python's, from version to version.
        lines = [line for line in ended.stderr.splitlines() if line.strip(" ~^")]
        assert lines == [
            "Traceback (most recent call last):",
            f'  File "{project}/broken.py", line 3, in <module>',
            "    f()",
            f'  File "{project}/broken.py", line 2, in f',
            "    return 1 / 0",
            "ZeroDivisionError: division by zero",
            'Error: "broken:app": importing it failed: ZeroDivisionError: division by zero',
        ]

    def test_a_port_in_use_is_named_and_ends_with_4(self, project: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ended = run("main:app", "--port", str(port))
        assert ended.returncode == 4
        assert re.fullmatch(rf"Error: .*127\.0\.0\.1.*{port}.*in use.*\n", ended.stderr)

    def test_a_lifespan_that_raises_shows_its_own_traceback_and_ends_with_5(
        self, project: Path
    ) -> None:
        ended = run("main:app", "--lifespan", "on", "--port", "0")
        assert ended.returncode == 5
        assert "RuntimeError: no lifespan here" in ended.stderr
        assert "asgiws" + os.sep not in ended.stderr
        assert ended.stderr.splitlines()[-1].startswith("Error: ")
        assert ended.stderr.count("Traceback") == 1

    def test_it_serves_until_it_is_interrupted_and_ends_with_0(self, project: Path) -> None:
        Path("pyproject.toml").write_text('[tool.asgiws]\napp = "main:app"\nport = 0\n')
        process = subprocess.Popen(
            [sys.executable, "-m", "asgiws"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process, ended_at_last(process):
            assert process.stderr is not None
            url = url_in(process.stderr)
            assert httpx.get(f"{url}/a?b=c", trust_env=False).text == "hello"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0
            assert "Traceback" not in err
            assert re.fullmatch(r'INFO: .*"GET /a\?b=c HTTP/1\.1" 200.*\n', out)

    def test_ctrl_c_while_the_application_is_imported_shows_no_traceback(
        self, project: Path
    ) -> None:
        Path("slow.py").write_text(
            "import threading\nprint('importing')\nthreading.Event().wait(30)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "asgiws", "slow:app"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background it is ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        with process, ended_at_last(process):
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
            assert (process.returncode, err) == (130, "")

    def test_a_log_that_nobody_reads_any_more_is_no_error(self, project: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "asgiws", "main:app", "--port", "0"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process, ended_at_last(process):
            assert process.stdout is not None
            assert process.stderr is not None
            url = url_in(process.stderr)
            process.stdout.close()
            for _ in range(2):
                assert httpx.get(url, trust_env=False).text == "hello"
            process.send_signal(signal.SIGINT)
            err = process.stderr.read()
            assert process.wait(30) == 0
            assert re.fullmatch(r"(INFO: .*\n)*INFO:     Stopped\n", err)


def url_in(lines: IO[str]) -> str:
    """The first URL that a server prints."""
    urls = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in lines)
    return next(url[0] for url in urls if url is not None)


class ended_at_last:
    """Kills a process that a failed test has left."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._timer = threading.Timer(40, process.kill)
        self._process = process

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._process.poll() is None:
            self._process.kill()
