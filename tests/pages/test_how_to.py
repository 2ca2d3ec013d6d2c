"""docs/how-to/: the application of each page does what the page says."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ..browser.chromium import Window, chromium
from ..toolkit.raw_http import Client
from ..toolkit.served import ROOT, Served

SNIPPET = re.compile(r"^<!-- snippet: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"^<!-- script: (\S+) -->\n```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What shows a script of a page to a test: its console, in the page.
HEAD = """<!doctype html><link rel=icon href=data:,><ul id=seen></ul><script>
console.log = (...words) => {
  document.querySelector("#seen").innerHTML += "<li>" + words.join(" ");
};
"""


def page(name: str) -> str:
    return (ROOT / "docs" / "how-to" / f"{name}.md").read_text("utf-8")


def application(name: str, folder: Path, *, with_script: bool = False) -> None:
    """Write main.py as the page has it; with a route for a page that runs its script."""
    code = dict(SNIPPET.findall(page(name)))[name]
    if with_script:
        script = dict(SCRIPT.findall(page(name)))[name]
        (folder / "page.html").write_text(f"{HEAD}{script}</script>", "utf-8")
        code += (
            "\n\nfrom fastapi.responses import FileResponse\n"
            "app.get('/')(lambda: FileResponse('page.html'))\n"
        )
    (folder / "main.py").write_text(code, "utf-8")


@contextmanager
def serving(name: str, folder: Path, *options: str, with_script: bool = False) -> Iterator[Served]:
    """The application of a page, served as a user would."""
    application(name, folder, with_script=with_script)
    with Served("asgiws", "main:app", "--port", "0", *options, cwd=folder) as server:
        yield server
        assert server.stop() == 0
        assert not server.lines("ERROR|Traceback"), server.output


def dial(server: Served, path: str, *subprotocols: str) -> ClientConnection:
    offered = [Subprotocol(name) for name in subprotocols] or None
    return connect(f"ws://127.0.0.1:{server.port}{path}", subprotocols=offered)


def closes_with(code: int, websocket: ClientConnection) -> bool:
    with pytest.raises(ConnectionClosed):
        websocket.recv(5)
    return websocket.close_code == code


pytestmark = pytest.mark.slow  # 2 to 4 s each: a server in a process of its own


def test_a_publication_comes_from_everywhere(tmp_path: Path) -> None:
    with serving("publish", tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}"
        with dial(server, "/news") as ada, dial(server, "/news") as bob:

            def next_but_the_time(by: ClientConnection) -> object:
                while "time" in (news := json.loads(by.recv(5))):
                    pass
                return news

            assert "time" in json.loads(ada.recv(5))
            assert "time" in json.loads(bob.recv(5))
            assert httpx.post(f"{url}/news", params={"text": "a"}).json() == 2
            httpx.post(f"{url}/later", params={"text": "b"}).raise_for_status()
            assert httpx.post(f"{url}/computed", params={"text": "c"}).json() == 2
            for one in (ada, bob):
                heard = [next_but_the_time(one) for _ in range(3)]
                assert sorted(map(str, heard)) == [
                    "{'computed': 'c'}",
                    "{'later': 'b'}",
                    "{'posted': 'a'}",
                ]
            ada.send("d")
            assert next_but_the_time(bob) == {"said": "d"}
            bob.send("e")
            assert next_but_the_time(ada) == {"said": "e"}


def test_another_program_publishes_if_it_knows_the_secret(tmp_path: Path) -> None:
    text = page("publish")
    (tmp_path / "main.py").write_text(dict(SNIPPET.findall(text))["publish-route"], "utf-8")
    (tmp_path / "program.py").write_text(dict(SNIPPET.findall(text))["publish-program"], "utf-8")
    [line] = re.findall(r"^NEWS_TOKEN=(\w+) (asgiws .*)$", text, re.MULTILINE)
    [curl] = re.findall(r"^curl -X .*$", text, re.MULTILINE)
    token, command = line
    words = (*command.split(), "--port", "0")
    with Served(*words, cwd=tmp_path, NEWS_TOKEN=token) as server:
        url = f"http://127.0.0.1:{server.port}/internal/news"
        with dial(server, "/news") as ada:
            curl = curl.replace("http://127.0.0.1:8000/internal/news", url)

            def publishes(*command: str, token: str = token) -> str:
                ended = subprocess.run(
                    command,
                    cwd=tmp_path,
                    env={**os.environ, "NEWS_TOKEN": token, "NEWS_URL": url},
                    stdout=subprocess.PIPE,
                    text=True,
                    timeout=60,
                )
                return ended.stdout if ended.returncode == 0 else "refused"

            server.wait_until(lambda: publishes("sh", "-c", f"{curl} -sS --fail") == "1")
            assert ada.recv(5) == "hello"
            assert publishes(sys.executable, "program.py") == "clients: 1\n"
            assert ada.recv(5) == "hello"
            assert publishes("sh", "-c", f"{curl} -sS --fail".replace(token, "x")) == "refused"
        assert server.stop() == 0


def test_an_event_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    with serving("event-streams", tmp_path, with_script=True) as server:
        url = f"http://127.0.0.1:{server.port}"

        with chromium(tmp_path / "profile") as driver:
            window = Window(driver, f"{url}/")
            window.wait_until(lambda: httpx.post(f"{url}/news", params={"text": "0"}).json() == 1)
            window.see("#seen", " 0")
            position = window.texts("#seen li")[-1].split()[0]
            httpx.post(f"{url}/news", params={"text": "missed"}).raise_for_status()
            window.see("#seen", " missed")
        with httpx.stream("GET", f"{url}/news", headers={"Last-Event-ID": position}) as stream:
            said = (line for line in stream.iter_lines() if line.startswith("data:"))
            assert next(said) == "data: missed"


def test_a_large_file_goes_up_and_comes_back(tmp_path: Path) -> None:
    with serving("large-files", tmp_path) as server:
        film = tmp_path / "film.mp4"
        film.write_bytes(bytes(range(256)) * 40_000)
        up, down = re.findall(r"^curl .*$", page("large-files"), re.MULTILINE)
        back = tmp_path / "back"
        back.mkdir()
        for command, folder in ((up, tmp_path), (down, back)):
            words = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").split()
            subprocess.run([*words, "-sS", "--fail"], cwd=folder, check=True, timeout=60)
        assert (back / "film.mp4").read_bytes() == film.read_bytes()
        assert [path.name for path in (tmp_path / "files").iterdir()] == ["film.mp4"]

        url = f"http://127.0.0.1:{server.port}/files"
        part = httpx.get(f"{url}/film.mp4", headers={"Range": "bytes=256-511"})
        assert (part.status_code, part.content) == (206, bytes(range(256)))
        assert httpx.get(f"{url}/other").status_code == 404
        assert httpx.put(f"{url}/%2e%2e", content=b"").status_code in (400, 404)
        with Client(server) as client:
            client.send(b"PUT /files/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000001\r\n\r\na")
            assert client.read().status == 413


def test_the_server_sends_a_file_by_its_path(tmp_path: Path) -> None:
    with serving("large-files", tmp_path, "--pathsend") as server:
        content = bytes(range(256)) * 4000
        (tmp_path / "files" / "film.mp4").write_bytes(content)
        assert httpx.get(f"http://127.0.0.1:{server.port}/files/film.mp4").content == content


def test_a_board_shows_points_and_refuses_everything_else(tmp_path: Path) -> None:
    with serving("binary", tmp_path, with_script=True) as server:
        point = struct.Struct(">HHBB")
        with pytest.raises(InvalidStatus) as refused:
            dial(server, "/board")
        assert refused.value.response.status_code == 400
        bad = [
            ("text", 1003),
            (b"", 1007),
            (b"seven b", 1007),
            (bytes(6006), 1007),
            (b"\xff" * 6, 1008),
        ]
        for message, code in bad:
            with dial(server, "/board", "points.v1") as websocket:
                websocket.send(message)
                assert closes_with(code, websocket)
        with chromium(tmp_path / "profile") as driver, dial(server, "/board", "points.v1") as ada:
            window = Window(driver, f"http://127.0.0.1:{server.port}/")
            window.wait_until(lambda: driver.execute_script("return socket.readyState") == 1)
            driver.execute_script("draw(1, 65535, 3, 4)")
            assert ada.recv(5) == point.pack(1, 65535, 3, 4)
            ada.send(point.pack(5, 6, 7, 8) + point.pack(9, 10, 11, 12))
            window.wait_until(lambda: window.texts("#seen li") == ["5 6 7", "9 10 11"])


def test_one_connection_is_in_many_rooms(tmp_path: Path) -> None:
    with serving("many-rooms", tmp_path) as server:

        def do(websocket: ClientConnection, what: str, room: str, text: str = "") -> None:
            websocket.send(json.dumps({"do": what, "room": room, "text": text}))

        def members(room: str) -> object:
            return httpx.get(f"http://127.0.0.1:{server.port}/rooms/{room}").json()["members"]

        with dial(server, "/rooms") as ada, dial(server, "/rooms") as bob:
            for room in ("a", "b", "c"):
                do(ada, "enter", room)
            do(ada, "say", "c", "all in")
            assert json.loads(ada.recv(5)) == {"room": "c", "text": "all in"}
            do(bob, "enter", "b")
            do(bob, "say", "b", "hello")
            assert (
                json.loads(bob.recv(5)) == json.loads(ada.recv(5)) == {"room": "b", "text": "hello"}
            )
            assert [members(room) for room in "abcd"] == [1, 2, 1, 0]
            do(ada, "leave", "b")
            do(ada, "say", "a", "still here")
            assert json.loads(ada.recv(5)) == {"room": "a", "text": "still here"}
            assert members("b") == 1
            bob.send("nonsense")
            assert closes_with(1008, bob)
        server.wait_until(lambda: members("a") == 0)
