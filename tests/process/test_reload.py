"""--reload with real files, processes, signals and clients."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import signal
import socket
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import asgiws
from asgiws.errors import ConfigError
from asgiws.process import reload
from asgiws.process.reload import what_to_watch

from ..toolkit.program import Program
from ..toolkit.raw_http import Client, request
from ..toolkit.running import LOOPS

SOON = 4.0  # seconds; a second is promised, and this machine may be busy
APP = """
import asyncio, os, signal, time

VERSION = "{version}"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        os.write(1, b"lifespan.shutdown of " + VERSION.encode() + b"\\n")
        return await send({{"type": "lifespan.shutdown.complete"}})
    if scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/exits":
        os._exit(3)
    if scope["path"] == "/crashes":
        os.kill(os.getpid(), signal.SIGKILL)
    if scope["path"] == "/long":
        print("long request")
        await asyncio.sleep(3600)
    if scope["path"] == "/blocks":
        print("blocks")
        time.sleep(3600)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    if scope["path"] == "/stream":
        await send({{"type": "http.response.body", "body": b"first", "more_body": True}})
        while True:
            await asyncio.sleep(0.01)
            await send({{"type": "http.response.body", "body": b".", "more_body": True}})
    body = (VERSION + os.environ.get("SUFFIX", "")).encode()
    await send({{"type": "http.response.body", "body": body}})
"""
RAISES = "import broken_thing_that_is_nowhere"
READY = r"Worker \d+ \(pid \d+\) is ready"
RESTARTS = "changed: restarting"
WAITING = "waiting for a file to change"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the application, which is in it."""
    monkeypatch.chdir(tmp_path)
    save(1)
    return tmp_path


def save(version: object, more: str = "") -> None:
    """Write the application, or what is to stand in its place."""
    Path("main.py").write_text(APP.format(version=version) + more)


@contextmanager
def started(*options: str, **environment: str) -> Iterator[Program]:
    """A program that reloads; its first worker may not have started."""
    command = ("asgiws", "main:app", "--reload", "--port", "0", "--no-access-log", *options)
    with Program(*command, cwd=Path.cwd(), **environment) as program:
        program.wait_until_serving()
        yield program


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[Program]:
    """A program that reloads, and answers."""
    with started(*options, **environment) as program:
        assert get(program) == "1"
        yield program


def get(program: Program, path: str = "/") -> str:
    with Client(program) as client:
        return client.get(path).body.decode()


def wait_for_version(program: Program, version: str) -> None:
    program.wait_until(lambda: get(program) == version, f"version {version}")


def wait_for_restarts(program: Program, count: int) -> None:
    """As many, and no more as far as can be known."""
    program.wait_for_count(RESTARTS, count)
    program.wait_for_count(READY, count + 1)
    save(f"after {count}")
    wait_for_version(program, f"after {count}")
    assert len(program.wait_for_count(RESTARTS, count + 1)) == count + 1, program.output


