"""What the README and the docs say: their snippets run, their commands and links exist.

A snippet is a block of Python behind a line ``<!-- snippet: NAME -->``. Every one of them
must have a test here.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

import asgiws
from asgiws import testing, topics
from asgiws._build import COMPILED_MODULES
from asgiws.options.config import OPTIONS, UVICORN_ONLY

from .toolkit.builds import PURE
from .toolkit.raw_http import Client
from .toolkit.running import running
from .toolkit.served import Served

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in page.parts),
    *sorted(ROOT.glob("examples/*/README.md")),
]
# The application of those tests that import one.
TESTED = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"{body}"}})
"""
SNIPPET = re.compile(r"^<!-- snippet: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def snippets() -> dict[str, str]:
    found = [pair for page in PAGES for pair in SNIPPET.findall(page.read_text("utf-8"))]
    assert len(dict(found)) == len(found), "two snippets have one name"
    return dict(found)


def application(name: str) -> Any:
    """The ``app`` of a snippet."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(snippets()[name], f"<snippet {name}>", "exec"), names)
    return names["app"]


def readme_command(name: str) -> str:
    """The one line of a command block, as ``.ci/run`` takes it."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*)\n```$", text, re.MULTILINE)
    assert len(found) == 1, f"the README has {len(found)} commands called {name}"
    return str(found[0])


