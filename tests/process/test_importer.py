"""Loading the application: what is found, and what is said where nothing is."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgiws.errors import AppLoadError, ConfigError
from asgiws.process.importer import load_app, trimmed_traceback

GOOD = "async def app(scope, receive, send):\n    await send({'type': scope['type']})\n"


@pytest.fixture(autouse=True)
def _interpreter_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Modules, import path and environment end with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = set(sys.modules)
    environ = dict(os.environ)
    importlib.invalidate_caches()
    yield
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(environ)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    importlib.invalidate_caches()


def load(app: Any, **options: Any) -> Any:
    return load_app(app, **options)


def refused(app: Any, **options: Any) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        load(app, **options)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return caught.value


def call(app: Any, scope_type: str = "http") -> list[Any]:
    """What the application sends."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"secret"}

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(app({"type": scope_type}, receive, send))
    return sent


class TestImportStrings:
    def test_a_module_of_the_current_directory_is_found(self) -> None:
        write("good.py", GOOD)
        assert call(load("good:app")) == [{"type": "http"}]

    def test_app_dir_comes_first(self) -> None:
        write("twice.py", "app = None\n")
        write("apps/twice.py", GOOD)
        assert call(load("twice:app", app_dir="apps")) == [{"type": "http"}]

    def test_modules_and_attributes_may_have_dots(self) -> None:
        write("pack/inner.py", "class holder:\n    " + GOOD.replace("\n", "\n    "))
        assert call(load("pack.inner:holder.app")) == [{"type": "http"}]

    @pytest.mark.parametrize(
        ("target", "guess"),
        [
            ("main", "main:app"),
            ("main:", "main:app"),
            (":app", "main:app"),
            ("main.py", "main:app"),
            ("main.py:application", "main:application"),
            ("./src/main.py", "src.main:app"),
            ("src/app.py", "src.app:app"),
            ("main.app", "main:app"),
            ("src.main", "src.main:app"),
        ],
    )
    def test_what_is_no_import_string_gets_the_one_that_was_meant(
        self, target: str, guess: str
    ) -> None:
        message = str(refused(target))
        assert message.startswith(f'"{target}" is not an import string')
        assert message.endswith(f'as in "{guess}"')

    def test_a_module_that_does_not_exist_is_named_with_the_place(self, tmp_path: Path) -> None:
        error = refused("nowhere:app")
        assert f"there is no module nowhere in {tmp_path}" in str(error)
        assert error.details == ""
        write("somewhere.py", GOOD)
        assert str(refused("somehwere:app")).endswith("; did you mean somewhere?")

    def test_a_package_without_the_module_is_told_likewise(self) -> None:
        write("pack/__init__.py", "")
        assert "there is no module pack.nowhere" in str(refused("pack.nowhere:app"))

    def test_a_module_that_the_application_misses_is_its_own_mistake(self) -> None:
        write("needy.py", "import not_installed_anywhere\n")
        error = refused("needy:app")
        assert "importing it failed: ModuleNotFoundError" in str(error)
        assert "not_installed_anywhere" in str(error)
        assert "needy.py" in error.details

    def test_an_attribute_that_does_not_exist_gets_the_one_that_was_meant(self) -> None:
        write("typo.py", GOOD)
        message = str(refused("typo:ap"))
        assert 'has no attribute "ap"; did you mean "app"?' in message
        assert "typo.py" in message
        assert "did you mean" not in str(refused("typo:xyzzy"))

    @pytest.mark.parametrize("target", ["main:app", "web:app", "web.app:app"])
    def test_an_application_in_another_file_may_have_been_meant(self, target: str) -> None:
        write("web/__init__.py", "")
        write("web/asgi.py", GOOD)
        assert str(refused(target)).endswith("; did you mean web.asgi:app?")

    def test_an_attribute_of_one_package_is_not_sought_in_another(self) -> None:
        write("web/__init__.py", "")
        write("main.py", GOOD)
        assert "did you mean" not in str(refused("web:xyzzy"))

    def test_a_module_may_fail_at_the_attribute(self) -> None:
        write("lazy.py", "def __getattr__(name):\n    raise RuntimeError('not today')\n")
        error = refused("lazy:app")
        assert "getting app failed: RuntimeError: not today" in str(error)
        assert "lazy.py" in error.details

    def test_nothing_typed_controls_the_terminal(self) -> None:
        assert "\x1b" not in str(refused("\x1b[1m:app"))
        assert "\x1b" not in str(refused("os:\x1b[1m"))


class TestRaising:
    def test_the_traceback_is_the_applications_alone(self) -> None:
        write("deep.py", "def fail():\n    raise RuntimeError('no database')\nfail()\n")
        error = refused("deep:app")
        assert str(error) == '"deep:app": importing it failed: RuntimeError: no database'
        assert error.details.count('File "') == 2
        assert error.details.count("deep.py") == 2
        assert error.details.startswith("Traceback (most recent call last):")
        assert error.details.endswith("RuntimeError: no database")

    def test_a_cause_is_shown_and_trimmed_too(self) -> None:
        write("inner_mistake.py", "1 / 0\n")
        write(
            "chained.py",
            "try:\n    import inner_mistake\n"
            "except ZeroDivisionError as e:\n"
            "    raise RuntimeError('first line\\nsecond') from e\n",
        )
        error = refused("chained:app")
        assert str(error).endswith("RuntimeError: first line")
        assert "ZeroDivisionError" in error.details
        assert "importlib" not in error.details
        assert error.details.count('File "') == 3

    def test_a_syntax_error_shows_the_line(self) -> None:
        write("broken.py", "x = 1\ndef app(:\n")
        error = refused("broken:app")
        assert "importing it failed: SyntaxError" in str(error)
        assert 'broken.py", line 2' in error.details
        assert "def app(:" in error.details

    def test_an_application_that_exits_while_imported_is_told(self) -> None:
        write("leaving.py", "import sys\nsys.exit('SECRET_KEY is not set')\n")
        assert "SystemExit: SECRET_KEY is not set" in str(refused("leaving:app"))

    def test_groups_of_exceptions_are_trimmed_inside(self) -> None:
        write("grouped.py", "def fail():\n    raise ValueError('inner')\n")
        sys.path.insert(0, os.getcwd())
        grouped = importlib.import_module("grouped")
        inner: list[Exception] = []
        try:
            grouped.fail()
        except ValueError as error:
            inner.append(error)
        details = trimmed_traceback(ExceptionGroup("several", inner))
        assert "several" in details
        assert "ValueError: inner" in details
        assert "grouped.py" in details


