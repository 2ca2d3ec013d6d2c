"""Programs that call uvicorn, served by asgiws, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from .fanout.brokers.redis_server import RedisServer
from .toolkit.builds import PURE
from .toolkit.certificates import Certificates, for_two_threads
from .toolkit.program import ROOT, Program
from .toolkit.raw_http import GET, Client, Reply, request

GUARD = 'if __name__ == "__main__":\n'
#: What every script begins with.
HEAD = "import uvicorn\nfrom tests.uvicorn_app import app, broken\n"


def program(directory: Path, text: str, *options: str, **environment: Any) -> Program:
    """A script that calls uvicorn, run by ``python -m asgiws.uvicorn``."""
    script = directory / "script.py"
    script.write_text(HEAD + text, "utf-8")
    return Program("asgiws.uvicorn", str(script), *options, **environment)


def run(directory: Path, options: str = "", app: str = "app", **environment: Any) -> Program:
    """The same for a script that does nothing but to call ``uvicorn.run``."""
    return program(directory, f"{GUARD}    uvicorn.run({app}, port=0, {options})\n", **environment)


def get(program: Program, *lines: str, tls: ssl.SSLContext | None = None) -> Reply:
    with Client(program, tls=tls) as client:  # type: ignore[arg-type]
        client.send(request("Host: localhost", *lines))
        return client.read()


def told(reply: Reply) -> Any:
    """What the application says of its scope; that asgiws has answered is checked."""
    assert reply.status == 200
    assert reply.headers["server"] == "asgiws"
    return json.loads(reply.body)


def closed_with(program: Program, path: str = "/raise", **options: Any) -> int:
    """The code that a WebSocket is closed with by whoever serves the application."""
    with connect(program.ws_url + path, **options) as websocket:
        with pytest.raises(ConnectionClosed) as ending:
            websocket.recv(10)
        assert ending.value.rcvd is not None
        return ending.value.rcvd.code


@pytest.mark.parametrize("pure", PURE)
def test_what_uvicorn_runs_is_served_by_asgiws_and_ends_as_with_uvicorn(
    tmp_path: Path, loop: str, pure: str
) -> None:
    with run(tmp_path, f"loop={loop!r}", ASGIWS_PURE=pure) as server:
        server.wait_until_serving()
        scope = told(get(server))
        assert scope["state"] == {"begun": True}
        assert scope["pid"] == server.process.pid
        assert closed_with(server) == 1011  # 1006 under uvicorn
        with connect(f"{server.ws_url}/echo") as websocket:
            websocket.send("hello")
            assert websocket.recv(10) == "hello"
            server.send(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as ending:
                websocket.recv(10)
            assert ending.value.rcvd is not None
            assert ending.value.rcvd.code == 1012
        assert server.wait_for_end() == -signal.SIGTERM
        output = "".join(server.output)
    kind = "pure Python" if pure == "1" else "compiled|pure Python"
    assert re.search(rf"INFO: +Serving with asgiws, ({kind}), ", output)
    assert "Uvicorn running on http://127.0.0.1:" in output
    assert re.search("Shutting down(.|\n)*application ends\nINFO: .*shutdown complete", output)
    assert re.search(r'INFO: +127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200', output)
    assert output.count("Traceback") == output.count("RuntimeError: boom") == 1


def test_ctrl_c_ends_it_and_a_second_one_does_not_wait_for_requests(tmp_path: Path) -> None:
    with run(tmp_path) as server:
        server.wait_until_serving()
        server.ctrl_c()
        assert server.wait_for_end() == 0
        assert server.lines("application ends")
        assert not server.lines("Traceback")
    with run(tmp_path) as server:
        server.wait_until_serving()
        with Client(server) as client:  # type: ignore[arg-type]
            client.send(request("Host: localhost", target="/hang"))
            server.wait_for_line("hangs")
            server.ctrl_c()
            server.wait_for_line("Waiting for 1 connection")
            server.ctrl_c()
            assert server.wait_for_end() == 0
        assert not server.lines("application ends")  # as with uvicorn


def test_a_request_that_does_not_end_is_cancelled_when_uvicorns_time_is_over(
    tmp_path: Path,
) -> None:
    with run(tmp_path, "timeout_graceful_shutdown=1") as server:
        server.wait_until_serving()
        with Client(server) as client:  # type: ignore[arg-type]
            client.send(request("Host: localhost", target="/hang"))
            server.wait_for_line("hangs")
            server.send(signal.SIGTERM)
            assert server.wait_for_end() == -signal.SIGTERM
        assert server.lines("Cancelling 1 call")
        assert server.lines("application ends")


IN_A_THREAD = """
import asyncio, contextlib, sys, threading, time
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
import asgiws.uvicorn

