"""The extensions of ASGI's HTTP that are announced: a file, trailers and early hints."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..toolkit.certificates import NO_TLS, Certificates
from ..toolkit.raw_http import Client, request
from ..toolkit.running import PARSERS, running

App = Callable[[Any, Any, Any], Any]
CONTENT = os.urandom(1_000_001)


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    return str(tmp_path / "a.bin")


def sends(*events: dict[str, Any], headers: Any = (), **start: Any) -> App:
    """An application that starts a response and sends ``events``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers, **start})
        for event in events:
            await send(event)

    return app


def pathsend(path: Any) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": path}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(*headers: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


# http.response.pathsend


def test_a_file_is_sent_with_its_length(loop: str, path: str) -> None:
    with running(sends(pathsend(path)), loop) as server, Client(server) as client:
        for _ in range(2):
            reply = client.get()
            assert reply.headers["content-length"] == str(len(CONTENT))
            assert reply.body == CONTENT
        assert client.get(method="HEAD").status == 200
        assert client.get("/", "Connection: close").body == CONTENT
        assert client.rest() == b""


def test_a_file_that_must_come_from_the_disk_is_the_same(
    loop: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    read = os.preadv

    def cold(descriptor: int, buffers: Any, at: int, flags: int = 0) -> int:
        threads.add(threading.current_thread().name)
        if at % 2 == 0 or at == len(CONTENT):
            raise BlockingIOError
        return read(descriptor, buffers, at, flags)

    monkeypatch.setattr(os, "preadv", cold)
    with running(sends(pathsend(path)), loop) as server, Client(server) as client:
        assert client.get().body == CONTENT
    assert threads


def test_a_file_goes_over_tls(loop: str, path: str, tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    options = {"ssl_certfile": made.chain, "ssl_keyfile": made.key}
    app = sends(pathsend(path))
    with running(app, loop, **options) as server, Client(server, tls=made.client()) as client:
        assert client.get().body == CONTENT


@pytest.mark.parametrize("parser", PARSERS)
def test_a_file_may_be_chunked_and_in_http_1_0_end_with_the_connection(
    loop: str, parser: str, path: str
) -> None:
    app = sends(pathsend(path), headers=[(b"transfer-encoding", b"chunked")])
    with running(app, loop, http=parser) as server:
        with Client(server) as client:
            assert client.get().body == CONTENT
        with Client(server) as client:
            client.send(request(version="1.0"))
            assert client.rest().partition(b"\r\n\r\n")[2] == CONTENT


def test_of_a_file_that_has_grown_as_much_is_sent_as_was_said(loop: str, path: str) -> None:
    app = sends(pathsend(path), headers=[(b"content-length", b"300000")])
    with running(app, loop) as server, Client(server) as client:
        assert client.get().body == CONTENT[:300_000]
        assert client.get().body == CONTENT[:300_000]


def test_a_file_that_has_shrunk_ends_visibly_too_early(loop: str, path: str) -> None:
    app = sends(pathsend(path), headers=[(b"content-length", b"2000000")])
    with running(app, loop) as server, Client(server) as client:
        client.send(request("Host: a"))
        assert client.read_head().headers["content-length"] == "2000000"
        assert client.rest() == CONTENT


@pytest.mark.parametrize("wrong", [None, b"/etc/passwd", 5])
def test_a_path_is_a_str(loop: str, wrong: Any) -> None:
    with running(sends(pathsend(wrong)), loop) as server, Client(server) as client:
        assert client.get().status == 500


def test_a_file_that_cannot_be_read_is_the_application_s_to_answer_for(
    loop: str, tmp_path: Path
) -> None:
    for missing in (tmp_path, tmp_path / "missing"):
        with running(sends(pathsend(str(missing))), loop) as server, Client(server) as client:
            assert client.get().status == 500


def test_no_file_follows_a_piece_of_a_body(loop: str, path: str) -> None:
    app = sends(body(b"a", True), pathsend(path))
    with running(app, loop) as server, Client(server) as client:
        client.send(request("Host: a"))
        client.read_head()
        assert client.read_chunk() == b"a"
        assert client.rest() == b""


def test_a_client_that_leaves_in_the_middle_leaves_no_file_open(loop: str, path: str) -> None:
    done = threading.Event()
    serve = sends(pathsend(path))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await serve(scope, receive, send)
        done.set()

    with open(path, "r+b") as file:
        file.truncate(100_000_000)
    with running(app, loop) as server:
        with Client(server, receive_buffer=4096) as client:
            client.send(request("Host: a"))
            client.read_head()
        assert done.wait(5)
        files = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
        assert path not in files


def test_starlette_s_file_response_with_a_client_and_ranges(loop: str, path: str) -> None:
    told: list[Any] = []

    async def endpoint(request: Any) -> FileResponse:
        told.append(request.scope["extensions"])
        return FileResponse(path)

    app = Starlette(
        routes=[Route("/", endpoint)], middleware=[Middleware(GZipMiddleware, minimum_size=10)]
    )
    with running(app, loop, pathsend=True) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with httpx.Client(trust_env=False, verify=NO_TLS) as client:
            for coding in ("identity", "gzip"):
                reply = client.get(url, headers={"Accept-Encoding": coding})
                assert reply.content == CONTENT
            part = client.get(url, headers={"Range": "bytes=5-9"})
            assert (part.status_code, part.content) == (206, CONTENT[5:10])
            assert client.head(url).headers["content-length"] == str(len(CONTENT))
    assert "http.response.pathsend" in told[0]


def test_files_pass_all_kinds_of_middleware(loop: str, path: str) -> None:
    """Some hand events from task to task, so that the head leaves before the path comes."""

    async def endpoint(request: Any) -> FileResponse:
        return FileResponse(path)

    async def passes(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Passed"] = "yes"
        return response

    middleware = [
        Middleware(BaseHTTPMiddleware, dispatch=passes),
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(GZipMiddleware, minimum_size=10),
    ]
    routes = [Route("/", endpoint), Mount("/static", StaticFiles(directory=Path(path).parent))]
    app = Starlette(routes=routes, middleware=middleware)
    with (
        running(app, loop, pathsend=True) as server,
        httpx.Client(trust_env=False, verify=NO_TLS) as client,
    ):
        for target in ("/", "/static/a.bin"):
            reply = client.get(f"http://127.0.0.1:{server.port}{target}")
            assert reply.content == CONTENT
            assert reply.headers["x-passed"] == "yes"


def test_a_middleware_that_knows_only_bodies_gets_bodies(loop: str, path: str) -> None:
    """As some that compress, it keeps the start until a body comes, and drops all else."""

    class Compressing:
        def __init__(self, app: App) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            kept = []

            async def pass_on(event: Any) -> None:
                if event["type"] == "http.response.start":
                    kept.append(event)
                elif event["type"] == "http.response.body":
                    for each in (*kept, event):
                        await send(each)
                    kept.clear()

            await self.app(scope, receive, pass_on)

    app = Compressing(FileResponse(path))
    with running(app, loop) as server, Client(server) as client:
        assert client.get().body == CONTENT


def test_a_file_may_come_when_the_head_has_left(loop: str, path: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):  # turns of the event loop
            await asyncio.sleep(0)
        await send(pathsend(path))

    with running(app, loop) as server, Client(server) as client:
        reply = client.get()
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.body == CONTENT


# http.response.trailers


def trailed(*events: dict[str, Any], headers: Any = ()) -> App:
    return sends(*events, headers=headers, trailers=True)


WANTS = ("Host: a", "TE: trailers")


@pytest.mark.parametrize("parser", PARSERS)
def test_trailers_follow_the_body_of_a_client_that_wants_them(loop: str, parser: str) -> None:
    app = trailed(
        body(b"abc", True),
        body(b"de"),
        trailers((b"Digest", b"x"), more=True),
        trailers((b"b", b"c")),
        headers=[(b"content-length", b"5")],
    )
    with running(app, loop, http=parser) as server, Client(server) as client:
        for _ in range(2):
            client.send(request(*WANTS))
            head = client.read_head()
            assert head.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in head.headers
            assert [client.read_chunk(), client.read_chunk()] == [b"abc", b"de"]
            lines = [client.file.readline() for _ in range(4)]
            assert lines == [b"0\r\n", b"digest: x\r\n", b"b: c\r\n", b"\r\n"]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("lines", "version", "method"),
    [
        (("Host: a",), "1.1", "GET"),
        (("Host: a", "TE: gzip"), "1.1", "GET"),
        (("Host: a", "TE: trailers", "Connection: keep-alive"), "1.0", "GET"),
        (WANTS, "1.1", "HEAD"),
    ],
)
def test_trailers_are_dropped_where_nobody_wants_them(
    loop: str, parser: str, lines: tuple[str, ...], version: str, method: str
) -> None:
    done = threading.Event()
    answer = trailed(body(b"abc"), trailers((b"a", b"b")), headers=[(b"content-length", b"3")])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)
        done.set()

    with running(app, loop, http=parser) as server, Client(server) as client:
        client.send(request(*lines, "Connection: close", version=version, method=method))
        head, _, rest = client.rest().partition(b"\r\n\r\n")
        assert b"a: b" not in head + rest
        assert rest == (b"" if method == "HEAD" else b"abc")
        assert done.wait(5)


@pytest.mark.parametrize(
    "wrong",
    [
        trailers((b"content-length", b"3")),
        trailers((b"a\r\nb", b"c")),
        trailers((b"a", b"b\r\nc")),
        body(b"more"),
    ],
)
def test_wrong_trailers_end_the_connection_too_early(loop: str, wrong: dict[str, Any]) -> None:
    with running(trailed(body(b"abc"), wrong), loop) as server, Client(server) as client:
        client.send(request(*WANTS))
        client.read_head()
        assert client.read_chunk() == b"abc"
        assert client.rest() == b"0\r\n"


def test_trailers_that_were_not_announced_are_a_mistake(loop: str) -> None:
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sends(body(b"abc"))(scope, receive, send)
        try:
            await send(trailers())
        except RuntimeError as exc:
            raised.append(str(exc))

    with running(app, loop) as server, Client(server) as client:
        assert client.get().body == b"abc"
        assert client.get().body == b"abc"
    assert "the response is complete" in raised[0]


# http.response.early_hint


def hint(*links: Any) -> dict[str, Any]:
    return {"type": "http.response.early_hint", "links": links}


STYLE = b"</style.css>; rel=preload; as=style"


def hinting(*hints: dict[str, Any]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for event in hints:
            await send(event)
        await sends(body(b"abc"))(scope, receive, send)

    return app


@pytest.mark.parametrize("parser", PARSERS)
def test_hints_come_before_the_response(loop: str, parser: str) -> None:
    app = hinting(hint(STYLE, b"</a.js>"), hint(), hint(b"</b.js>"))
    with running(app, loop, http=parser) as server:
        with Client(server) as client:
            for _ in range(2):
                client.send(request("Host: a"))
                first = client.read_head()
                assert (first.status, first.names) == (103, ["link", "link"])
                assert client.read_head().headers == {"link": "</b.js>"}
                assert client.read().body == b"abc"
        url = f"http://127.0.0.1:{server.port}/"
        assert httpx.get(url, trust_env=False, verify=NO_TLS).text == "abc"


@pytest.mark.parametrize("parser", PARSERS)
def test_a_client_of_http_1_0_gets_no_hints(loop: str, parser: str) -> None:
    with running(hinting(hint(STYLE)), loop, http=parser) as server, Client(server) as client:
        client.send(request(version="1.0"))
        assert client.rest().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("wrong", [hint("a"), hint(b"a\r\nb: c"), {**hint(), "links": b"a"}])
def test_wrong_hints_are_not_sent(loop: str, wrong: dict[str, Any]) -> None:
    with running(hinting(wrong), loop) as server, Client(server) as client:
        assert client.get().status == 500


def test_hints_do_not_come_behind_the_head(loop: str) -> None:
    with running(sends(hint(STYLE)), loop) as server, Client(server) as client:
        assert client.get().status == 500
