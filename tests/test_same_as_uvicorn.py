"""The same application, the same requests: what comes back under asgiws and under uvicorn.

Each scenario is played to both servers, and its results are compared whole. What
asgiws does otherwise on purpose stands in the last section, with the right answer.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .toolkit.certificates import NO_TLS
from .toolkit.raw_http import Client, Reply
from .toolkit.running import DEADLINE, LOOPS
from .toolkit.served import Served

# The servers' own: the name, the time, and headers about the connection, which
# RFC 9112 section 9.3 makes optional where they say the default.
OWN = {"date", "server", "connection", "keep-alive", "transfer-encoding"}


@pytest.fixture(scope="module", params=LOOPS)
def servers(request: pytest.FixtureRequest) -> Iterator[dict[str, Served]]:
    with contextlib.ExitStack() as stack:
        yield {
            f"{server} {app}": stack.enter_context(
                Served(
                    *(server, f"tests.same_apps:{app}_app", "--port", "0"),
                    *("--loop", request.param),
                    PYTHONHASHSEED="0",  # the order in Allow
                )
            )
            for server in ("asgiws", "uvicorn")
            for app in ("starlette", "fastapi")
        }


class Site:
    """One application under one server."""

    def __init__(self, served: Served) -> None:
        self.served = served

    def request(self, method: str, target: str, **options: Any) -> Any:
        """Status, headers and body of a response."""
        with self.client() as client:
            return shown(client.request(method, target, **options))

    def client(self) -> httpx.Client:
        headers = {"user-agent": "test"}
        url = self.served.url
        return httpx.Client(base_url=url, timeout=DEADLINE, headers=headers, verify=NO_TLS)

    def seen(self, key: str) -> Any:
        return json.loads(self.request("GET", f"/seen/{key}")["body"])

    def raw(self) -> Client:
        return Client(self.served)  # type: ignore[arg-type]

    def websocket(self, target: str, **options: Any) -> ClientConnection:
        options = {"user_agent_header": None, "compression": None, **options}
        return connect(f"{self.served.ws_url}{target}", **options)


def shown(response: httpx.Response) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "phrase": response.reason_phrase,
        "headers": [
            (name.decode(), value.decode())
            for name, value in response.headers.raw
            if name.lower().decode() not in OWN
        ],
        "body": response.content.decode("latin-1"),
    }


def shown_raw(reply: Reply) -> dict[str, Any]:
    names = [name for name in reply.names if name not in OWN]
    body = reply.body.decode("latin-1")
    return {"status": reply.status, "names": names, "body": body}


def closed(websocket: ClientConnection) -> tuple[int, str] | None:
    """Code and reason that come from the server; None if the connection is cut."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            websocket.recv(DEADLINE)
    frame = websocket.protocol.close_rcvd
    return None if frame is None else (frame.code, frame.reason)


def refusal(site: Site, target: str, **options: Any) -> dict[str, Any]:
    with pytest.raises(InvalidStatus) as refused:
        site.websocket(target, **options)
    response = refused.value.response
    headers = sorted(item for item in response.headers.raw_items() if item[0].lower() not in OWN)
    return {"status": response.status_code, "headers": headers, "body": bytes(response.body or b"")}


Scenario = Callable[[Site], Any]
STARLETTE: list[Scenario] = []
FASTAPI: list[Scenario] = []
BOTH: list[Scenario] = []


def requests(where: list[Scenario], name: str, method: str, target: str, **options: Any) -> None:
    def scenario(site: Site) -> Any:
        return site.request(method, target, **options)

    scenario.__name__ = name
    where.append(scenario)