class TestNewCode:
    def test_it_answers_as_soon_as_a_file_has_changed(self) -> None:
        with serving() as program:
            for version in ("2", "3", "4"):
                save(version)
                wait_for_version(program, version)
            program.wait_for_line("main.py has changed: restarting")
            program.wait_for_count(READY, 4)
            shut_down = [line.strip() for line in program.lines("lifespan.shutdown of")]
            assert shut_down == [f"lifespan.shutdown of {version}" for version in (1, 2, 3)]

    @pytest.mark.slow
    def test_no_connection_is_refused_or_lost_meanwhile(self) -> None:
        with serving() as program:
            save(2)
            answers = []
            while not answers or answers[-1] != "2":
                answers.append(get(program))
            assert set(answers) == {"1", "2"}
            assert answers == sorted(answers)

    @pytest.mark.parametrize("loop", LOOPS)
    def test_whatever_is_connected_ends_at_once(self, loop: str) -> None:
        with (
            serving("--loop", loop) as program,
            connect(f"{program.ws_url}/", compression=None) as websocket,
            Client(program) as stream,
            Client(program) as long,
            Client(program) as idle,
        ):
            stream.send(request("Host: localhost", target="/stream"))
            stream.read_head()
            assert stream.read_chunk() == b"first"
            long.send(request("Host: localhost", target="/long"))
            program.wait_for_line("long request")
            assert idle.get("/").body == b"1"
            began = time.monotonic()
            save(2)
            wait_for_version(program, "2")
            assert time.monotonic() - began < SOON
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            for client in (stream, long, idle):
                client.rest()
            assert program.wait_for_count("lifespan.shutdown of 1", 1)
            assert not program.lines("killing it")

    @pytest.mark.slow
    def test_an_application_that_blocks_the_event_loop_is_killed(self) -> None:
        with serving() as program, Client(program) as client:
            client.send(request("Host: localhost", target="/blocks"))
            program.wait_for_line("blocks")
            began = time.monotonic()
            save(2)
            wait_for_version(program, "2")
            assert time.monotonic() - began < SOON
            assert len(program.wait_for_count("is blocked: killing it", 1)) == 1

    @pytest.mark.slow
    def test_lifespan_shutdown_may_take_a_while(self) -> None:
        takes = APP.replace(
            "        os.write", "        await asyncio.sleep(0.7)\n        os.write"
        )
        Path("main.py").write_text(takes.format(version=1))
        with serving() as program:
            save(2)
            wait_for_version(program, "2")
            assert program.lines("lifespan.shutdown of 1")
            assert not program.lines("killing it")

    @pytest.mark.slow
    def test_a_file_that_changes_twice_quickly_restarts_once(self) -> None:
        with serving() as program:
            save(2)
            save(3)
            wait_for_version(program, "3")
            wait_for_restarts(program, 1)

    @pytest.mark.slow
    def test_many_files_that_change_together_restart_once(self) -> None:
        with serving() as program:
            for number in range(200):
                Path(f"module{number}.py").touch()
            program.wait_for_line(r"module0.py, module1.py, module10.py and 197 more have changed")
            wait_for_restarts(program, 1)

    @pytest.mark.slow
    def test_what_changes_while_a_worker_starts_is_in_the_next_one(self) -> None:
        with serving() as program:
            save("2", "\nprint('importing')\ntime.sleep(3600)")
            program.wait_for_line("importing")
            save(3)
            wait_for_version(program, "3")

    def test_the_files_of_other_kinds_and_places_count_that_were_asked_for(self) -> None:
        options = ("--reload-dir", "src", "--reload-include", "*.html", "--reload-exclude", "gen")
        for name in ("src/gen", "src/pages"):
            Path(name).mkdir(parents=True)
        with serving(*options) as program:
            for name in ("src/a.txt", "src/gen/a.py", "main.py", "src/pages/b.html"):
                Path(name).touch()
            program.wait_for_line(RESTARTS)
            assert program.lines("src/pages/b.html has changed")


@pytest.mark.slow
class TestBrokenCode:
    @pytest.mark.parametrize(
        ("code", "told"),
        [
            ("def app(:", "SyntaxError"),
            (RAISES, "ModuleNotFoundError: No module named 'broken_thing_that_is_nowhere'"),
            ("raise SystemExit(7)", "SystemExit: 7"),
            ("import os; os._exit(7)", "exit code 7"),
            ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
            ("", 'has no attribute "app"'),
            (
                "async def app(scope, receive, send):\n"
                "    await receive()\n"
                "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})",
                "no database",
            ),
        ],
    )
    @pytest.mark.parametrize("first", [False, True])
    def test_it_is_told_and_the_next_change_answers_those_who_wait(
        self, code: str, told: str, first: bool
    ) -> None:
        if first:
            Path("main.py").write_text(code)
        with started() as program:
            if not first:
                assert get(program) == "1"
                Path("main.py").write_text(code)
            program.wait_for_count(WAITING, 1)
            assert any(told in line for line in program.output), program.output
            with Client(program) as waiting:
                waiting.send(request("Host: localhost"))
                save(2)
                assert waiting.read().body == b"2"
            assert len(program.lines(WAITING)) == 1
            assert program.stop(signal.SIGINT) == 0

    def test_its_traceback_is_shown_without_the_frames_of_the_server(self) -> None:
        Path("main.py").write_text("import other")
        Path("other.py").write_text("def fail():\n    1 / 0\nfail()")
        with started() as program:
            program.wait_for_line(WAITING)
            text = "".join(program.output)
            assert f'"{Path("other.py").absolute()}", line 2, in fail' in text
            assert str(Path(asgiws.__file__).parent) not in text

    @pytest.mark.parametrize(
        ("path", "told"), [("/exits", "exit code 3"), ("/crashes", "killed by SIGKILL")]
    )
    def test_a_worker_that_dies_waits_for_the_next_change(self, path: str, told: str) -> None:
        with serving() as program:
            with Client(program) as client:
                client.send(request("Host: localhost", target=path))
                assert client.rest() == b""
            program.wait_for_line(rf"Worker 1 \(pid \d+\) died: {told}; {WAITING}")
            save(2)
            wait_for_version(program, "2")
            assert len(program.wait_for_count(READY, 2)) == 2


