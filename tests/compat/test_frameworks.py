"""What every framework's WebSockets must do, seen by a client, and what each does its own way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect

from ..toolkit.running import PARSERS
from ..toolkit.served import Served
from .conftest import serve

pytestmark = pytest.mark.slow

FRAMEWORKS = ("starlette", "fastapi", "channels", "litestar", "quart")
TIMEOUT = 10.0  # seconds for anything that is expected to come


@pytest.fixture(scope="module", params=PARSERS)
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest, parser: str) -> Iterator[tuple[str, Served]]:
    for served in serve(request.param, "--http", parser):
        assert served.lines(f", {parser} .Ctrl-C to stop")
        yield request.param, served


@pytest.fixture
def server(framework: tuple[str, Served]) -> Served:
    return framework[1]


def only(framework: str) -> pytest.MarkDecorator:
    """The test is about this framework alone."""
    return pytest.mark.parametrize("framework", [framework], indirect=True)


def closed(socket: ClientConnection) -> tuple[int, str]:
    """Wait until the server has closed; the code and the reason of its close frame."""
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(TIMEOUT)
    frame = caught.value.rcvd
    assert frame is not None, "no close frame came"
    return frame.code, frame.reason


def refused(server: Served, path: str) -> Response:
    """The response to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught, connect(server.ws_url + path):
        pass
    return caught.value.response


def test_http_is_answered(framework: tuple[str, Served]) -> None:
    name, server = framework
    response = httpx.get(server.url)
    assert (response.status_code, response.text) == (200, name)


@pytest.mark.parametrize(
    "message",
    ["héllo ❤", "", "x" * 300_000, b"\x00\xff", bytes(range(256)) * 1200],
    ids=["text", "empty text", "long text", "binary", "long binary"],
)
@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_message_comes_back(
    server: Served, message: str | bytes, compression: str | None
) -> None:
    with connect(f"{server.ws_url}/echo", compression=compression) as socket:
        socket.send(message)
        assert socket.recv(TIMEOUT) == message


# Quart takes an empty binary message for a text that is missing.
@pytest.mark.parametrize(
    "framework", [name for name in FRAMEWORKS if name != "quart"], indirect=True
)
def test_an_empty_binary_message_comes_back(server: Served) -> None:
    with connect(f"{server.ws_url}/echo") as socket:
        socket.send(b"")
        assert socket.recv(TIMEOUT) == b""


def test_many_messages_come_back_in_order(server: Served) -> None:
    messages = [f"message {number}" for number in range(500)]
    with connect(f"{server.ws_url}/echo") as socket:
        for message in messages:
            socket.send(message)
        assert [socket.recv(TIMEOUT) for _ in messages] == messages


def test_a_fragmented_message_comes_back_whole(server: Served) -> None:
    with connect(f"{server.ws_url}/echo") as socket:
        socket.send(["frag", "men", "", "ted"])
        assert socket.recv(TIMEOUT) == "fragmented"


def test_a_subprotocol_is_agreed_on(server: Served) -> None:
    with connect(f"{server.ws_url}/echo", subprotocols=["echo.v2", "echo.v1"]) as socket:
        assert socket.subprotocol == "echo.v1"
    with connect(f"{server.ws_url}/echo") as socket:
        assert socket.subprotocol is None


def test_the_close_code_of_the_application_arrives(server: Served) -> None:
    with connect(f"{server.ws_url}/close") as socket:
        assert closed(socket) == (4001, "done")


def test_a_refused_handshake_is_a_403(server: Served) -> None:
    assert refused(server, "/deny").status_code == 403


def test_a_client_may_close_with_a_code_of_its_own(server: Served) -> None:
    with connect(f"{server.ws_url}/echo") as socket:
        socket.send("before")
        assert socket.recv(TIMEOUT) == "before"
        socket.close(4321, "enough")
    assert socket.close_code == 4321


# 1011 is ours. Litestar and Quart answer for the exception themselves.
@pytest.mark.parametrize(
    ("framework", "code"),
    [
        ("starlette", 1011),
        ("fastapi", 1011),
        ("channels", 1011),
        ("litestar", 4500),
        ("quart", 1000),
    ],
    indirect=["framework"],
)
def test_an_exception_of_the_application_closes(server: Served, code: int) -> None:
    with connect(f"{server.ws_url}/echo") as socket:
        socket.send("boom")
        assert closed(socket)[0] == code


@only("starlette")
def test_starlette_denies_with_a_response_of_its_own(server: Served) -> None:
    response = refused(server, "/teapot")
    assert response.status_code == 418
    assert json.loads(response.body) == {"why": "short and stout"}


@only("starlette")
def test_a_starlette_endpoint_decodes_json(server: Served) -> None:
    with connect(f"{server.ws_url}/doubled") as socket:
        socket.send('{"a": 1}')
        assert json.loads(socket.recv(TIMEOUT)) == [{"a": 1}, {"a": 1}]


@only("fastapi")
def test_fastapi_reads_path_cookie_and_query(server: Served) -> None:
    cookie = {"Cookie": "session=ada"}
    with connect(f"{server.ws_url}/items/7", additional_headers=cookie) as socket:
        socket.send('["hello"]')
        assert json.loads(socket.recv(TIMEOUT)) == {
            "item": 7,
            "known": "ada",
            "message": ["hello"],
        }
    with connect(f"{server.ws_url}/items/8?token=gr%C3%A4ce") as socket:
        socket.send("null")
        assert json.loads(socket.recv(TIMEOUT))["known"] == "gräce"


@only("fastapi")
@pytest.mark.parametrize("path", ["/items/7", "/items/seven?token=ada", "/nowhere"])
def test_fastapi_refuses_what_does_not_validate(server: Served, path: str) -> None:
    assert refused(server, path).status_code == 403


@only("channels")
def test_channels_sends_to_a_group_from_consumers_in_threads(server: Served) -> None:
    with connect(f"{server.ws_url}/room") as ada, connect(f"{server.ws_url}/room") as grace:
        for number in range(20):
            ada.send(json.dumps({"number": number}))
            assert json.loads(ada.recv(TIMEOUT)) == {"number": number}
            assert json.loads(grace.recv(TIMEOUT)) == {"number": number}


@only("litestar")
def test_litestar_listens_and_publishes(server: Served) -> None:
    with connect(f"{server.ws_url}/sum") as socket:
        socket.send("[1, 2, 3]")
        assert json.loads(socket.recv(TIMEOUT)) == {"sum": 6}
    assert httpx.get(f"{server.url}/publish/early").text == "published"
    with connect(f"{server.ws_url}/channels/news") as ada:
        assert json.loads(ada.recv(TIMEOUT)) == {"said": "early"}
        assert httpx.get(f"{server.url}/publish/late").text == "published"
        assert json.loads(ada.recv(TIMEOUT)) == {"said": "late"}


@only("litestar")
def test_a_litestar_guard_refuses(server: Served) -> None:
    assert refused(server, "/guarded").status_code == 403


@only("quart")
def test_quart_broadcasts_from_a_second_task(server: Served) -> None:
    with connect(f"{server.ws_url}/room") as ada, connect(f"{server.ws_url}/room") as grace:
        grace.send("ready")
        assert grace.recv(TIMEOUT) == "ready"
        assert ada.recv(TIMEOUT) == "ready"
        ada.send("hello")
        assert (ada.recv(TIMEOUT), grace.recv(TIMEOUT)) == ("hello", "hello")