class Server(uvicorn.Server):
    def install_signal_handlers(self):
        pass

    async def startup(self, sockets=None):
        print("before startup", self.started, self.config.loaded)
        await super().startup(sockets)
        print("after startup", self.started)

    async def shutdown(self, sockets=None):
        print("before shutdown", len(self.server_state.connections))
        await super().shutdown(sockets)
        print("after shutdown", len(self.server_state.connections))

asgiws.uvicorn.install()
asgiws.uvicorn.install()
server = Server(uvicorn.Config(app, port=0, loop=sys.argv[1], access_log=False))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
[entrance] = server.servers
port = entrance.sockets[0].getsockname()[1]
print(entrance.is_serving(), server.lifespan.state, server.force_exit)
with connect(f"ws://127.0.0.1:{port}/echo") as websocket:
    websocket.send("hello")
    websocket.recv()
    print(len(server.server_state.connections), len(server.server_state.tasks),
          server.server_state.total_requests)
    server.should_exit = True
    try:
        websocket.recv()
    except ConnectionClosed as closed:
        print(closed.rcvd.code)
thread.join()
print(entrance.is_serving(), entrance.sockets, threading.active_count())
"""


def test_a_server_in_a_thread_with_hooks_finds_what_uvicorn_shows_and_ends_by_should_exit(
    tmp_path: Path, loop: str
) -> None:
    (tmp_path / "script.py").write_text(HEAD + IN_A_THREAD, "utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "script.py"), loop],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stdout.splitlines()) == (
        0,
        [
            "before startup False True",
            "application begins",
            "after startup True",
            "True {'begun': True} False",
            "1 1 1",
            "before shutdown 1",
            "1012",
            "application ends",
            "after shutdown 0",
            "False () 1",
        ],
    ), result.stderr
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr


def test_a_server_that_did_not_start_with_asgiws_ends_as_it_has_started(tmp_path: Path) -> None:
    text = """
import asyncio, asgiws.uvicorn
async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    asgiws.uvicorn.install()
    server.should_exit = True
    await serving
asyncio.run(main())
"""
    (tmp_path / "script.py").write_text(HEAD + text, "utf-8")
    with Program("script", cwd=tmp_path) as server:
        assert server.wait_for_end() == 0
        assert server.lines("application ends")
        assert not server.lines("Serving with asgiws")


def test_topics_are_those_of_the_lifespan_too_and_of_each_server_its_own(tmp_path: Path) -> None:
    text = """
import asyncio
from asgiws import topics

heard = []

async def listen(begun):
    async with topics.listen("prices") as messages:
        begun.set()
        async for message in messages:
            heard.append(message.data)

async def topical(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        begun = asyncio.Event()
        listening = asyncio.ensure_future(listen(begun))
        await begun.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("told at the end", await topics.publish("prices", text="last"))
        listening.cancel()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        told = await topics.publish("prices", text="one")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(told).encode()})

async def main():
    both = [uvicorn.Server(uvicorn.Config(topical, port=0)) for _ in range(2)]
    await asyncio.gather(*(server.serve() for server in both))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("heard", heard)
"""
    with program(tmp_path, text) as server:
        server.wait_until_serving()
        server.wait_until_serving()
        assert get(server).body == b"1"
        server.ctrl_c()
        assert server.wait_for_end() == 0
        assert server.lines("told at the end") == ["told at the end 1\n"] * 2
        assert server.lines(r"heard \['one'")


TOPICAL = """
import os
from asgiws import topics

async def topical(scope, receive, send):
    if scope["type"] == "lifespan":
        raise LookupError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        async with topics.listen("prices") as messages:
            await send({"type": "websocket.send", "text": str(os.getpid())})
            async for message in messages:
                await send({"type": "websocket.send", "text": message.data})
    else:
        told = await topics.publish("prices", text="one")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(told).encode()})

if __name__ == "__main__":
    uvicorn.run("script:topical", port=0, workers=2, timeout_graceful_shutdown=0)