@pytest.mark.slow
class TestTheEnd:
    @pytest.mark.parametrize("how", ["terminal", "SIGINT", "SIGTERM", "SIGTERM to all"])
    def test_it_comes_at_once_though_somebody_is_connected(self, how: str) -> None:
        with serving() as program, Client(program) as client:
            client.send(request("Host: localhost", target="/long"))
            program.wait_for_line("long request")
            self.end(program, how)
            assert program.lines("lifespan.shutdown of 1")

    @pytest.mark.parametrize("how", ["terminal", "SIGTERM"])
    @pytest.mark.parametrize(
        "code", ["print('importing')\nwhile True: pass", "print('importing')\n" + RAISES]
    )
    def test_it_comes_at_once_though_the_application_starts_or_is_broken(
        self, code: str, how: str
    ) -> None:
        Path("main.py").write_text(code)
        with started() as program:
            program.wait_for_line("importing")
            if RAISES in code:
                program.wait_for_line(WAITING)
            with Client(program) as client:
                client.send(request("Host: localhost"))
                # Nothing has been served: Ctrl-C has broken off the start.
                self.end(program, how, 130 if how == "terminal" else 0)

    def test_it_comes_at_once_though_the_event_loop_is_blocked(self) -> None:
        with serving() as program, Client(program) as client:
            client.send(request("Host: localhost", target="/blocks"))
            program.wait_for_line("blocks")
            self.end(program, "terminal")

    @staticmethod
    def end(program: Program, how: str, status: int = 0) -> None:
        began = time.monotonic()
        if how == "terminal":
            program.ctrl_c()
        elif how == "SIGTERM to all":  # as of a service manager, or of the command timeout
            os.killpg(program.process.pid, signal.SIGTERM)
        else:
            program.send(signal.Signals[how])
        assert program.wait_for_end() == status
        assert time.monotonic() - began < SOON
        text = "".join(program.output)
        assert "KeyboardInterrupt" not in text, text
        assert "The watcher of files" not in text, text
        assert program.output[-1].endswith("Stopped\n") == (status == 0), text
        assert not program.processes()

    def test_nothing_is_left_when_the_program_is_killed(self) -> None:
        with serving() as program, Client(program) as client:
            client.send(request("Host: localhost", target="/long"))
            program.wait_for_line("long request")
            program.wait_until(lambda: len(program.children()) == 3, "the third process")
            program.send(signal.SIGKILL)
            program.wait_until(lambda: not program.processes(), "their end")
            with socket.create_server(("127.0.0.1", program.port)):
                pass

    def test_nothing_is_left_of_the_workers_before(self) -> None:
        with serving() as program:
            for version in range(2, 6):
                save(version)
                wait_for_version(program, str(version))
            program.wait_until(lambda: not program.zombies(), "reaping")
            # The worker, the interpreter of the next one, and what watches.
            program.wait_until(lambda: len(program.children()) == 3)
            assert len(program.children("process.worker")) == 2
            assert len(program.children("process.watcher")) == 1


