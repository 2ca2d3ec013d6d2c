"""Which files are watched, how changes are joined; and the program with real files."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.process import watcher
from asgiws.process.watcher import LONGEST_SECONDS, MOST_NAMED, Chosen, Eyes, Watched, joined

DEADLINE = 20.0


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, inside of one whose name begins with a dot."""
    here = tmp_path / ".hidden" / "project"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def save(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestWhichFiles:
    @pytest.mark.parametrize(
        ("path", "counts"),
        [
            ("main.py", True),
            ("package/sub/module.py", True),
            ("page.html", False),
            (".hidden.py", False),
            (".git/hooks/hook.py", False),
            (".venv/lib/python3.11/thing.py", False),
            ("venv/lib/python3.11/site-packages/thing.py", False),
            ("web/node_modules/gyp/gyp.py", False),
            ("package/__pycache__/module.cpython-311.pyc", False),
            ("package/__pycache__/module.py", False),
            (".main.py.swp", False),
            (".#main.py", False),
            ("main.py~", False),
            ("#main.py#", False),
            ("main.py___jb_tmp___", False),
            ("../elsewhere.py", False),
        ],
    )
    def test_python_files_count_and_what_tools_write_does_not(
        self, project: Path, path: str, counts: bool
    ) -> None:
        assert Chosen(Watched.of(["."]))(os.path.abspath(path)) is counts

    def test_a_virtual_environment_does_not_count_whatever_its_name(self, project: Path) -> None:
        chosen = Chosen(Watched.of(["."]))
        script = str(project / "my-env" / "bin" / "activate_this.py")
        assert chosen(script)
        save(project / "my-env" / "pyvenv.cfg")
        assert not chosen(script)

    @pytest.mark.parametrize(
        ("includes", "path", "counts"),
        [
            (["*.html"], "templates/page.html", True),
            (["*.html"], "main.py", True),
            (["*.html"], ".venv/thing/page.html", False),
            (["*.html"], "node_modules/thing/page.html", False),
            (["*.html"], ".page.html", False),
            (["*"], "anything", True),
            (["*"], "main.py~", False),
            (["*"], ".main.py.swp", False),
            (["*"], "4913", False),
            (["*~"], "main.py~", True),
            ([".env"], ".env", True),
            ([".*"], ".env", True),
            ([".*"], ".git/index", False),
            (["templates/*.html"], "site/templates/page.html", True),
            (["templates/*.html"], "site/other/page.html", False),
            (["templates/**"], "site/templates/a/b/page.html", True),
            (["**/*.html"], "a/b/page.html", True),
            (["**/*.html"], "node_modules/a/page.html", False),
            ([".config/*.toml"], ".config/app.toml", True),
            (["./page.html"], "page.html", True),
            (["./page.html"], "other/page.html", False),
        ],
    )
    def test_more_files_may_be_included(
        self, project: Path, includes: list[str], path: str, counts: bool
    ) -> None:
        chosen = Chosen(Watched.of(["."], includes))
        assert chosen(str(project / path)) is counts

    @pytest.mark.parametrize(
        ("excludes", "path", "counts"),
        [
            (["test_*.py"], "tests/test_main.py", False),
            (["test_*.py"], "tests/conftest.py", True),
            (["migrations"], "app/migrations/0001.py", False),
            (["app/migrations"], "app/migrations/deep/0001.py", False),
            (["app/migrations/*"], "app/migrations/deep/0001.py", False),
            (["app/migrations"], "other/migrations/0001.py", True),
            (["./generated"], "generated/code.py", False),
            (["./generated"], "app/generated/code.py", True),
            (["**/generated/*.py"], "a/b/generated/code.py", False),
            (["**/generated/*.py"], "a/b/other/code.py", True),
            (["*.py"], "main.py", False),
            (["*.py"], "page.html", True),
            (["project"], "main.py", True),
            (["page.html"], "page.html", False),
        ],
    )
    def test_files_and_directories_may_be_excluded_and_that_wins(
        self, project: Path, excludes: list[str], path: str, counts: bool
    ) -> None:
        chosen = Chosen(Watched.of(["."], ["*.html"], excludes))
        assert chosen(str(project / path)) is counts

    def test_an_excluded_directory_may_be_written_as_a_whole_path(self, project: Path) -> None:
        chosen = Chosen(Watched.of(["."], [], [str(project / "app")]))
        assert not chosen(str(project / "app" / "deep" / "module.py"))
        assert chosen(str(project / "other" / "app" / "module.py"))

    def test_patterns_are_read_from_the_current_directory_whatever_is_watched(
        self, project: Path
    ) -> None:
        chosen = Chosen(Watched.of(["src"], [], ["src/generated"]))
        assert not chosen(str(project / "src" / "generated" / "code.py"))
        assert chosen(str(project / "src" / "code.py"))
        assert not chosen(str(project / "main.py"))

    def test_a_directory_that_is_asked_for_counts_though_it_is_hidden(self, project: Path) -> None:
        hidden = save(project / ".plugins" / "plugin.py")
        assert not Chosen(Watched.of(["."]))(str(hidden))
        assert Chosen(Watched.of([".", ".plugins"]))(str(hidden))
        assert Chosen(Watched.of(["."], [".plugins"]))(str(hidden))

    def test_a_file_that_is_included_by_its_path_may_stand_outside(self, project: Path) -> None:
        watched = Watched.of(["src"], [".env", "../shared.toml", "*.html"], files=["tls.pem"])
        outside = [project / "tls.pem", project / ".env", project.parent / "shared.toml"]
        assert watched.files == tuple(map(str, outside))
        assert all(map(Chosen(watched), watched.files))

    def test_what_is_watched_reaches_the_program_as_it_was(self, project: Path) -> None:
        watched = Watched.of(["."], ["a\udcff"], ["b"], ["c"], 0.5)
        assert Watched.from_json(watched.to_json()) == watched


class TestJoining:
    @staticmethod
    def batches(*ticks: tuple[float, str], delay: float = 1.0) -> list[set[str]]:
        """Each tick: the time, and the names of the files that changed."""
        now = 0.0

        def telling() -> Iterator[set[str]]:
            nonlocal now
            for time_, names in ticks:
                now = time_
                yield set(names.split())

        return list(joined(telling(), delay, lambda: now))

    def test_changes_close_together_are_one(self) -> None:
        ticks = [(0.0, "a"), (0.5, "b"), (1.2, "a"), (2.1, ""), (2.2, ""), (9.0, "")]
        assert self.batches(*ticks) == [{"a", "b"}]

    def test_changes_far_apart_are_several(self) -> None:
        assert self.batches((0, "a"), (1, ""), (2, "b"), (3, "")) == [{"a"}, {"b"}]

    def test_changes_that_never_cease_are_told_all_the_same(self) -> None:
        ticks = [(0.5 * number, "a") for number in range(20)]
        assert len(self.batches(*ticks)) == int(10 / (LONGEST_SECONDS + 1.5))

    def test_without_a_delay_each_is_told_at_once(self) -> None:
        assert self.batches((0, "a"), (0.1, "b"), delay=0) == [{"a"}, {"b"}]


class TestEyes:
    """With a library that has its say, and the real one's errors."""

    @staticmethod
    def watching(
        *says: Any, directory: Path, **watched: Any
    ) -> tuple[Iterator[set[str]], list[str], list[dict[str, Any]]]:
        told: list[str] = []
        calls: list[dict[str, Any]] = []
        answers = iter(says)

        def watch(*_roots: str, **options: Any) -> Iterator[Any]:
            calls.append(options)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                yield answer

        eyes = Eyes(Watched.of([str(directory)], **watched), lambda: False, told.append, watch)
        return eyes.ticks(), told, calls

    @pytest.mark.parametrize(
        "error",
        [
            OSError('OS file watch limit reached. about ["/x"]'),
            RuntimeError("Error creating recommended watcher: Too many open files (os error 24)"),
        ],
    )
    def test_at_the_limit_of_the_system_files_are_polled_and_that_is_told(
        self, error: Exception, tmp_path: Path
    ) -> None:
        ticks, told, calls = self.watching(error, {(1, str(tmp_path / "a.py"))}, directory=tmp_path)
        assert next(ticks) == {str(tmp_path / "a.py")}
        assert [call["force_polling"] for call in calls] == [None, True]
        assert len(told) == 1
        assert "\n" not in told[0]
        assert "fs.inotify.max_user_watches" in told[0]
        assert "WATCHFILES_FORCE_POLLING=1" in told[0]

    def test_other_errors_are_told_once_and_it_goes_on(self, tmp_path: Path) -> None:
        error = RuntimeError('Unable to decode path "/x" to string')
        ticks, told, calls = self.watching(
            error, error, {(2, str(tmp_path / "a.py"))}, directory=tmp_path
        )
        assert next(ticks) == {str(tmp_path / "a.py")}
        assert [call["force_polling"] for call in calls] == [None] * 3
        assert told == [
            f"watching files: {error} (with WATCHFILES_FORCE_POLLING=1 they are polled instead)"
        ]

    def test_files_in_a_directory_that_has_just_come_are_not_missed(self, tmp_path: Path) -> None:
        wanted = save(tmp_path / "new" / "deep" / "a.py")
        save(tmp_path / "new" / "node_modules" / "b.py")
        added, touched = {(1, str(tmp_path / "new"))}, {(2, str(tmp_path / "new"))}
        ticks, _, _ = self.watching(touched, added, directory=tmp_path)
        assert next(ticks) == set()
        assert next(ticks) == {str(wanted)}


class Program:
    """The program, and the lines that it has written."""

    def __init__(self, watched: Watched, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", watcher.__name__, watched.to_json()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def changed(self) -> list[list[str]]:
        return [line["changed"] for line in self.lines if "changed" in line]

    def wait(self, condition: Callable[[], Any], poke: Callable[[], object] = bool) -> None:
        """Wait for ``condition``; ``poke`` is called again and again meanwhile."""
        until = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < until, self.lines
            assert self.process.poll() is None, self.process.stderr
            poke()
            threading.Event().wait(0.05)

    def wait_until_watching(self, path: Path) -> None:
        """It watches when a change of ``path`` is told, and has nothing more to tell then.

        A rename is one event of the kernel, and the kernel tells events in their order: when
        the renamed file is told, so are all changes before it.
        """
        self.lines.clear()
        self.wait(self.changed, lambda: save(path, str(time.monotonic())))
        last = path.with_name("last.py")
        save(path.with_name("last.txt")).rename(last)
        self.wait(lambda: any(str(last) in files for files in self.changed()))
        self.lines.clear()

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it has printed."""
        assert self.process.stderr is not None
        with self.process:
            code = self.process.wait(DEADLINE)
            self._reader.join(DEADLINE)
            return code, self.process.stderr.read()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()


class TestProgram:
    @pytest.mark.slow
    @pytest.mark.parametrize("polling", ["0", "1"])
    def test_a_file_that_is_saved_twice_is_told_once(self, project: Path, polling: str) -> None:
        path = save(project / "main.py")
        environment = {"WATCHFILES_FORCE_POLLING": "1" if polling == "1" else ""}
        with Program(Watched.of(["."], delay=0.5), **environment) as program:
            program.wait_until_watching(project / "first.py")
            save(path, "1")
            save(path, "2")
            program.wait(program.changed)
            assert program.lines == [{"changed": [str(path)], "count": 1}]

    @pytest.mark.slow
    def test_many_files_are_one_line_that_names_a_few(self, project: Path) -> None:
        with Program(Watched.of(["."], delay=0.5)) as program:
            program.wait_until_watching(project / "first.py")
            for number in range(300):
                save(project / "package" / f"module{number}.py")
            program.wait(program.changed)
            (line,) = program.lines
            assert line["count"] == 300
            assert len(line["changed"]) == MOST_NAMED

    def test_what_does_not_count_is_not_told(self, project: Path) -> None:
        with Program(Watched.of(["."], ["*.html"])) as program:
            program.wait_until_watching(project / "first.py")
            for name in ("a.txt", ".git/index.py", "__pycache__/a.py", "b.html"):
                save(project / name)
            program.wait(program.changed)
            assert program.changed() == [[str(project / "b.html")]]

    def test_a_file_that_is_replaced_as_editors_do_is_told(self, project: Path) -> None:
        path = save(project / "main.py")
        with Program(Watched.of(["."])) as program:
            program.wait_until_watching(project / "first.py")
            os.replace(save(project / ".main.py.tmp"), path)
            program.wait(program.changed)
            assert program.changed() == [[str(path)]]

    def test_a_file_outside_is_told_when_it_comes_changes_and_goes(self, project: Path) -> None:
        outside = project.parent / "settings.env"
        (project / "src").mkdir()
        with Program(Watched.of(["src"], files=[str(outside)])) as program:
            program.wait_until_watching(project / "src" / "first.py")
            for count, change in enumerate((save, lambda path: save(path, "A=1"), os.unlink), 1):
                change(outside)
                program.wait(lambda count=count: len(program.changed()) == count)
            assert program.changed() == [[str(outside)]] * 3

    def test_what_has_changed_just_before_it_watches_is_told_too(self, project: Path) -> None:
        old = save(project / "old.py")
        new = save(project / "package" / "new.py")
        os.utime(old, (1, 1))
        outside = save(project.parent / "settings.env")
        since = new.stat().st_mtime - 1
        watched = Watched.of(["."], files=[str(outside)], delay=0.5)
        with Program(dataclasses.replace(watched, since=since)) as program:
            program.wait(program.changed)
            assert program.changed() == [[str(new), str(outside)]]

    def test_a_directory_that_goes_is_told_and_watched_again_when_it_is_back(
        self, project: Path
    ) -> None:
        source = project / "src"
        source.mkdir()
        with Program(Watched.of(["src"])) as program:
            program.wait_until_watching(source / "first.py")
            source.rename(project / "away")
            program.wait(lambda: program.lines)
            assert program.lines == [
                {"problem": f"{source} is gone: what is in it is watched as soon as it is back"}
            ]
            program.lines.clear()
            save(source / "main.py")
            program.wait(program.changed)
            assert program.changed()[0][0] == str(source)
            program.wait_until_watching(source / "main.py")

    def test_links_in_a_circle_do_no_harm(self, project: Path) -> None:
        (project / "package").mkdir()
        (project / "package" / "again").symlink_to(project)
        with Program(Watched.of(["."])) as program:
            program.wait_until_watching(project / "first.py")
            path = save(project / "package" / "a.py")
            program.wait(program.changed)
            assert str(path) in program.changed()[0]

    def test_a_name_that_is_not_text_is_told_and_it_goes_on(self, project: Path) -> None:
        with Program(Watched.of(["."])) as program:
            program.wait_until_watching(project / "first.py")
            with open(os.fsencode(project) + b"/\xff.py", "w"):
                pass
            program.wait(lambda: program.lines)
            assert "Unable to decode path" in program.lines[0]["problem"]
            program.wait_until_watching(project / "first.py")

    def test_it_ends_when_nobody_reads_any_more(self, project: Path) -> None:
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", watcher.__name__, Watched.of(["."]).to_json()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        os.close(reader)
        _, errors = process.communicate(timeout=DEADLINE)
        assert (process.returncode, errors) == (0, b"")

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_it_leaves_signals_to_the_process_that_started_it(
        self, project: Path, how: signal.Signals
    ) -> None:
        with Program(Watched.of(["."])) as program:
            program.wait_until_watching(project / "first.py")
            program.process.send_signal(how)
            program.wait_until_watching(project / "first.py")