"""


def test_workers_of_uvicorn_meet_at_the_broker_that_the_environment_names(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "redis") as redis,
        program(tmp_path, TOPICAL, ASGIWS_TOPICS_URL=redis.url) as server,
        ExitStack() as stack,
    ):
        server.wait_until_serving()
        server.wait_for_count("Serving with asgiws", 2)
        listeners: dict[str, Any] = {}
        while len(listeners) < 2:
            websocket = connect(server.ws_url).__enter__()
            if listeners.setdefault(websocket.recv(10), websocket) is websocket:
                stack.callback(websocket.close)
            else:
                websocket.close()
        server.wait_until(lambda: get(server).body == b"2", "a publish to both workers")
        for websocket in listeners.values():
            assert websocket.recv(10) == "one"
        server.ctrl_c()
        assert server.wait_for_end() == 0


def test_options_that_only_asgiws_has_come_from_the_environment_and_a_mistake_ends_the_start(
    tmp_path: Path,
) -> None:
    options = {"ASGIWS_WS_ORIGINS": "https://example.org", "ASGIWS_PORT": "1"}
    with run(tmp_path, **options) as server:
        server.wait_until_serving()
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"{server.ws_url}/echo", origin="https://evil.example").__enter__()
        with connect(f"{server.ws_url}/echo", origin="https://example.org"):
            pass
    with run(tmp_path, ASGIWS_TOPICS_URL="http://example.org") as server:
        assert server.wait_for_end() == 3
        assert server.lines("ERROR.*ASGIWS_TOPICS_URL")
        assert not server.lines("Traceback")


def test_sockets_that_are_given_are_listened_on_and_closed(tmp_path: Path) -> None:
    text = """
import asyncio, socket
sockets = [socket.socket(), socket.socket()]
for sock in sockets:
    sock.bind(("127.0.0.1", 0))
print("http://ports:%d" % sockets[0].getsockname()[1])
print("http://ports:%d" % sockets[1].getsockname()[1])
server = uvicorn.Server(uvicorn.Config(app))
try:
    asyncio.run(server.serve(sockets=sockets))
except KeyboardInterrupt:
    print(len(server.servers), [sock.fileno() for sock in sockets])
"""
    with program(tmp_path, text) as server:
        ports = [int(server.wait_for_line(r"ports:(\d+)")[1]) for _ in range(2)]
        server.wait_for_line("Serving with asgiws")
        for server.port in ports:
            told(get(server))
        server.send(signal.SIGINT)
        assert server.wait_for_end() == 0
        assert server.lines(r"2 \[-1, -1\]")


def test_a_unix_socket_is_open_to_all_or_as_its_file_was_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with run(tmp_path, f"uds={str(path)!r}") as server:
        server.wait_for_line("Uvicorn running on unix socket")
        assert path.stat().st_mode & 0o777 == 0o666
        with Client(str(path)) as client:
            client.send(GET)
            told(client.read())
        assert server.stop(signal.SIGINT) == 0
    assert not path.exists()

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o600)
    with run(tmp_path, f"uds={str(path)!r}") as server:
        server.wait_for_line("Uvicorn running on unix socket")
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("trusted", ["*", "127.0.0.0/8", "192.0.2.1"])
def test_uvicorn_decides_which_proxies_are_believed_and_the_access_log_has_the_client(
    tmp_path: Path, trusted: str
) -> None:
    believed = trusted != "192.0.2.1"
    with run(tmp_path, f"forwarded_allow_ips={trusted!r}") as server:
        server.wait_until_serving()
        lines = ["X-Forwarded-For: 198.51.100.7:4711", "X-Forwarded-Proto: https"]
        scope = told(get(server, *lines))
        headers = {"X-Forwarded-For": "198.51.100.8, 127.0.0.9"}
        assert closed_with(server, additional_headers=headers) == 1011
        assert server.stop(signal.SIGINT) == 0
        assert (scope["scheme"] == "https") == believed
        assert (scope["client"] == ["198.51.100.7", 4711]) == believed
        assert bool(server.lines(r'198\.51\.100\.7:4711 - "GET / HTTP/1\.1" 200')) == believed
        assert bool(server.lines(r'198\.51\.100\.8:0 - "WebSocket /raise ')) == believed
        assert bool(server.lines(r'127\.0\.0\.1:\d+ - "GET')) != believed


def test_the_peer_of_a_unix_socket_is_not_believed_unless_all_are(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for trusted, client in ("127.0.0.1", None), ("*", ["198.51.100.7", 0]):
        with run(tmp_path, f"uds={str(path)!r}, forwarded_allow_ips={trusted!r}") as server:
            server.wait_for_line("Uvicorn running on unix socket")
            with Client(str(path)) as peer:
                peer.send(request("Host: localhost", "X-Forwarded-For: 198.51.100.7"))
                assert told(peer.read())["client"] == client
            assert server.stop(signal.SIGINT) == 0
            assert bool(server.lines(r'198\.51\.100\.7:0 - "GET')) == (trusted == "*")


def test_a_file_descriptor_is_listened_on_and_stays_open(tmp_path: Path) -> None:
    text = """