@pytest.mark.slow
class TestOptions:
    def test_a_change_of_the_options_is_read_and_of_the_rest_of_the_file_is_not(self) -> None:
        pyproject = Path("pyproject.toml")
        pyproject.write_text("[tool.asgiws]\nheader = ['x-a: 1']\n")

        def header() -> str | None:
            with Client(program) as client:
                return client.get("/").headers.get("x-a")

        with serving("--log-level", "debug") as program:
            assert header() == "1"
            pyproject.write_text("[tool.asgiws]\nheader = ['wrong']\n")
            program.wait_for_line("'wrong' must have the form .* nothing is restarted")
            assert header() == "1"
            pyproject.write_text("[tool.asgiws]\nheader = ['x-a: 1']\n[tool.ruff]\n")
            program.wait_for_line("pyproject.toml has changed, but none of the options in it")
            assert not program.lines(RESTARTS)
            pyproject.write_text("[tool.asgiws]\nheader = ['x-a: 2']\n")
            program.wait_until(lambda: header() == "2")
            assert program.wait_for_count("pyproject.toml has changed: restarting", 1)

    def test_what_is_watched_may_change_with_the_options(self) -> None:
        Path("pyproject.toml").write_text("[tool.asgiws]\n")
        Path("page.html").touch()
        with serving() as program:
            Path("pyproject.toml").write_text("[tool.asgiws]\nreload-include = ['*.html']\n")
            program.wait_for_line("pyproject.toml has changed: restarting")
            program.wait_for_line(READY)
            Path("page.html").touch()
            program.wait_for_line("page.html has changed: restarting")

    def test_a_change_of_the_environment_file_is_seen_by_the_application(self) -> None:
        Path("src").mkdir()
        Path("settings.env").write_text("SUFFIX=a")
        with started("--env-file", "settings.env", "--reload-dir", "src") as program:
            assert get(program) == "1a"
            Path("settings.env").write_text("SUFFIX=b")
            wait_for_version(program, "1b")
            assert program.wait_for_count("settings.env has changed: restarting", 1)

    def test_sighup_restarts_too(self) -> None:
        with serving() as program:
            program.send(signal.SIGHUP)
            program.wait_for_count(READY, 2)
            assert get(program) == "1"

    def test_sigusr2_does_nothing_and_says_so(self) -> None:
        with serving() as program:
            program.send(signal.SIGUSR2)
            program.wait_for_line("SIGUSR2 does nothing with --reload")
            assert get(program) == "1"

    def test_a_program_that_is_executed_anew_may_reload_from_then_on(self) -> None:
        options = Path("pyproject.toml")
        options.write_text("[tool.asgiws]\nworkers = 2\n")
        with Program("asgiws", "main:app", "--port", "0", cwd=Path.cwd()) as program:
            program.wait_until_serving()
            program.wait_for_count(READY, 2)
            options.write_text("[tool.asgiws]\nreload = true\n")
            program.send(signal.SIGUSR2)
            program.wait_for_line("Watching .* for changes")
            program.wait_for_count(READY, 3)
            save(2)
            wait_for_version(program, "2")
            assert len(program.wait_for_count("lifespan.shutdown of 1", 3)) == 3
            assert program.stop() == 0

    def test_one_worker_runs_whatever_is_asked_for(self) -> None:
        with serving(WEB_CONCURRENCY="4") as program:
            assert program.wait_for_count("WARNING.*One worker runs with --reload, not 4", 1)
            program.send(signal.SIGTTIN)
            program.wait_for_line("One worker runs with --reload")
            save(2)
            wait_for_version(program, "2")
            assert len(program.wait_for_count(READY, 2)) == 2

    def test_the_file_of_a_unix_socket_stays_until_the_end(self) -> None:
        path = str(Path("a.sock").absolute())
        with Program("asgiws", "main:app", "--reload", "--uds", path, cwd=Path.cwd()) as program:
            program.wait_until_serving()

            def version() -> bytes:
                with Client(path) as client:
                    return client.get("/").body

            assert version() == b"1"
            number = os.stat(path).st_ino
            save(2)
            program.wait_until(lambda: version() == b"2")
            assert os.stat(path).st_ino == number
            assert program.stop() == 0
            assert not os.path.exists(path)

    def test_a_script_may_ask_for_it(self) -> None:
        Path("script.py").write_text(
            "import asgiws\n"
            "if __name__ == '__main__':\n"
            "    asgiws.run('main:app', reload=True, port=0)\n"
        )
        with Program("script", cwd=Path.cwd()) as program:
            program.wait_until_serving()
            assert get(program) == "1"
            save(2)
            wait_for_version(program, "2")
            assert program.stop() == 0

    def test_a_server_in_a_loop_of_somebody_else_cannot_reload(self) -> None:
        with pytest.raises(ConfigError, match=r"asgiws\.run"):
            asgiws.Server(asgiws.Config("main:app", reload=True))

    def test_what_is_watched_is_what_the_options_name(self, project: Path) -> None:
        (project / "src").mkdir()
        config = asgiws.Config(
            "main:app", app_dir="src", reload=True, reload_excludes="gen", reload_delay=0.5
        )
        watched = what_to_watch(config, "other.toml")
        assert watched.directories == (str(project), str(project / "src"))
        assert watched.files == (str(project / "other.toml"),)
        assert (watched.includes, watched.excludes, watched.delay) == ((), ("gen",), 0.5)

    def test_all_of_the_system_is_not_watched(self) -> None:
        command = ("asgiws", "main:app", "--reload", "--app-dir", os.getcwd(), "--port", "0")
        with Program(*command, cwd=Path("/")) as program:
            assert program.wait_for_end() == 2
            assert program.lines("name directories with --reload-dir")