requests(BOTH, "scope", "GET", "/scope/a%20b/%C3%A4/%2F?x=1&x=%20&y")
requests(BOTH, "scope without a query", "PUT", "/scope/")
requests(BOTH, "duplicate headers", "GET", "/scope/", params={"headers": "two"})
requests(BOTH, "mounted", "GET", "/mounted/scope")
requests(BOTH, "not found", "GET", "/missing")
requests(BOTH, "wrong method", "DELETE", "/echo")
requests(BOTH, "redirect of a slash", "GET", "/stream/")
requests(BOTH, "redirect", "GET", "/redirect")
requests(BOTH, "echo", "POST", "/echo", content=b"hello", headers={"content-type": "a/b"})
requests(BOTH, "empty body", "POST", "/echo")
requests(BOTH, "large body", "PUT", "/echo", content=b"0123456789" * 100_000)
requests(BOTH, "form", "POST", "/echo", data={"a": "1", "ä": "&"})
requests(BOTH, "cookies", "GET", "/cookies", headers={"cookie": "c=3; d=4"})
requests(BOTH, "stream", "GET", "/stream")
requests(BOTH, "head of a stream", "HEAD", "/stream")
requests(BOTH, "head of a file", "HEAD", "/file")
requests(BOTH, "file", "GET", "/file")
requests(BOTH, "range of a file", "GET", "/file", headers={"range": "bytes=10-19"})
requests(BOTH, "no content", "GET", "/empty/204")
requests(BOTH, "not modified", "GET", "/empty/304")
requests(BOTH, "own status", "GET", "/empty/299")
requests(BOTH, "raises", "GET", "/raises")
upload = {"file": ("ä.bin", bytes(range(256)) * 4000, "application/x-test")}
requests(STARLETTE, "upload", "POST", "/upload", data={"name": "ä"}, files=upload)
requests(STARLETTE, "middleware", "GET", "/stamped/scope/x", headers={"accept-encoding": "gzip"})
requests(STARLETTE, "middleware and a stream", "GET", "/stamped/stream")
requests(STARLETTE, "middleware and an error", "GET", "/stamped/raises")
requests(FASTAPI, "path and query", "GET", "/items/7?q=%C3%A4")
requests(FASTAPI, "validation of a path", "GET", "/items/seven")
requests(FASTAPI, "http exception", "GET", "/items/100")
requests(FASTAPI, "validation of a body", "POST", "/items", json={"price": "x"})
requests(FASTAPI, "a function in a thread", "GET", "/in-a-thread")
requests(FASTAPI, "schema", "GET", "/openapi.json")
requests(FASTAPI, "documentation", "GET", "/docs")
files = [("files", ("a", b"1" * 100_000)), ("files", ("b", b""))]
requests(FASTAPI, "uploads", "POST", "/upload", files=files)


def scenario(*where: list[Scenario]) -> Callable[[Scenario], Scenario]:
    def add(function: Scenario) -> Scenario:
        for scenarios in where:
            scenarios.append(function)
        return function

    return add


@scenario(BOTH)
def chunked_body(site: Site) -> Any:
    return site.request("POST", "/pieces", content=iter([b"a" * 70_000, b"b", b"c" * 9]))


@scenario(BOTH)
def server_sent_events(site: Site) -> Any:
    """The first event is there before the second one exists."""
    with (
        site.client() as client,
        client.stream("GET", "/events") as response,
    ):
        parts = response.iter_text()
        received = [response.headers["content-type"], next(parts)]
        received.append(site.request("POST", "/events/go-on")["status"])
        received.extend(parts)
    return received, site.seen("events")


@scenario(BOTH)
def departure_from_a_stream(site: Site) -> Any:
    with (
        site.client() as client,
        client.stream("GET", "/endless") as response,
    ):
        first = next(response.iter_text())[:5]
    return first, site.seen("endless")


@scenario(BOTH)
def departure_from_idle_events(site: Site) -> Any:
    """Nothing is sent that could fail: the server has to see it."""
    with (
        site.client() as client,
        client.stream("GET", "/events") as response,
    ):
        first = next(response.iter_text())
    return first, site.seen("events")


