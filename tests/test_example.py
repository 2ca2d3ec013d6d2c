"""The example over real sockets, on both builds and, to prove the drop-in, on uvicorn."""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .toolkit.builds import BUILDS
from .toolkit.certificates import NO_TLS
from .toolkit.served import Served, serve_example

DEADLINE = 10.0
PICTURE = b"\x89PNG\r\n\x1a\n and the rest"

ids = map(str, itertools.count(1))
SERVERS = [*(["asgiws"] if "compiled" in BUILDS else []), "asgiws pure", "uvicorn"]


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The server of all these tests. Nothing that a client does is an error in its log."""
    name, *pure = request.param.split()
    with serve_example(name, ASGIWS_PURE="1" if pure else "") as served:
        yield served
        if name == "asgiws":
            assert served.stop() == 0
            log = "".join(served.output)
            assert not re.search("ERROR|Traceback", log), log


@pytest.fixture
def server(running: Served) -> Served:
    """The server with empty rooms: a member has left when the server says so."""
    give_up = time.monotonic() + DEADLINE
    while any(
        room["taken"] for room in httpx.get(f"{running.url}/rooms", verify=NO_TLS).json().values()
    ):
        assert time.monotonic() < give_up, "somebody stays in a room"
    return running


def enter(server: Served, name: str, room: str = "lobby", **options: Any) -> connect:
    """A seat in a room: `with enter(server, "Ada") as ada`."""
    options.setdefault("subprotocols", ["chat.v2"])
    after = options.pop("after", None)
    url = f"{server.ws_url}/rooms/{room}?name={name}" + (f"&after={after}" if after else "")
    return connect(url, open_timeout=DEADLINE, close_timeout=DEADLINE, **options)


def say(member: ClientConnection, text: str) -> None:
    member.send(json.dumps({"id": next(ids), "text": text}))


def picture_message(picture: bytes) -> bytes:
    return json.dumps({"id": next(ids)}).encode() + b"\n" + picture


def hear_envelope(member: ClientConnection, topic: str) -> dict[str, Any]:
    """The next envelope of this topic, with what was published unpacked in its "data"."""
    while (envelope := json.loads(member.recv(timeout=DEADLINE))).get("topic") != topic:
        pass
    if "base64" in envelope:
        head, picture = base64.b64decode(envelope["base64"]).split(b"\n", 1)
        envelope["data"] = {**json.loads(head), "picture": picture}
    return dict(envelope)


def hear(member: ClientConnection, kind: str, room: str = "lobby") -> dict[str, Any]:
    """The next event of this kind in a room, with its position."""
    while True:
        envelope = hear_envelope(member, f"room:{room}")
        if envelope.get("data", {}).get("type") == kind:
            return {**envelope["data"], "position": envelope["position"]}


def hear_doors(member: ClientConnection, **event: str) -> None:
    """Wait until somebody comes into a room or leaves it."""
    while hear_envelope(member, "doors").get("data") != event:
        pass


def get_ready(member: ClientConnection) -> list[dict[str, Any]]:
    """What comes before a member's own messages can."""
    before = []
    while (event := json.loads(member.recv(timeout=DEADLINE))) != {"type": "ready"}:
        before.append(event)
    return before


def hear_text(member: ClientConnection, text: str, room: str = "lobby") -> dict[str, Any]:
    """The next message with this text."""
    while (event := hear(member, "message", room))["text"] != text:
        pass
    return event


def post(server: Served, room: str = "lobby", **options: Any) -> httpx.Response:
    url = f"{server.url}/rooms/{room}/messages"
    return httpx.post(url, timeout=DEADLINE, verify=NO_TLS, **options)


def refusal(server: Served, room: str, name: str = "Ada", **options: Any) -> tuple[int, str]:
    """Status and text of a refused handshake."""
    with pytest.raises(InvalidStatus) as refused, enter(server, name, room, **options):
        pass
    response = refused.value.response
    assert "upgrade" not in response.headers
    assert response.body is not None
    return response.status_code, response.body.decode()