import os, sys
uvicorn.run(app, fd=int(sys.argv[1]))
os.fstat(int(sys.argv[1]))
print("still open")
"""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        fd = sock.fileno()
        with program(tmp_path, text, str(fd), pass_fds=[fd]) as server:
            server.wait_for_line("Uvicorn running on socket")
            server.port = sock.getsockname()[1]
            told(get(server))
            assert server.stop(signal.SIGINT) == 0
            assert server.lines("still open")


@pytest.mark.parametrize("how", ["files", "factory"])
def test_tls_is_as_uvicorns_config_says(tmp_path: Path, how: str) -> None:
    certificates = Certificates(tmp_path)
    client = certificates.client()
    options = f"ssl_certfile={certificates.chain!r}, ssl_keyfile={certificates.key!r}"
    if how == "factory":
        options += ", ssl_context_factory=lambda config, make: make()"
    with run(tmp_path, options) as server:
        server.wait_until_serving()
        assert server.lines("Uvicorn running on https://")
        assert told(get(server, tls=client))["scheme"] == "https"
        url = f"wss://127.0.0.1:{server.port}/raise"
        with (
            connect(url, ssl=for_two_threads(client)) as websocket,
            pytest.raises(ConnectionClosed) as ending,
        ):
            websocket.recv(10)
        assert ending.value.rcvd is not None
        assert ending.value.rcvd.code == 1011
        assert server.stop(signal.SIGINT) == 0


def test_uvicorns_loggers_with_their_filters_and_handlers_have_what_asgiws_logs(
    tmp_path: Path,
) -> None:
    text = f"""
import logging
settings = uvicorn.config.LOGGING_CONFIG
settings["handlers"]["file"] = {{"class": "logging.FileHandler", "filename": "log"}}
settings["handlers"]["file"]["formatter"] = "plain"
settings["formatters"]["plain"] = {{"format": "%(name)s %(levelname)s %(message)s"}}
settings["loggers"]["uvicorn.access"]["handlers"] = ["file"]
settings["loggers"]["uvicorn"]["handlers"] = ["file"]
settings["disable_existing_loggers"] = True
logging.getLogger("uvicorn.access").addFilter(lambda record: record.args[2] != "/health")
{GUARD}    uvicorn.run(app, port=0, log_config=settings)
"""
    log = tmp_path / "log"
    with program(tmp_path, text, cwd=tmp_path) as server:
        serving = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
        server.wait_until(lambda: log.exists() and re.search(serving, log.read_text()))
        found = re.search(serving, log.read_text())
        assert found is not None
        server.port = int(found[1])
        told(get(server))
        with Client(server) as client:  # type: ignore[arg-type]
            client.send(request("Host: localhost", target="/health"))
            told(client.read())
        assert closed_with(server) == 1011
        assert server.stop(signal.SIGINT) == 0
    lines = log.read_text()
    assert re.search(
        r'^uvicorn\.access INFO 127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200$', lines, re.M
    )
    assert "/health" not in lines
    assert re.search("^uvicorn.error INFO Serving with asgiws", lines, re.M)
    assert re.search("^uvicorn.error ERROR .*\n(.*\n)*RuntimeError: boom$", lines, re.M)
    assert "INFO" not in "".join(server.output)


def test_nothing_is_logged_of_requests_without_the_access_log_and_below_the_level(
    tmp_path: Path,
) -> None:
    with run(tmp_path, "access_log=False") as server:
        server.wait_until_serving()
        told(get(server))
        assert server.stop(signal.SIGINT) == 0
        assert not server.lines("GET")
    text = f"{GUARD}    uvicorn.run(app, port=0, log_level='warning', fd=%d)\n"
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with program(tmp_path, text % sock.fileno(), pass_fds=[sock.fileno()]) as server:
            server.port = sock.getsockname()[1]
            server.wait_for_line("application begins")
            told(get(server))
            assert server.stop(signal.SIGINT) == 0
            assert server.lines() == ["application begins\n", "application ends\n"]


def test_a_failed_start_ends_with_uvicorns_exit_code(tmp_path: Path) -> None:
    with run(tmp_path, app="broken") as server:
        assert server.wait_for_end() == 3
        assert server.lines("no database")
        assert server.lines("Application startup failed. Exiting.")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with program(tmp_path, f"uvicorn.run(app, port={port})\n") as server:
            assert server.wait_for_end() == 3
            assert server.lines(f"ERROR: +cannot listen on 127.0.0.1:{port}")
            assert server.lines("application ends")
            assert not server.lines("Traceback")


def test_workers_are_uvicorns_and_serve_with_asgiws_also_the_next_ones(tmp_path: Path) -> None:
    with run(tmp_path, "workers=2", app="'tests.uvicorn_app:app'") as server:
        server.wait_until_serving()
        server.wait_for_count("Serving with asgiws", 2)

        def answering() -> set[int]:
            pids = {told(get(server))["pid"] for _ in range(10)}
            assert server.process.pid not in pids
            return pids

        first = answering()
        server.send(signal.SIGHUP)
        server.wait_for_count("Serving with asgiws", 4)
        server.wait_until(lambda: answering().isdisjoint(first))
        assert closed_with(server) == 1011
        assert server.stop() == 0
        assert len(server.lines("Traceback")) == len(server.lines("RuntimeError: boom")) == 1


def test_a_worker_that_cannot_start_ends_all_as_with_uvicorn(tmp_path: Path) -> None:
    with run(tmp_path, "workers=2", app="'tests.uvicorn_app:broken'") as server:
        assert server.wait_for_end() == 0
        assert server.lines("failed to start, stopping the parent process")


def test_reload_is_uvicorns_and_serves_new_code_with_asgiws(tmp_path: Path) -> None:
    code = """
