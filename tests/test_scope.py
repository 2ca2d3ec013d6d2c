"""The ASGI scope: what is made of a request, of a connection, and of what proxies say."""

from __future__ import annotations

from typing import Any

import pytest

from asgiws.http.request import Request, parse
from asgiws.http.scope import Peer, Proxies, http_scope, peer_of, websocket_scope

from .http_helpers import Client, running

CLIENT = ("127.0.0.1", 5000)
SERVER = ("127.0.0.1", 8000)


def request(target: str = "/", *headers: str) -> Request:
    return parse(
        "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *headers, "", ""]).encode("latin-1")
    )


def scope_of(*headers: str, allowed: str = "127.0.0.1", secure: bool = False) -> dict[str, Any]:
    proxies = Proxies(allowed)
    peer = Peer(CLIENT, SERVER, secure, proxies if proxies.trust(CLIENT[0]) else None)
    return http_scope(request("/", *headers), peer, "", {})


def test_the_scope_of_a_request_is_complete() -> None:
    assert http_scope(
        request("/a%20%C3%A9%2Fb?c=%20d?e", "X: y"), Peer(CLIENT, SERVER, False, None), "", {"k": 1}
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
        "extensions": {},
    }


def test_the_root_path_stands_before_the_path() -> None:
    scope = http_scope(request("/a%20b"), Peer(CLIENT, SERVER, False, None), "/root/é", {})
    assert scope["root_path"] == "/root/é"
    assert scope["path"] == "/root/é/a b"
    assert scope["raw_path"] == "/root/é/a%20b".encode()


def test_what_is_no_utf_8_in_a_path_is_replaced_and_the_raw_path_keeps_it() -> None:
    scope = http_scope(request("/%ff%zz"), Peer(CLIENT, SERVER, False, None), "", {})
    assert scope["path"] == "/\ufffd%zz"
    assert scope["raw_path"] == b"/%ff%zz"


def test_the_state_of_one_scope_is_not_that_of_another() -> None:
    state: dict[str, Any] = {"shared": []}
    peer = Peer(CLIENT, SERVER, False, None)
    one = http_scope(request(), peer, "", state)
    two = websocket_scope(request(), peer, "", state, [])
    one["state"]["own"] = 1
    assert two["state"] == state == {"shared": []}
    assert one["state"]["shared"] is two["state"]["shared"]


def test_schemes_follow_tls_and_the_type() -> None:
    for secure, schemes in ((False, ("http", "ws")), (True, ("https", "wss"))):
        peer = Peer(CLIENT, SERVER, secure, None)
        assert http_scope(request(), peer, "", {})["scheme"] == schemes[0]
        assert websocket_scope(request(), peer, "", {}, [])["scheme"] == schemes[1]


def test_a_websocket_has_subprotocols_and_no_method() -> None:
    scope = websocket_scope(request(), Peer(CLIENT, SERVER, False, None), "", {}, ["a"])
    assert scope["type"] == "websocket"
    assert scope["asgi"]["spec_version"] == "2.5"
    assert scope["subprotocols"] == ["a"]
    assert scope["extensions"] == {"websocket.http.response": {}}
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


# Proxies.


@pytest.mark.parametrize(
    ("allowed", "address", "trusted"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1, 10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.1/8", "10.1.2.3", True),  # a network by any of its addresses
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),  # as a dual-stack socket shows it
        ("2001:db8::/32", "2001:DB8:0::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("*", "192.0.2.1", True),
        ("192.0.2.1,*", "203.0.113.1", True),
        ("", "127.0.0.1", False),
        ("127.0.0.1", "no address", False),
        ("", None, True),  # a Unix socket
    ],
)
def test_a_proxy_is_trusted_by_address_or_network(
    allowed: str, address: str | None, trusted: bool
) -> None:
    assert Proxies(allowed).trust(address) is trusted


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1:81"], ("192.0.2.1", 81)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:81"], ("2001:db8::1", 81)),
        (["[2001:db8::1]"], ("2001:db8::1", 0)),
        (["192.0.2.1:99999"], ("192.0.2.1", 0)),
        (["192.0.2.1:x"], ("192.0.2.1", 0)),
        # The rightmost that is not trusted: what stands left of it, the client wrote.
        (["203.0.113.9, 192.0.2.1"], ("192.0.2.1", 0)),
        (["203.0.113.9, 192.0.2.1, 10.0.0.1"], ("192.0.2.1", 0)),
        (["203.0.113.9", "192.0.2.1", "10.0.0.1, 127.0.0.1"], ("192.0.2.1", 0)),
        (["127.0.0.1", "192.0.2.1"], ("192.0.2.1", 0)),
        (["10.0.0.2, 10.0.0.1"], ("10.0.0.2", 0)),  # all trusted: the first
        (["192.0.2.1,"], ("192.0.2.1", 0)),
        # What is no address cannot be believed, nor what is left of it.
        (["192.0.2.1, unknown, 10.0.0.1"], ("10.0.0.1", 0)),
        (["192.0.2.1, \x1b[31m"], CLIENT),
        (["unknown"], CLIENT),
        (["[::1"], ("::1", 0)),
        ([""], CLIENT),
        ([], CLIENT),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy(
    forwarded: list[str], client: tuple[str, int]
) -> None:
    headers = [f"X-Forwarded-For: {line}" for line in forwarded]
    assert scope_of(*headers, allowed="127.0.0.1, 10.0.0.0/8")["client"] == client


def test_with_everyone_trusted_the_client_is_the_first_address() -> None:
    headers = ["X-Forwarded-For: 203.0.113.9, 192.0.2.1", "X-Forwarded-For: 198.51.100.1"]
    assert scope_of(*headers, allowed="*")["client"] == ("203.0.113.9", 0)


def test_a_peer_that_is_not_trusted_is_not_believed() -> None:
    headers = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"]
    scope = scope_of(*headers, allowed="10.0.0.1")
    assert (scope["client"], scope["scheme"]) == (CLIENT, "http")


@pytest.mark.parametrize(
    ("said", "tls", "schemes"),
    [
        ("https", False, ("https", "wss")),
        ("wss", False, ("https", "wss")),
        ("HTTPS ", False, ("https", "wss")),
        ("http", True, ("http", "ws")),
        ("ws", True, ("http", "ws")),
        ("http, https", False, ("https", "wss")),
        ("gopher", False, ("http", "ws")),
        ("", True, ("https", "wss")),
    ],
)
def test_the_scheme_is_the_one_the_proxy_was_asked_by(
    said: str, tls: bool, schemes: tuple[str, str]
) -> None:
    header = f"X-Forwarded-Proto: {said}"
    assert scope_of(header, secure=tls)["scheme"] == schemes[0]
    peer = Peer(CLIENT, SERVER, tls, Proxies("127.0.0.1"))
    assert websocket_scope(request("/", header), peer, "", {}, [])["scheme"] == schemes[1]


@pytest.mark.parametrize(
    ("options", "client"),
    [
        ({}, b"192.0.2.1"),
        ({"forwarded_allow_ips": "10.0.0.1"}, b"127.0.0.1"),
        ({"proxy_headers": False, "forwarded_allow_ips": "*"}, b"127.0.0.1"),
    ],
)
def test_the_options_say_who_is_believed(options: dict[str, Any], client: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    with running(app, **options) as server, Client(server) as connection:
        assert connection.get("/", "X-Forwarded-For: 192.0.2.1").body == client