def test_what_one_member_says_all_hear_in_order(server: Served) -> None:
    with enter(server, "Ada") as ada:
        assert ada.subprotocol == "chat.v2"
        hear_doors(ada, room="lobby", came="Ada")
        with enter(server, "Grace") as grace:
            hear_doors(ada, room="lobby", came="Grace")
            assert httpx.get(f"{server.url}/rooms", verify=NO_TLS).json()["lobby"]["taken"] == 2
            say(ada, "first")
            say(ada, "second ❤")
            for member in (ada, grace):
                first, second = hear_text(member, "first"), hear_text(member, "second ❤")
                assert (first["name"], first["via"]) == ("Ada", "websocket")
                assert int(first["id"]) < int(second["id"])
        hear_doors(ada, room="lobby", left="Grace")


def test_a_picture_reaches_the_room_as_it_was_sent(server: Served) -> None:
    with enter(server, "Ada") as ada, enter(server, "Grace") as grace:
        ada.send(picture_message(PICTURE))
        event = hear(grace, "picture")
        assert (event["name"], event["media_type"]) == ("Ada", "image/png")
        assert event["picture"] == PICTURE


def test_rooms_do_not_hear_each_other(server: Served) -> None:
    with enter(server, "Ada", "lobby") as ada, enter(server, "Grace", "workshop") as grace:
        get_ready(grace)
        say(ada, "to the lobby")
        hear_text(ada, "to the lobby")
        say(grace, "to the workshop")
        assert hear(grace, "message", "workshop")["text"] == "to the workshop"


def test_an_http_route_posts_into_a_room(server: Served) -> None:
    with enter(server, "Ada", "workshop") as ada:
        get_ready(ada)
        answer = post(server, "workshop", json={"name": "build bot", "text": "All green."})
        assert (answer.status_code, answer.json()) == (201, {"reached": 1})
        event = hear_text(ada, "All green.", "workshop")
        assert (event["name"], event["via"]) == ("build bot", "http")


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"room": "attic", "json": {"name": "bot", "text": "hi"}}, 404),
        ({"room": "vault", "json": {"name": "bot", "text": "hi"}}, 403),
        ({"json": {"name": "bot", "text": "hi"}, "headers": {"origin": "https://evil.test"}}, 403),
        ({"json": {"name": "", "text": "hi"}}, 400),
        ({"json": {"name": "bot", "text": " "}}, 400),
        ({"json": {"name": "bot", "text": 5}}, 400),
        ({"json": ["bot", "hi"]}, 400),
        ({"content": b"\xff"}, 400),
        ({"content": b"[" * 16_000}, 400),
        ({"content": b" " * 20_000}, 413),
    ],
)
def test_a_bad_post_is_answered_with_its_reason(
    server: Served, options: dict[str, Any], status: int
) -> None:
    assert post(server, **options).status_code == status


def test_a_newcomer_hears_what_was_said_and_a_returning_one_only_what_was_missed(
    server: Served,
) -> None:
    for text in ("one", "two", "three"):
        assert post(server, "booth", json={"name": "bot", "text": text}).status_code == 201
    with enter(server, "Ada", "booth") as ada:
        hear_text(ada, "one", "booth")
        seen = hear_text(ada, "two", "booth")["position"]
    with enter(server, "Ada", "booth", after=seen) as ada:
        assert hear_envelope(ada, "room:booth")["recovered"] is True
        assert hear(ada, "message", "booth")["text"] == "three"


@pytest.mark.parametrize("position", ["0:1", "yesterday", "%1b"])
def test_who_returns_with_a_position_that_means_nothing_is_told_and_shown_what_there_is(
    server: Served, position: str
) -> None:
    assert post(server, "booth", json={"name": "bot", "text": position}).status_code == 201
    with enter(server, "Ada", "booth", after=position) as ada:
        assert hear_envelope(ada, "room:booth")["recovered"] is False
        hear_text(ada, position, "booth")