@pytest.mark.slow
class TestTerminal:
    def test_what_a_killed_debugger_has_done_to_it_is_undone(self) -> None:
        Path("main.py").write_text(
            APP.format(version=1).replace(
                'print("blocks")',
                "import termios; mode = termios.tcgetattr(0); mode[3] &= ~termios.ECHO; "
                "termios.tcsetattr(0, termios.TCSANOW, mode); print('raw')",
            )
        )
        ours, theirs = pty.openpty()

        def echoes() -> bool:
            return bool(termios.tcgetattr(theirs)[3] & termios.ECHO)

        def control() -> None:
            os.dup2(theirs, 0)
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        command = ("asgiws", "main:app", "--reload", "--port", "0")
        with (
            open(ours, "rb"),
            open(theirs, "rb"),
            Program(*command, cwd=Path.cwd(), preexec=control) as program,
        ):
            program.wait_until_serving()
            assert echoes()
            with Client(program) as client:
                client.send(request("Host: localhost", target="/blocks"))
                program.wait_for_line("raw")
                assert not echoes()
                save(2)
                program.wait_for_count(READY, 2)
            assert echoes()


@pytest.mark.slow
class TestHelpers:
    def test_what_watches_is_started_again_if_it_ends_and_misses_nothing(self) -> None:
        with serving() as program:
            (watcher,) = program.children("process.watcher")
            os.kill(watcher, signal.SIGKILL)
            program.wait_for_line("The watcher of files has ended: killed by SIGKILL")
            save(2)
            wait_for_version(program, "2")

    def test_if_it_cannot_be_started_that_is_told_and_tried_later(
        self, monkeypatch: pytest.MonkeyPatch, log: list[logging.LogRecord]
    ) -> None:
        tries = []

        def fails(_watched: object) -> None:
            tries.append(time.monotonic())
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(reload, "Watcher", fails)
        reloader = reload.Reloader(asgiws.Config("main:app", reload=True))
        reloader._watch()
        reloader._selector.close()
        assert [record.getMessage() for record in log] == [
            "Files cannot be watched for now: Resource temporarily unavailable"
        ]
        assert reloader._watch_at >= tries[0] + 1

    def test_what_it_has_to_say_is_in_the_log(self) -> None:
        Path("src").mkdir()
        with serving("--reload-dir", "src") as program:
            Path("src/a.py").touch()
            program.wait_for_line(RESTARTS)
            Path("src").rename("away")
            program.wait_for_line("src is gone: what is in it is watched as soon as it is back")

    def test_the_interpreter_of_the_next_worker_is_replaced_if_it_ends(self) -> None:
        def held(but: int = 0) -> int:
            return next((pid for pid in program.children("process.worker")[1:] if pid != but), 0)

        with serving() as program:
            first = program.wait_until(held)
            os.kill(first, signal.SIGKILL)
            program.wait_until(lambda: held(but=first))
            assert get(program) == "1"
            save(2)
            wait_for_version(program, "2")
            assert len(program.wait_for_count(READY, 2)) == 2
            assert not program.lines(WAITING)

    def test_a_worker_that_is_told_to_end_by_somebody_else_is_replaced(self) -> None:
        with serving() as program:
            os.kill(program.children("process.worker")[0], signal.SIGTERM)
            program.wait_for_count(READY, 2)
            assert get(program) == "1"