from tests.uvicorn_app import app as inner
async def app(scope, receive, send):
    await inner({**scope, "root_path": "/%s"}, receive, send)
"""
    (tmp_path / "main.py").write_text(code % "old", "utf-8")
    where = str(tmp_path)
    options = f"reload=True, reload_delay=0.01, app_dir={where!r}, reload_dirs=[{where!r}]"
    with run(tmp_path, options, app="'main:app'") as server:
        server.wait_until_serving()
        server.wait_for_line("Serving with asgiws")
        assert told(get(server))["root_path"] == "/old"
        with connect(f"{server.ws_url}/echo") as websocket:
            # uvicorn begins to watch some time after it has begun to serve.
            while not server.lines("detected changes"):
                (tmp_path / "main.py").write_text(code % "changed", "utf-8")
                threading.Event().wait(1.0)
            server.wait_for_line("Serving with asgiws")
            with pytest.raises(ConnectionClosed) as ending:
                websocket.recv(10)
            assert ending.value.rcvd is not None
            assert ending.value.rcvd.code == 1012
        assert told(get(server))["root_path"] == "/changed"
        server.ctrl_c()
        assert server.wait_for_end() == 0


def test_options_are_translated_and_one_without_a_counterpart_is_told_once(tmp_path: Path) -> None:
    text = f"""
import asyncio
async def main():
    for _ in range(2):
        server = uvicorn.Server(uvicorn.Config(app, port=0, **options))
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        if _:
            await serving
        server.should_exit = True
        await serving

