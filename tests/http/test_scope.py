"""The ASGI scope: what is made of a request, of a connection, and of what proxies say."""

from __future__ import annotations

from typing import Any

import pytest

from asgiws.http.notice import DrainNotice
from asgiws.http.request import Request, parse
from asgiws.http.scope import Peer, http_scope, peer_of, websocket_scope

from ..toolkit import raw_http

NOTICE = DrainNotice()
CLIENT = ("127.0.0.1", 5000)
SERVER = ("127.0.0.1", 8000)


def request(target: str = "/", *headers: str) -> Request:
    return parse(raw_http.request("Host: a", *headers, target=target))


def test_the_scope_of_a_request_is_complete() -> None:
    assert http_scope(
        request("/a%20%C3%A9%2Fb?c=%20d?e", "X: y"),
        Peer(CLIENT, SERVER, False, None),
        "",
        {"k": 1},
        NOTICE,
    ) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a é/b",
        "raw_path": b"/a%20%C3%A9%2Fb",
        "query_string": b"c=%20d?e",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x", b"y")],
        "client": CLIENT,
        "server": SERVER,
        "state": {"k": 1},
        "extensions": {
            "asgiws.drain": NOTICE,
            "asgiws.topics": {},
            "http.response.early_hint": {},
            "http.response.trailers": {},
        },
    }


def test_the_root_path_stands_before_the_path() -> None:
    scope = http_scope(request("/a%20b"), Peer(CLIENT, SERVER, False, None), "/root/é", {}, NOTICE)
    assert scope["root_path"] == "/root/é"
    assert scope["path"] == "/root/é/a b"
    assert scope["raw_path"] == "/root/é/a%20b".encode()


def test_what_is_no_utf_8_in_a_path_is_replaced_and_the_raw_path_keeps_it() -> None:
    scope = http_scope(request("/%ff%zz"), Peer(CLIENT, SERVER, False, None), "", {}, NOTICE)
    assert scope["path"] == "/\ufffd%zz"
    assert scope["raw_path"] == b"/%ff%zz"


def test_the_state_of_one_scope_is_not_that_of_another() -> None:
    state: dict[str, Any] = {"shared": []}
    peer = Peer(CLIENT, SERVER, False, None)
    one = http_scope(request(), peer, "", state, NOTICE)
    two = websocket_scope(request(), peer, "", state, NOTICE, [])
    one["state"]["own"] = 1
    assert two["state"] == state == {"shared": []}
    assert one["state"]["shared"] is two["state"]["shared"]


def test_schemes_follow_tls_and_the_type() -> None:
    for secure, schemes in ((False, ("http", "ws")), (True, ("https", "wss"))):
        peer = Peer(CLIENT, SERVER, secure, None)
        assert http_scope(request(), peer, "", {}, NOTICE)["scheme"] == schemes[0]
        assert websocket_scope(request(), peer, "", {}, NOTICE, [])["scheme"] == schemes[1]


def test_a_websocket_has_subprotocols_and_no_method() -> None:
    scope = websocket_scope(request(), Peer(CLIENT, SERVER, False, None), "", {}, NOTICE, ["a"])
    assert scope["type"] == "websocket"
    assert scope["asgi"]["spec_version"] == "2.5"
    assert scope["subprotocols"] == ["a"]
    assert scope["extensions"] == {"asgiws.drain": NOTICE, "websocket.http.response": {}}
    assert "method" not in scope


@pytest.mark.parametrize(
    ("peername", "sockname", "client", "server"),
    [
        (CLIENT, SERVER, CLIENT, SERVER),
        (("::1", 5000, 0, 0), ("::1", 8000, 0, 0), ("::1", 5000), ("::1", 8000)),
        ("", "/run/socket", None, ("/run/socket", None)),
        (b"", b"/run/\xff", None, ("/run/\udcff", None)),
        (None, "", None, None),
    ],
)
def test_both_ends_of_a_connection_are_known_as_far_as_they_have_names(
    peername: Any, sockname: Any, client: Any, server: Any
) -> None:
    peer = peer_of(peername, sockname, False, None)
    assert (peer.client, peer.server, peer.secure, peer.proxies) == (client, server, False, None)
    assert peer_of(peername, sockname, True, None).secure