@pytest.mark.parametrize(
    ("room", "options", "status", "reason"),
    [
        ("vault", {}, 403, "The Vault is locked."),
        ("attic", {}, 404, "There is no such room."),
        ("lobby", {"name": ""}, 400, "A name has 1 to 24 printable characters."),
        ("lobby", {"name": "%1b%5b2J"}, 400, "A name has 1 to 24 printable characters."),
        ("lobby", {"name": "x" * 25}, 400, "A name has 1 to 24 printable characters."),
        ("lobby", {"subprotocols": ["chat.v9"]}, 400, "This room speaks chat.v2."),
        ("lobby", {"origin": "https://evil.test"}, 403, "Only this site's own pages may come in."),
    ],
)
def test_a_denied_handshake_has_a_status_and_a_reason(
    server: Served, room: str, options: dict[str, Any], status: int, reason: str
) -> None:
    assert refusal(server, room, **options) == (status, reason)


def test_the_page_can_ask_over_http_why_it_was_refused(server: Served) -> None:
    for room, name, status in (("vault", "Ada", 403), ("attic", "Ada", 404), ("lobby", "Ada", 200)):
        url = f"{server.url}/rooms/{room}"
        answer = httpx.get(url, params={"name": name}, verify=NO_TLS)
        assert answer.status_code == status
        if status != 200:
            assert refusal(server, room, name=name) == (status, answer.text)


def test_a_room_is_full_until_somebody_leaves(server: Served) -> None:
    with enter(server, "Ada", "booth") as ada:
        with enter(server, "Grace", "booth"):
            full = (503, "The Phone booth is full: 2 seats, all taken.")
            assert refusal(server, "booth", "Alan") == full
        hear_doors(ada, room="booth", left="Grace")
        with enter(server, "Alan", "booth"):
            hear_doors(ada, room="booth", came="Alan")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", 1008),
        ("[]", 1008),
        ('{"text": "without an id"}', 1008),
        ('{"id": 5, "text": "a"}', 1008),
        ('{"id": "' + "x" * 41 + '", "text": "a"}', 1008),
        ('{"id": "a", "text": " "}', 1008),
        ('{"id": "a", "text": 5}', 1008),
        ('{"id": "a", "text": "' + "x" * 2001 + '"}', 1008),
        (b"", 1008),
        (PICTURE, 1008),
        (picture_message(b"MZ, not a picture"), 1003),
        (picture_message(b""), 1003),
        (picture_message(PICTURE + bytes(256 * 1024)), 1009),
    ],
)
def test_a_message_that_breaks_the_rules_closes_with_its_code(
    server: Served, message: str | bytes, code: int
) -> None:
    with enter(server, "Ada", "workshop") as ada:
        ada.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            hear_text(ada, "never said", "workshop")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert closed.value.rcvd.reason


def test_a_member_who_does_not_read_is_closed_and_the_others_hear_everything(
    server: Served,
) -> None:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", server.port))
    options = {"sock": line, "max_queue": 1, "compression": None}
    with (
        httpx.Client(base_url=server.url, verify=NO_TLS) as client,
        enter(server, "Ada") as ada,
        enter(server, "Slow", **options) as slow,
    ):
        get_ready(ada)
        # More than the kernel and the server keep for one connection.
        for number in range(90):
            picture = PICTURE + str(number).encode() + bytes(200 * 1024)
            ada.send(picture_message(picture))
            while hear(ada, "picture")["picture"] != picture:
                pass
        client.post("/rooms/lobby/messages", json={"name": "bot", "text": "The end"})
        hear_text(ada, "The end")
        with pytest.raises(ConnectionClosed) as closed:
            hear_text(slow, "The end")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


def test_the_page_comes_with_its_script_and_its_style(server: Served) -> None:
    page = httpx.get(server.url, verify=NO_TLS)
    assert page.headers["content-type"].startswith("text/html")
    for part, media_type in (
        ("chat.js", "text/javascript"),
        ("chat.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        assert f'"{part}"' in page.text
        answer = httpx.get(f"{server.url}/{part}", verify=NO_TLS)
        assert answer.headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("name", ["asgiws", "uvicorn"])
def test_a_stop_tells_every_member_with_close_code_1012(name: str) -> None:
    with serve_example(name) as server, enter(server, "Ada") as ada:
        get_ready(ada)
        server.stop()
        with pytest.raises(ConnectionClosed) as closed:
            hear_text(ada, "never said")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