options = dict(
    ws="wsproto", ws_max_queue=0, reset_contextvars=True, ws_max_size=100,
    headers=[("x-own", "yes"), ("Server", "mine")], root_path="/under", limit_max_requests=3,
    http="h11",
)
{GUARD}    asyncio.run(main())
"""
    with program(tmp_path, text) as server:
        server.wait_until_serving()
        server.wait_until_serving()
        reply = get(server)
        assert (reply.headers["x-own"], reply.headers["server"]) == ("yes", "mine")
        assert json.loads(reply.body)["root_path"] == "/under"
        # The proxy is believed once, by uvicorn's own middleware.
        client = json.loads(get(server, "X-Forwarded-For: 192.0.2.1, 127.0.0.1").body)["client"]
        assert client == ["192.0.2.1", 0]
        with connect(f"{server.ws_url}/echo", compression=None) as websocket:
            websocket.send("x" * 101)
            with pytest.raises(ConnectionClosed) as ending:
                websocket.recv(10)
        assert ending.value.rcvd is not None
        assert ending.value.rcvd.code == 1009
        assert server.wait_for_end() == 0
        assert server.lines("Maximum request limit of 3 exceeded")
        assert server.lines("Serving with asgiws, .*, h11$")
        warnings = [line.split(":", 1)[1].strip() for line in server.lines("^WARNING")]
    assert warnings == [
        "Config(ws_max_queue=0): ws_max_queue must be a whole number, 1 or more; "
        "asgiws goes by its own default",
        "Config(reset_contextvars=True): --reset-contextvars is uvicorn's; asgiws does not have it",
        "Config(ws='wsproto'): --ws is uvicorn's; asgiws does not have it (it has a "
        "WebSocket implementation of its own and needs no choice)",
    ]


def test_a_server_without_websockets_refuses_them(tmp_path: Path) -> None:
    with run(tmp_path, "ws='none'") as server:
        server.wait_until_serving()
        told(get(server))
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{server.ws_url}/echo")
        assert refused.value.response.status_code == 403
        assert server.stop(signal.SIGINT) == 0
        assert not server.lines("WARNING|Traceback")


def test_a_module_or_a_command_is_run_and_uvicorns_own_are_among_them(tmp_path: Path) -> None:
    arguments = ("tests.uvicorn_app:app", "--port", "0")
    with Program("asgiws.uvicorn", "-m", "uvicorn", *arguments) as server:
        server.wait_until_serving()
        told(get(server))
    command = tmp_path / "a-command"
    command.write_text(f"#!{sys.executable}\nfrom uvicorn import main\nmain()\n", "utf-8")
    command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with Program("asgiws.uvicorn", "a-command", *arguments, PATH=path) as server:
        server.wait_until_serving()
        told(get(server))


def test_a_program_sees_its_own_name_arguments_and_directory(tmp_path: Path) -> None:
    text = "import sys\nprint([sys.argv[1:], __name__, sys.path[0], __file__ == sys.argv[0]])\n"
    (tmp_path / "script.py").write_text(text, "utf-8")
    expected = f"[['-m', 'x'], '__main__', {str(tmp_path)!r}, True]\n"
    with Program("asgiws.uvicorn", str(tmp_path / "script.py"), "-m", "x") as script:
        assert script.wait_for_end() == 0
        assert script.lines() == [expected]
    with Program("asgiws.uvicorn", "-m", "script", "-m", "x", cwd=tmp_path) as script:
        assert script.wait_for_end() == 0
        assert script.lines() == [expected]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "usage:"),
        (("-m",), 2, "usage:"),
        (("-x", "y"), 2, "usage:"),
        (("--help",), 0, "usage:"),
        (("no-such-thing",), 2, "no-such-thing: there is no such file or command"),
        (("true",), 2, "true is not in Python"),
        (("-m", "no_such_thing"), 2, "no_such_thing: there is no such module, or it cannot be run"),
        (("-m", "tests.no_such.thing"), 2, "tests.no_such.thing: there is no such module"),
        (("-m", "tests.toolkit"), 2, "tests.toolkit: there is no such module"),
        (("tests",), 2, "tests: there is no such file or command"),
    ],
)
def test_what_cannot_be_run_is_told(arguments: tuple[str, ...], status: int, said: str) -> None:
    with Program("asgiws.uvicorn", *arguments) as script:
        assert script.wait_for_end() == status
        assert script.lines(said)
        assert not script.lines("Traceback")


def test_a_python_without_uvicorn_is_named(tmp_path: Path) -> None:
    missing = 'raise ModuleNotFoundError("No module named \'uvicorn\'", name="uvicorn")\n'
    (tmp_path / "uvicorn.py").write_text(missing, "utf-8")
    with Program("asgiws.uvicorn", "x.py", PYTHONPATH=str(tmp_path)) as script:
        assert script.wait_for_end() == 1
        assert script.lines("uvicorn is not installed for ")
        assert not script.lines("Traceback")


def test_to_import_it_changes_nothing(tmp_path: Path) -> None:
    text = f"{HEAD}import asgiws.uvicorn\nuvicorn.run(app, port=0)\n"
    (tmp_path / "script.py").write_text(text, "utf-8")
    with Program("script", cwd=tmp_path) as server:
        server.wait_until_serving()
        assert get(server).headers["server"] == "uvicorn"
