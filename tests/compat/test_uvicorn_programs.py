"""Frameworks that call uvicorn, each with its own command, served by asgiws, in Chromium."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import pytest

from ..browser.chromium import DEADLINE, Window
from ..toolkit.npm import npm_install
from ..toolkit.program import Program
from ..toolkit.served import Served
from .conftest import END

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "programs"
START = 60.0

Visit = Callable[[str], Window]


def free_port() -> int:
    """A port that nothing listens on: these frameworks want to be told one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(port: int, *command: str, **environment: str) -> Iterator[Program]:
    """``python -m asgiws.uvicorn COMMAND``, which answers as asgiws; Ctrl-C ends it quietly."""
    with pytest.MonkeyPatch.context() as patch:
        # NiceGUI behaves otherwise where it finds this.
        patch.delenv("PYTEST_CURRENT_TEST")
        program = Program("asgiws.uvicorn", *command, deadline=START, **environment)
    with program:
        program.port = port

        def answer() -> str | None:
            assert program.process.poll() is None, "".join(program.output)
            try:
                with urllib.request.urlopen(program.url, timeout=DEADLINE) as response:
                    return str(response.headers["server"])
            except (ConnectionError, urllib.error.URLError):
                return None  # not yet

        assert program.wait_until(answer) == "asgiws"
        yield program
        program.ctrl_c()
        program.deadline = END
        program.wait_for_end()
        output = "".join(program.output)
        assert not re.search("ERROR|Traceback|never retrieved|never awaited", output), output


def test_nicegui_with_its_reload(visit: Visit) -> None:
    port = free_port()
    with running(port, str(HERE / "nicegui_page.py"), str(port)) as program:
        window = visit(program.url)
        for number in (1, 2):
            window.see("#press", "PRESS").click()
            window.see("#pressed", f"pressed {number}")


def test_gradio(visit: Visit, tmp_path: Path) -> None:
    port = free_port()
    command = (str(HERE / "gradio_page.py"), str(port))
    environment = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(tmp_path)}
    with running(port, *command, **environment) as program:
        window = visit(program.url)
        window.see("#press", "press").click()
        window.see("#pressed", "pressed 3")


def test_shiny(visit: Visit) -> None:
    port = free_port()
    command = ("-m", "shiny", "run", "--port", str(port), str(HERE / "shiny_page.py"))
    with running(port, *command) as program:
        window = visit(program.url)
        window.see("#pressed", "pressed 0")
        window.see("#press", "press").click()
        window.see("#pressed", "pressed 1")


def test_datasette(visit: Visit, tmp_path: Path) -> None:
    database = tmp_path / "library.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table books (id integer primary key, title text)")
        connection.execute("insert into books (title) values ('The waves')")
    connection.close()
    port = free_port()
    with running(port, "-m", "datasette", str(database), "--port", str(port)) as program:
        visit(f"{program.url}/library/books").see("td.type-str", "The waves")


def test_fasthtml_with_its_reload(visit: Visit) -> None:
    port = free_port()
    with running(port, str(HERE / "fasthtml_page.py"), PORT=str(port)) as program:
        window = visit(program.url)
        for number in (1, 2):
            window.see("#press", "press").click()
            window.see("#pressed", f"pressed {number}")


def test_marimo(visit: Visit, tmp_path: Path) -> None:
    port = free_port()
    command = ("-m", "marimo", "run", str(HERE / "marimo_page.py"), "--headless")
    with running(port, *command, "--port", str(port), "--no-token") as program:
        window = visit(program.url)
        window.see("body", "pressed 0")
        button = "document.querySelector('marimo-button')?.shadowRoot?.querySelector('button')"
        window.wait_until(lambda: bool(window.driver.execute_script(f"return {button}")))
        window.driver.execute_script(f"{button}.click()")
        window.see("body", "pressed 1")


def test_streamlit(visit: Visit) -> None:
    port = free_port()
    command = ("-m", "streamlit", "run", str(HERE / "streamlit_page.py"), "--server.headless=true")
    told = (f"--server.port={port}", "--browser.gatherUsageStats=false")
    with running(port, *command, *told) as program:
        window = visit(program.url)
        for number in (0, 1, 2):
            window.see("[data-testid=stText]", f"pressed {number}")
            window.see("[data-testid=stButton] button", "press").click()
        window.see("[data-testid=stText]", "pressed 3")


def test_streamlit_as_an_asgi_application(visit: Visit, tmp_path: Path) -> None:
    script = HERE / "streamlit_page.py"
    (tmp_path / "main.py").write_text(f"import streamlit as st\n\napp = st.App({str(script)!r})\n")
    told = {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
    with Served("asgiws", "main:app", "--port", "0", cwd=tmp_path, **told) as server:
        window = visit(server.url)
        window.see("[data-testid=stButton] button", "press").click()
        window.see("[data-testid=stText]", "pressed 1")
        assert server.stop() == 0
        assert not server.lines("ERROR|Traceback"), server.output


def test_solara(visit: Visit, tmp_path: Path) -> None:
    # What its pages load from a public server, where this machine may not reach one.
    template = resources.files("solara").joinpath("server/templates/solara.html.j2").read_text()
    loaded = set(re.findall(r"{{cdn}}/((?:@\w+/)?[\w-]+@[\d.]+)/", template))
    assert loaded
    cache = tmp_path / "cdn"
    for package in loaded:
        where = tmp_path / package.replace("/", "-")  # they do not agree on what they need
        where.mkdir()
        npm_install(where, package)
        (cache / package).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(where / "node_modules" / package.rpartition("@")[0], cache / package)
    port = free_port()
    command = ("-m", "solara", "run", str(HERE / "solara_page.py"), "--port", str(port))
    told = {"SOLARA_ASSETS_PROXY_CACHE_DIR": str(cache)}
    with running(port, *command, "--no-open", **told) as program:
        window = visit(program.url)
        for number in (0, 1, 2):
            window.see("body", f"pressed {number}")
            window.see(".press").click()
        window.see("body", "pressed 3")
