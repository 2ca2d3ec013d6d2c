"""What could be served here: read out of files that are never imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgiws.errors import ConfigError
from asgiws.options.guess import guesses
from asgiws.options.sources import load

from ..toolkit.program import Program

FASTAPI = "from fastapi import FastAPI\n\nraise SystemExit('it was imported')\napp = FastAPI()\n"


def write(directory: Path, **files: str) -> None:
    for name, content in files.items():
        path = directory / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")


@pytest.mark.parametrize(
    ("content", "typed"),
    [
        (FASTAPI, "asgiws main:app"),
        ("app: object = 1", "asgiws main:app"),
        ("application = 1", "asgiws main:application"),
        ("async def app(scope, receive, send): ...", "asgiws main:app"),
        ("from chat import application as app", "asgiws main:app"),
        ("if True:\n    app = 1", "asgiws main:app"),
        (
            "try:\n    import fast\nexcept ImportError:\n    pass\nelse:\n    app = 1",
            "asgiws main:app",
        ),
        ("def create_app(): ...", "asgiws main:create_app --factory"),
        ("def create_app(): ...\napp = create_app()", "asgiws main:app"),
    ],
)
def test_an_application_is_known_by_its_name(tmp_path: Path, content: str, typed: str) -> None:
    write(tmp_path, main=content)
    assert [guess.typed for guess in guesses(str(tmp_path))] == [typed]


@pytest.mark.parametrize(
    "content", ["", "x = 1", "def f():\n    app = 1", "app = (", "\0", "app.x = 1"]
)
def test_a_file_without_one_gives_nothing(tmp_path: Path, content: str) -> None:
    write(tmp_path, main=content)
    assert guesses(str(tmp_path)) == []


def test_the_likely_places_come_first(tmp_path: Path) -> None:
    for name in ("mysite__asgi", "app__main", "my-app__main", "app", "main", "other"):
        write(tmp_path, **{name: "app = 1"})
    found = [(guess.file, guess.app) for guess in guesses(str(tmp_path))]
    assert found == [
        ("main.py", "main:app"),
        ("app.py", "app:app"),
        ("app/main.py", "app.main:app"),
        ("mysite/asgi.py", "mysite.asgi:app"),
    ]


@pytest.mark.parametrize(
    ("files", "table", "told"),
    [
        ({"main": FASTAPI}, None, "main.py has one, which `asgiws main:app` serves"),
        (
            {"main": FASTAPI, "app": "application = 1"},
            None,
            "which `asgiws main:app` serves; another may be `asgiws app:application`",
        ),
        (
            {"main": FASTAPI, "app": FASTAPI, "asgi": FASTAPI, "api": FASTAPI},
            None,
            "another may be `asgiws app:app` or `asgiws asgi:app`",
        ),
        (
            {"app": FASTAPI},
            "[tool.asgiws]\nport = 9000\n",
            'serves (or write app = "app:app" in pyproject.toml [tool.asgiws])',
        ),
        ({}, "[tool.asgiws]\nport = 9000\n", "give its import string, as in `asgiws main:app`"),
    ],
)
def test_the_command_line_says_what_to_type(
    tmp_path: Path, files: dict[str, str], table: str | None, told: str
) -> None:
    write(tmp_path, **files)
    if table is not None:
        (tmp_path / "pyproject.toml").write_text(table, "utf-8")
    with Program("asgiws", cwd=tmp_path) as program:
        assert program.wait_for_end() == 2
        (line,) = program.lines()
    assert line.startswith("Error: no application")
    assert told in line


def test_the_directory_of_the_application_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path, main=FASTAPI)
    with pytest.raises(ConfigError, match=f"`asgiws main:app --app-dir {tmp_path}` serves"):
        load({"app_dir": str(tmp_path)}, {})


def test_a_table_that_names_the_application_serves_it_and_the_log_says_so(tmp_path: Path) -> None:
    write(tmp_path, chat="async def app(scope, receive, send): ...")
    (tmp_path / "pyproject.toml").write_text('[tool.asgiws]\napp = "chat:app"\nport = 0\n', "utf-8")
    with Program("asgiws", cwd=tmp_path) as program:
        program.wait_for_line(r'The application is chat:app, from app = "chat:app" in pyproject')
        program.wait_until_serving()
        assert program.stop() == 0