@scenario(BOTH)
def departure_before_the_response(site: Site) -> Any:
    with site.raw() as client:
        client.send(b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = site.seen("waits began")
        client.reset()
    return began, site.seen("waits")


@scenario(BOTH)
def departure_in_the_middle_of_a_body(site: Site) -> Any:
    with site.raw() as client:
        client.send(b"POST /listens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        began = site.seen("listens began")
        client.reset()
    return began, site.seen("listens")


@scenario(BOTH)
def background_task(site: Site) -> Any:
    return site.request("GET", "/background"), site.seen("background")


@scenario(BOTH)
def error_in_the_middle_of_a_stream(site: Site) -> Any:
    with (
        pytest.raises(httpx.RemoteProtocolError),
        site.client() as client,
    ):
        client.get("/raises-in-the-middle")


@scenario(BOTH)
def keep_alive_and_pipelining(site: Site) -> Any:
    with site.raw() as client:
        request = b"GET /empty/204 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        post = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n%b"
        client.send(request + post % b"one" + post % b"two" + request)
        return [shown_raw(client.read()) for _ in range(4)]


@scenario(BOTH)
def http_1_0_and_connection_close(site: Site) -> Any:
    results = []
    for request in (
        b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ):
        with site.raw() as client:
            client.send(request)
            results.append((shown_raw(client.read()), client.rest()))
    return results


@scenario(BOTH)
def expect_100_continue(site: Site) -> Any:
    with site.raw() as client:
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        interim = client.read_head().status
        client.send(b"abc")
        return interim, shown_raw(client.read())


@scenario(BOTH)
def conversation(site: Site) -> Any:
    with site.websocket("/talk?room=%C3%A4&x", subprotocols=["other", "chat"]) as websocket:
        assert websocket.response is not None
        headers = [
            (name.lower(), value)
            for name, value in websocket.response.headers.raw_items()
            if name.lower() not in OWN | {"sec-websocket-accept", "upgrade"}
        ]
        received: list[Any] = [sorted(headers), websocket.subprotocol]
        for message in ("hello", "ä" * 100_000, "", b"\0\xff", bytes(1_000_000), b"", "scope"):
            websocket.send(message)
            received.append(websocket.recv(DEADLINE))
        websocket.close(4242, "bye ä")
    return received, site.seen("talk")


@scenario(BOTH)
def conversation_in_fragments(site: Site) -> Any:
    with site.websocket("/talk") as websocket:
        websocket.send(["a", "", "bc"])
        return websocket.recv(DEADLINE)


@scenario(BOTH)
def mounted_conversation(site: Site) -> Any:
    with site.websocket("/mounted/talk") as websocket:
        websocket.send("scope")
        return websocket.recv(DEADLINE)


@scenario(BOTH)
def compressed_conversation(site: Site) -> Any:
    with site.websocket("/talk", compression="deflate") as websocket:
        names = [extension.name for extension in websocket.protocol.extensions]
        received = []
        for message in ("a" * 10_000, "b", "a" * 10_000, bytes(100_000)):
            websocket.send(message)
            received.append(websocket.recv(DEADLINE))
        return names, received


@scenario(BOTH)
def end_by_the_application(site: Site) -> Any:
    with site.websocket("/talk") as websocket:
        websocket.send("close")
        return closed(websocket)


@scenario(BOTH)
def end_by_the_client(site: Site) -> Any:
    results = []
    for code, reason in ((1000, ""), (1001, "away"), (3000, "x" * 123)):
        with site.websocket("/talk") as websocket:
            websocket.close(code, reason)
        answer = closed(websocket)
        assert answer is not None
        results.append((site.seen("talk"), answer[0]))  # the reason need not be echoed
    return results


@scenario(BOTH)
def departure_from_a_sender(site: Site) -> Any:
    with site.websocket("/ticks") as websocket:
        assert websocket.recv(DEADLINE) == "tick"
    return site.seen("ticks")


@scenario(BOTH)
def denial(site: Site) -> Any:
    return refusal(site, "/denied")


@scenario(BOTH)
def failure_before_the_accept(site: Site) -> Any:
    return refusal(site, "/fails")["status"]


@scenario(BOTH)
def close_before_the_accept(site: Site) -> Any:
    return refusal(site, "/refused")["status"], refusal(site, "/missing")["status"]


@scenario(FASTAPI)
def dependency_and_background_tasks(site: Site) -> Any:
    options: Any = {"json": {"name": "ä"}, "headers": {"authorization": "Bearer me"}}
    response = site.request("POST", "/items", **options)
    return response, site.seen("background"), site.seen("dependency")


@scenario(FASTAPI)
def validated_conversation(site: Site) -> Any:
    headers = {"authorization": "Bearer me"}
    with site.websocket("/items/7", additional_headers=headers) as websocket:
        received = [websocket.recv(DEADLINE)]
        websocket.send('{"a": 1}')
        received.append(websocket.recv(DEADLINE))
    site.seen("dependency")
    return received


@scenario(FASTAPI)
def conversation_that_is_not_valid(site: Site) -> Any:
    return refusal(site, "/items/7")["status"], refusal(site, "/items/seven")["status"]


PLAYED = [
    pytest.param(app, each, id=f"{app}: {each.__name__.replace('_', ' ')}")
    for app, scenarios in (("starlette", BOTH + STARLETTE), ("fastapi", BOTH + FASTAPI))
    for each in scenarios
]


@pytest.mark.parametrize(("app", "play"), PLAYED)
def test_the_same_comes_back(servers: dict[str, Served], app: str, play: Scenario) -> None:
    ours = without_port(play(Site(servers[f"asgiws {app}"])))
    assert ours == without_port(play(Site(servers[f"uvicorn {app}"])))


def without_port(result: Any) -> Any:
    """Redirects name the address."""
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", repr(result))


# Where uvicorn is not right, or says it in other words.


@pytest.fixture
def site(servers: dict[str, Served]) -> Site:
    return Site(servers["asgiws starlette"])


def test_an_application_that_raises_closes_1011(site: Site) -> None:
    with site.websocket("/talk") as websocket:
        websocket.send("raise")
        assert closed(websocket) == (1011, "")


def test_an_application_that_returns_closes_1000(site: Site) -> None:
    with site.websocket("/talk") as websocket:
        websocket.send("return")
        assert closed(websocket) == (1000, "")


def test_a_client_that_is_cut_off_is_1006(site: Site) -> None:
    for leave in (Client.reset, Client.finish):
        with site.raw() as client:
            client.send(
                b"GET /talk HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert client.read().status == 101
            leave(client)
            assert site.seen("talk") == [[1006, ""]]


def test_a_version_that_is_not_known_is_426_with_ours(site: Site) -> None:
    with site.raw() as client:
        reply = client.get(
            "/talk",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 99",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert (reply.status, reply.headers["sec-websocket-version"]) == (426, "13")


def test_a_request_without_a_host_or_with_two_is_400(site: Site) -> None:
    for hosts in (b"", b"Host: a\r\nHost: b\r\n"):
        with site.raw() as client:
            client.send(b"GET /stream HTTP/1.1\r\n%b\r\n" % hosts)
            assert client.read().status == 400
