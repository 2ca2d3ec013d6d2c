"""The example in a real browser: what its users see, from the first message to a restart."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from ..toolkit.served import Served, serve_example
from .chromium import png

pytestmark = pytest.mark.slow


def test_two_pages_talk_to_each_other(visit, tmp_path: Path) -> None:
    ada = visit("Ada")
    grace = visit("Grace")
    ada.see("#log", "Grace came in")
    ada.say("Hello, <b>Grace</b> & welcome ❤")
    grace.see(".message:not(.mine) .text", "Hello, <b>Grace</b> & welcome ❤")
    ada.see(".message.mine .text", "Hello, <b>Grace</b>")
    grace.say("Good to be here.")
    ada.see(".message:not(.mine)", "Good to be here.")

    (tmp_path / "picture.png").write_bytes(png(40, 30))
    grace.show(tmp_path / "picture.png")
    assert ada.see_picture("Grace") == (40, 30)
    assert grace.see_picture("Grace") == (40, 30)


def test_a_picture_that_is_too_large_is_made_smaller(visit, tmp_path: Path) -> None:
    ada = visit("Ada")
    picture = png(500, 300, level=0)
    assert len(picture) > 256 * 1024
    (tmp_path / "large.png").write_bytes(picture)
    ada.show(tmp_path / "large.png")
    assert ada.see_picture("Ada") == (500, 300)


def test_what_is_posted_over_http_shows_in_the_page(visit, server: Served) -> None:
    ada = visit("Ada")
    message = {"name": "build bot", "text": "All green."}
    answer = httpx.post(f"{server.url}/rooms/lobby/messages", json=message)
    assert (answer.status_code, answer.json()) == (201, {"reached": 1})
    assert "HTTP" in ada.see(".message:not(.mine)", "All green.").text


def test_a_reload_comes_back_to_the_room_and_its_messages(visit) -> None:
    ada = visit("Ada")
    grace = visit("Grace")
    ada.go_to("workshop")
    grace.see("#log", "Ada left")
    ada.see("#state", "online")
    ada.say("Before the reload")
    ada.see(".message.mine", "Before the reload")
    ada.reload()
    ada.see("#room-title", "Workshop")
    ada.see(".message.mine", "Before the reload")
    ada.see("#state", "online")
    grace.go_to("workshop")
    grace.see(".message:not(.mine)", "Before the reload")


def test_a_stopped_server_shows_as_1012_and_its_return_reconnects_the_page(
    visit, server: Served
) -> None:
    ada = visit("Ada")
    ada.say("Before the restart")
    ada.see(".message.mine", "Before the restart")
    assert server.stop() == 0
    ada.see("#log", "Connection closed: 1012")
    ada.see("#state", "offline")
    with serve_example(port=server.port):
        ada.see("#state", "online")
        # What a server remembers ends with it.
        ada.see("#log", "Some messages may be missing here")
        assert not ada.find("#notice").is_displayed()
        ada.say("After the restart")
        ada.see(".message.mine", "After the restart")
    assert ada.texts(".message .text") == ["Before the restart", "After the restart"]


def test_a_message_that_never_reached_the_server_is_sent_again(visit, server: Served) -> None:
    ada = visit("Ada")
    server.send(signal.SIGSTOP)
    assert ada.try_to_say("Is there anybody?")
    assert ada.texts(".message") == []
    server.kill()
    ada.see("#log", "Connection closed: 1006")
    with serve_example(port=server.port):
        ada.see(".message.mine", "Is there anybody?")
    assert ada.texts(".message .text") == ["Is there anybody?"]


def test_a_message_that_comes_twice_is_shown_once(visit, server: Served) -> None:
    ada = visit("Ada")
    url = f"{server.ws_url}/rooms/lobby?name=Grace"
    with connect(url, subprotocols=[Subprotocol("chat.v2")]) as grace:
        for each in ("a", "a", "b", "a"):
            grace.send(json.dumps({"id": each, "text": f"Message {each}"}))
        ada.see(".message", "Message b")
        grace.send(json.dumps({"id": "c", "text": "The end"}))
        ada.see(".message", "The end")
    assert ada.texts(".message .text") == ["Message a", "Message b", "The end"]


def test_a_denied_handshake_says_why(visit) -> None:
    ada = visit("Ada")
    ada.go_to("vault")
    ada.see("#notice", "Handshake refused: 403 The Vault is locked.")
    ada.see("#state", "refused")
    ada.go_to("lobby")
    ada.see("#state", "online")


def test_a_full_room_is_tried_again_until_a_seat_is_free(visit) -> None:
    ada, grace, alan = visit("Ada"), visit("Grace"), visit("Alan")
    for inside in (ada, grace):
        inside.go_to("booth")
        inside.see("#state", "online")
    alan.go_to("booth")
    alan.see("#notice", "Handshake refused: 503 The Phone booth is full")
    ada.go_to("lobby")
    alan.see("#state", "online")
    grace.see("#log", "Alan came in")