class TestFactories:
    def test_a_factory_is_called(self) -> None:
        write("made.py", GOOD + "def make():\n    return app\n")
        assert call(load("made:make", factory=True)) == [{"type": "http"}]

    @pytest.mark.parametrize(
        "code",
        [
            "def make(): return app",
            "def make(debug=False): return app",
            "def make(a=1, b=2, c=3): return app",
            "class make:\n    async def __call__(self, s, r, send): await app(s, r, send)",
        ],
    )
    def test_a_factory_nobody_announced_is_recognised(
        self, code: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("asgiws"), "propagate", True)
        write("unsaid.py", f"{GOOD}{code}\n")
        assert call(load("unsaid:make")) == [{"type": "http"}]
        assert "--factory" in caplog.text

    def test_a_factory_that_raises_shows_its_own_traceback(self) -> None:
        write("angry.py", "def make():\n    raise KeyError('DATABASE_URL')\n")
        error = refused("angry:make", factory=True)
        assert str(error) == "angry:make: the factory failed: KeyError: 'DATABASE_URL'"
        assert error.details.count('File "') == 1

    @pytest.mark.parametrize("target", ["plain:app", "plain:make"])
    def test_a_factory_must_not_need_arguments(self, target: str) -> None:
        write("plain.py", GOOD + "def make(settings):\n    return app\n")
        error = refused(target, factory=True)
        assert str(error) == (
            f"{target} cannot be called without arguments: "
            "leave out --factory if it is the application itself"
        )
        assert error.details == ""

    def test_an_async_factory_is_refused(self) -> None:
        write("later.py", GOOD + "async def make():\n    return app\n")
        assert "a factory must be an ordinary one" in str(refused("later:make", factory=True))

    def test_a_factory_of_something_else_is_refused(self) -> None:
        write("odd.py", "def make():\n    return 3\nthing = 3\n")
        assert str(refused("odd:make", factory=True)) == (
            "odd:make is an int, not an ASGI application"
        )
        assert "--factory needs something to call" in str(refused("odd:thing", factory=True))


class TestApplications:
    @pytest.mark.parametrize(
        ("code", "wanted"),
        [
            ("app = 3", "is an int, not an ASGI application"),
            ("app = 'text'", "is a str, not an ASGI application"),
            ("def app(environ, start_response): ...", "looks like a WSGI application"),
            ("def app(scope): ...", "looks like an ASGI 2 application"),
            ("async def app(): ...", "takes no arguments"),
            ("async def app(a, b, c, d): ...", "takes other arguments"),
        ],
    )
    def test_what_cannot_be_one_is_refused_with_what_it_seems_to_be(
        self, code: str, wanted: str
    ) -> None:
        write("strange.py", code + "\n")
        message = str(refused("strange:app"))
        assert message.startswith("strange:app ")
        assert wanted in message

    @pytest.mark.parametrize(
        "code",
        [
            GOOD,
            GOOD.replace("app", "inner") + "app = lambda s, r, send: inner(s, r, send)",
            GOOD.replace("app", "inner") + "def app(*args): return inner(*args)",
            "class App:\n    async def __call__(self, s, r, send):\n"
            "        await send({'type': s['type']})\napp = App()",
            "class app:\n    def __init__(self, s, r, send): self.s, self.send = s, send\n"
            "    def __await__(self): return self.send({'type': self.s['type']}).__await__()",
        ],
        ids=["function", "lambda", "any arguments", "instance", "awaitable class"],
    )
    def test_every_form_of_one_can_be_run_as_a_task(self, code: str) -> None:
        write("forms.py", code + "\n")
        app = load("forms:app")

        async def in_a_task(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.get_running_loop().create_task(app(scope, receive, send))

        assert call(in_a_task) == [{"type": "http"}]

    def test_the_application_itself_is_taken_as_it_is(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError

        assert load(app) is app


class TestEnvFile:
    def test_its_variables_are_there_when_the_application_is_imported(self) -> None:
        write("my.env", 'COLOUR_OF_THE_TEST="green"\nHOME=/elsewhere\n')
        write("reads.py", GOOD + "import os\nassert os.environ['COLOUR_OF_THE_TEST'] == 'green'\n")
        home = os.environ.get("HOME")
        os.environ.setdefault("HOME", "/here")
        load("reads:app", env_file="my.env")
        assert os.environ["COLOUR_OF_THE_TEST"] == "green"
        assert os.environ["HOME"] == (home or "/here")

    def test_without_dotenv_its_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write("my.env", "A=b\n")
        monkeypatch.setitem(sys.modules, "dotenv", None)
        with pytest.raises(ConfigError, match=r"my\.env: .*asgiws\[dotenv\]"):
            load("good:app", env_file="my.env")

    def test_a_file_that_is_no_text_is_told(self) -> None:
        Path("my.env").write_bytes(b"\xff\xfe=\x00")
        with pytest.raises(ConfigError, match=r"--env-file my\.env"):
            load("good:app", env_file="my.env")