class TestSnippets:
    def test_each_of_them_has_a_test_below(self) -> None:
        assert sorted(snippets()) == [
            "asgi",
            "authenticate",
            # those of how-to/ but authenticate: tests/pages
            "binary",
            "broadcast-asgi",
            "broadcast-fastapi",
            "broadcast-litestar",
            "broadcast-presence",
            "broadcast-starlette",
            "embedding",
            "event-streams",
            "fastapi",
            "fastapi-readiness",
            "large-files",
            "many-rooms",
            "memory-measure",
            "metrics",
            # those of five-minutes.md: tests/pages
            "minutes-asgi",
            "minutes-django",
            "minutes-fastapi",
            "minutes-litestar",
            "minutes-starlette",
            "publish",
            "publish-anyio",
            "publish-program",
            "publish-route",
            "slow-clients",
            "slow-clients-client",
            "starlette-readiness",
            "testing-here",
            "testing-module",
            "testing-playwright",
            "testing-pytest",
            "testing-selenium",
            "testing-serve",
            "topics",
            "topics-history",
            "topics-listen",
            "topics-recording",
        ]
        marks = sum(page.read_text("utf-8").count("<!-- snippet:") for page in PAGES)
        assert marks == len(snippets()), "a mark has no Python behind it"

    def test_the_fastapi_application_echoes_until_the_client_leaves(
        self, package: ModuleType
    ) -> None:
        with running(application("fastapi"), package=package) as server:
            with connect(f"ws://127.0.0.1:{server.port}/echo") as websocket:
                for text in ("hello", "", "\N{SNAIL}" * 1000):
                    websocket.send(text)
                    assert websocket.recv(5) == text
            server.wait_until(lambda: not server.server.serving.tasks)

    def test_each_way_to_authenticate_lets_in_whom_it_knows_and_no_other(
        self, package: ModuleType
    ) -> None:
        with running(application("authenticate"), package=package) as server:
            url = f"ws://127.0.0.1:{server.port}"
            good, bad = "secret-of-ada", "secret-of-eve"

            def cookie(token: str) -> dict[str, str]:
                return {"Cookie": f"session={token}"}

            with connect(f"{url}/cookie", additional_headers=cookie(good)) as websocket:
                assert websocket.recv(5) == "hello ada"
            with connect(f"{url}/message") as websocket:
                websocket.send(good)
                assert websocket.recv(5) == "hello ada"
            offered = [Subprotocol("chat"), Subprotocol(good)]
            with connect(f"{url}/subprotocol", subprotocols=offered) as websocket:
                assert (websocket.subprotocol, websocket.recv(5)) == ("chat", "hello ada")

            with pytest.raises(InvalidStatus) as refused:
                connect(f"{url}/cookie", additional_headers=cookie(bad))
            assert refused.value.response.status_code == 401
            offered = [Subprotocol("chat"), Subprotocol(bad)]
            with pytest.raises(InvalidStatus) as refused:
                connect(f"{url}/subprotocol", subprotocols=offered)
            assert refused.value.response.status_code == 401
            with connect(f"{url}/message") as websocket:
                websocket.send(bad)
                with pytest.raises(ConnectionClosed):
                    websocket.recv(5)
                assert (websocket.close_code, websocket.close_reason) == (1008, "not allowed")

    def test_a_room_of_topics_reaches_everybody_but_who_speaks(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text(snippets()["topics"], "utf-8")
        command = ("asgiws", "main:app", "--port", "0", "--workers", "2")
        with Served(*command, cwd=tmp_path) as server:
            room = f"127.0.0.1:{server.port}/rooms/a"
            with connect(f"ws://{room}") as ada, connect(f"ws://{room}") as bob:
                words = {"text": "to all"}
                server.wait_until(lambda: httpx.post(f"http://{room}", params=words).json() == 2)

                def heard(by: ClientConnection) -> str:
                    while (text := str(by.recv(5))) == '{"text":"to all"}':
                        pass
                    return text

                ada.send("hello")
                assert heard(bob) == "hello"
                bob.send("bye")
                assert heard(ada) == "bye"  # and not her own words
            assert server.stop() == 0

    def test_a_client_that_comes_back_with_its_position_has_missed_nothing(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "main.py").write_text(snippets()["topics-history"], "utf-8")
        command = ("asgiws", "main:app", "--port", "0", "--workers", "2")
        with Served(*command, cwd=tmp_path) as server:
            room = f"ws://127.0.0.1:{server.port}/rooms/a"
            with connect(room) as ada:
                with connect(room) as bob:
                    assert "recovered" not in json.loads(bob.recv(5))
                    bob.send("seen")
                    seen = json.loads(bob.recv(5))
                assert json.loads(ada.recv(5))["subscribed"]
                ada.send("missed")
                while json.loads(ada.recv(5))["data"] != "missed":
                    pass
                with connect(f"{room}?since={seen['position']}") as bob:
                    assert json.loads(bob.recv(5))["recovered"]
                    assert json.loads(bob.recv(5))["data"] == "missed"
            assert server.stop() == 0

    async def test_what_a_listener_prints(self, capsys: pytest.CaptureFixture[str]) -> None:
        body = snippets()["topics-listen"]
        code = compile(body, "<snippet>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        listening = asyncio.ensure_future(eval(code, {"topics": topics}))
        while not (await topics.count("prices")).here:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await topics.publish("prices", json=12)
        printed = ""
        while "\n" not in printed:  # it is read by the task above
            await asyncio.sleep(0)
            printed += capsys.readouterr().out
        listening.cancel()
        assert printed == "prices 12 0\n"

    def test_what_was_published_is_recorded_for_a_test(self) -> None:
        code = compile(snippets()["topics-recording"], "<snippet>", "exec")
        with TestClient(application("topics")) as client:
            exec(code, {"client": client, "topics": topics})

    @pytest.mark.parametrize("name", ["fastapi-readiness", "starlette-readiness"])
    def test_readiness_turns_when_the_server_is_about_to_end(
        self, name: str, package: ModuleType
    ) -> None:
        with running(application(name), package=package) as server, Client(server) as client:
            assert client.get("/ready").status == 200
            server.server.shutdown(window=60.0, delay=60.0)
            server.wait_until(lambda: server.server.serving.notice.begun)
            assert client.get("/ready").status == 503
            server.shutdown()

    def test_a_websocket_says_good_bye(self, package: ModuleType) -> None:
        with (
            running(application("starlette-readiness"), package=package) as server,
            connect(f"ws://127.0.0.1:{server.port}/echo") as websocket,
        ):
            websocket.send("hello")
            assert websocket.recv(5) == "hello"
            server.server.shutdown(window=60.0, delay=60.0)
            assert re.fullmatch(r"this server ends within 1[12]\d s", str(websocket.recv(5)))
            server.shutdown()

    def test_the_plain_application_answers_in_capitals(self, package: ModuleType) -> None:
        with (
            running(application("asgi"), package=package) as server,
            connect(f"ws://127.0.0.1:{server.port}/") as websocket,
        ):
            websocket.send("hello")
            assert websocket.recv(5) == "HELLO"
            server.shutdown()
            with pytest.raises(ConnectionClosed):
                websocket.recv(5)
            assert websocket.close_code == 1012

    @pytest.mark.parametrize("pure", PURE)
    def test_the_embedded_server_starts_tells_its_url_and_stops(
        self, pure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "embedded.py"
        script.write_text(snippets()["embedding"], "utf-8")
        monkeypatch.setenv("ASGIWS_PURE", pure)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        result = subprocess.run(
            [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=30
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*\n", result.stdout)

    @pytest.mark.parametrize(
        ("name", "tests"),
        [
            ("testing-pytest", 2),
            ("testing-module", 1),
            ("testing-here", 1),
            pytest.param("testing-playwright", 2, marks=pytest.mark.slow),
            pytest.param("testing-selenium", 1, marks=pytest.mark.slow),
        ],
    )
    def test_the_tests_of_an_application_pass(self, name: str, tests: int, tmp_path: Path) -> None:
        body = "<title>Chat</title>" if name == "testing-selenium" else "hello"
        (tmp_path / "main.py").write_text(TESTED.format(body=body), "utf-8")
        (tmp_path / "test_app.py").write_text(snippets()[name], "utf-8")
        words = ["-m", "pytest", "-p", "asgiws.pytest_plugin", "-p", "no:cacheprovider"]
        result = subprocess.run(
            [sys.executable, *words, f"--rootdir={tmp_path}", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{tests} passed" in result.stdout

    def test_a_test_without_pytest_passes(self) -> None:
        assert application("testing-serve")


@pytest.mark.parametrize("module", [asgiws, topics, testing], ids=lambda module: module.__name__)
def test_the_page_of_the_api_has_every_public_name(module: ModuleType) -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    public = [name for name in module.__all__ if name != "__version__"]
    assert public
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []


class TestCommands:
    def test_they_come_before_everything_else_of_the_readme(self) -> None:
        text = (ROOT / "README.md").read_text("utf-8")
        first, second = text.index("<!-- command: example"), text.index("<!-- command: tests")
        assert first < second < text.index("\n## ")

    def test_the_first_one_serves_the_example_with_its_extra(self) -> None:
        words = readme_command("example").split()
        assert "'.[example]'" in words
        assert "example" in PYPROJECT["project"]["optional-dependencies"]
        assert (ROOT / words[words.index("--app-dir") + 1] / "app.py").is_file()

    def test_the_second_one_installs_what_the_tests_need_and_runs_them(self) -> None:
        command = readme_command("tests")
        assert "pip install -e '.[dev]'" in command
        assert command.endswith("pytest")
        assert readme_command("tests") in (ROOT / "CONTRIBUTING.md").read_text("utf-8")

    @pytest.mark.parametrize("page", PAGES, ids=ids)
    def test_every_option_of_a_command_line_exists(self, page: Path) -> None:
        served = re.findall(r"\basgiws \w+:\w+ (--.*)", page.read_text("utf-8"))
        known = {option.flag for option in OPTIONS} | {f"--{key}" for key in UVICORN_ONLY}
        known |= {f"--no-{option.key}" for option in OPTIONS if isinstance(option.default, bool)}
        assert set(re.findall(r"--[a-z][a-z0-9-]+", " ".join(served))) <= known


@pytest.mark.parametrize(
    ("page", "heading", "many"),
    [
        ("from-gunicorn.md", "## Option by option", 20),
        ("from-hypercorn.md", "## hypercorn", 15),
        ("from-hypercorn.md", "## daphne", 10),
    ],
)
def test_what_is_typed_instead_of_another_servers_options_exists(
    page: str, heading: str, many: int
) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    table = text.partition(heading)[2].partition("\n## ")[0]
    instead = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")]
    named = re.findall(r"--[a-z][a-z0-9_-]+", " ".join(instead))
    assert len(named) > many
    assert set(named) <= {option.flag for option in OPTIONS} | {"--config", "--no-access-log"}


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_to_something_in_the_repository(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{target} does not exist"
        assert aim.is_relative_to(ROOT), f"{target} is not part of the project"
        assert not anchor or anchor in anchors(aim), f"{target}: there is no such heading"


def said(node: ast.AST) -> list[str]:
    """The texts that an expression may give; … stands for what is only known when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%[sdgr]", "…", node.value)]
    if isinstance(node, ast.JoinedStr):
        parts = (said(part)[0] if isinstance(part, ast.Constant) else "…" for part in node.values)
        return ["".join(parts)]
    return []


def sources() -> list[ast.Module]:
    package = Path(asgiws.__file__).parent
    return [ast.parse(path.read_text("utf-8")) for path in sorted(package.rglob("*.py"))]


def messages() -> list[str]:
    """The first column of the tables of messages.md."""
    page = (ROOT / "docs" / "messages.md").read_text("utf-8")
    return re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)


def test_each_message_of_the_page_is_one_of_the_servers() -> None:
    texts = [text for tree in sources() for node in ast.walk(tree) for text in said(node)]
    assert len(messages()) > 90
    missing = [message for message in messages() if not any(message in text for text in texts)]
    assert missing == []


def test_each_warning_and_error_of_the_log_is_on_the_page() -> None:
    known = messages()
    logs = {"warning", "error", "exception"}
    raised = {"AppLoadError", "BindError", "LifespanError", "WorkerFailed", "StartupError"}
    told = []
    for node in (node for tree in sources() for node in ast.walk(tree)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func
        logged = isinstance(called, ast.Attribute) and called.attr in logs
        if logged or (isinstance(called, ast.Name) and called.id in raised):
            told += said(node.args[0])
    told = [text for text in told if re.search("[a-z]", text)]
    assert len(told) > 50
    missing = [text for text in told if not any(message in text for message in known)]
    assert missing == []


def test_the_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    block = text.partition("```\n")[2].partition("```")[0]
    named, compiled = set(), set()
    prefix = ""
    for line in block.splitlines()[1:]:
        if match := re.match(r"  (\w+)/", line):
            prefix = f"{match[1]}."
        elif match := re.match(r"    (\w+)/", line):
            prefix = f"{prefix}{match[1]}."
        elif match := re.match(r" +(\w+)\.py ", line):
            named.add(prefix + match[1])
            if line.endswith("[compiled]"):
                compiled.add(prefix + match[1])
    package = Path(asgiws.__file__).parent
    files = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if not path.name.startswith("_")
    }
    assert named == files
    assert compiled == set(COMPILED_MODULES)


def test_the_version_is_the_same_everywhere() -> None:
    declared = PYPROJECT["project"]["version"]
    assert asgiws.__version__ == declared
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert changes[0] == declared
    assert f"asgiws {declared}" in (ROOT / "docs" / "from-uvicorn.md").read_text("utf-8")
