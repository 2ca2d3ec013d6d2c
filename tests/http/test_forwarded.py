"""What proxies say of a client, and who is believed."""

from __future__ import annotations

from typing import Any

import pytest

from asgiws.http.forwarded import Proxies
from asgiws.http.notice import DrainNotice
from asgiws.http.request import Request, parse
from asgiws.http.scope import Peer, http_scope, websocket_scope

from ..toolkit import raw_http
from ..toolkit.raw_http import Client
from ..toolkit.running import running

NOTICE = DrainNotice()
CLIENT = ("127.0.0.1", 5000)
SERVER = ("127.0.0.1", 8000)


def request(target: str = "/", *headers: str) -> Request:
    return parse(raw_http.request("Host: a", *headers, target=target))


def scope_of(*headers: str, allowed: str = "127.0.0.1", secure: bool = False) -> dict[str, Any]:
    proxies = Proxies(allowed)
    peer = Peer(CLIENT, SERVER, secure, proxies if proxies.trust(CLIENT[0]) else None)
    return http_scope(request("/", *headers), peer, "", {}, NOTICE)


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
        (["192.0.2.1, [31m"], CLIENT),
        # A zone means something on its own host only, and may hold any character.
        (["fe80::1%eth0"], ("fe80::1", 0)),
        (["[fe80::1%25eth0]:81"], ("fe80::1", 81)),
        (['fe80::1%" 200'], ("fe80::1", 0)),
        (["192.0.2.1%eth0"], CLIENT),
        (["fe80::1%a%b"], CLIENT),
        (["192.0.2.1, %eth0"], CLIENT),
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
    assert websocket_scope(request("/", header), peer, "", {}, NOTICE, [])["scheme"] == schemes[1]


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
