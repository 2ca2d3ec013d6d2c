"""Cross-site WebSocket hijacking (mcp CVE-2026-59950): which pages ``--ws-origins`` lets in."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from asgiws import Config
from asgiws.errors import ConfigError
from asgiws.wire.origin import Origins

from ..toolkit.raw_http import Client
from ..toolkit.raw_websocket import upgrade
from ..toolkit.running import PARSERS, running

EVIL = (
    "https://example.com.evil",
    "https://evil-example.com",
    "https://evilexample.com",
    "https://example.com@evil.example",
    "https://evil.example/https://example.com",
    "https://evil.example?example.com",
    "https://evil.example#.example.com",
    "https://evil.example\\.example.com",
    "https://evil.example\t.example.com",
    "https://example.com evil",
    "https://example.com:443.evil",
    "https://example.comevil.example",
    "https://example.com.",
    "https://example.com/",
    "example.com",
    "//example.com",
    "https:example.com",
    "https://",
    "*",
    "https://*",
    "same-host",
    "https://ex\xe4mple.com",
)

# list -> (allowed, refused)
LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "*": (("https://example.com", "null", "garbage", "https://a b"), ()),
    "https://example.com": (
        ("https://example.com", "HTTPS://EXAMPLE.COM", "https://example.com:443"),
        (
            "http://example.com",
            "https://example.com:444",
            "https://example.com:80",
            "wss://example.com",
            "https://www.example.com",
            "null",
            *EVIL,
        ),
    ),
    "http://example.com:8080": (
        ("http://example.com:8080", "http://Example.Com:08080"),
        ("http://example.com", "https://example.com:8080", "http://example.com:80"),
    ),
    "http://example.com:80": (("http://example.com", "http://example.com:80"), ()),
    "https://*.example.com": (
        ("https://a.example.com", "https://A.B.EXAMPLE.com:443"),
        (
            "https://example.com",
            "https://.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil",
            "https://aexample.com",
            "null",
            *EVIL,
        ),
    ),
    "https://bücher.example": (
        ("https://xn--bcher-kva.example", "https://XN--BCHER-KVA.example"),
        ("https://bucher.example", "https://b\xc3\xbccher.example", "https://buecher.example"),
    ),
    "https://BÜCHER.example": (("https://xn--bcher-kva.example",), ()),
    "https://*.straße.de": (("https://a.xn--strae-oqa.de",), ("https://a.strasse.de",)),
    "https://xn--bcher-kva.example": (("https://xn--bcher-kva.example",), ()),
    "http://[::1]:80": (("http://[::1]", "http://[0:0:0:0:0:0:0:1]"), ("http://[::2]", "http://::1")),
    "http://127.0.0.1:3000": (("http://127.0.0.1:3000",), ("http://localhost:3000",)),
    "null": (("null",), ("https://example.com", "NULL", "null null")),
    "chrome-extension://abcdef": (("chrome-extension://abcdef",), ("chrome-extension://abc",)),
    "file://": (("file://",), ("http://", "null")),
    "https://a.example, https://b.example:1": (
        ("https://a.example", "https://b.example:1"),
        ("https://b.example", "https://a.example, https://b.example:1"),
    ),
}  # fmt: skip


def allowed(entries: str, *origins: str, host: str = "example.com", secure: bool = True) -> bool:
    headers = [(b"host", host.encode())]
    headers += [(b"origin", origin.encode("latin-1")) for origin in origins]
    return Origins(Config("a:b", ws_origins=entries).ws_origins.split(",")).allow(headers, secure)


@pytest.mark.parametrize("entries", LISTS)
def test_a_list_lets_in_what_it_names_and_nothing_else(entries: str) -> None:
    let_in, refused = LISTS[entries]
    for origin in let_in:
        assert allowed(entries, origin), origin
    for origin in refused:
        assert not allowed(entries, origin), origin


@pytest.mark.parametrize("entries", LISTS)
def test_a_client_without_an_origin_is_no_browser(entries: str) -> None:
    assert allowed(entries)


def test_two_origins_are_nobody_s() -> None:
    assert not allowed("https://a.example", "https://a.example", "https://a.example")
    assert not allowed("same-host", "https://example.com", "https://example.com")
    assert allowed("*", "https://a.example", "https://a.example")


@pytest.mark.parametrize(
    ("origin", "host", "secure", "same"),
    [
        ("https://example.com", "example.com", True, True),
        ("https://EXAMPLE.com", "example.COM:443", True, True),
        ("https://example.com:443", "example.com", True, True),
        ("http://localhost:8000", "localhost:8000", False, True),
        ("http://[::1]:8000", "[::1]:8000", False, True),
        ("http://example.com", "example.com:", False, True),
        ("http://example.com:8000", "example.com:00008000", False, True),
        ("http://[fe80::1]", "[fe80::1%25eth0]", False, False),
        ("http://a%41", "a%41", False, False),
        ("http://example.com", "example.com", True, False),
        ("https://example.com", "example.com", False, False),
        ("http://localhost:3000", "localhost:8000", False, False),
        ("http://localhost", "localhost:8000", False, False),
        ("http://127.0.0.1:8000", "localhost:8000", False, False),
        ("https://a.example.com", "example.com", True, False),
        ("https://example.com.evil", "example.com", True, False),
        ("null", "example.com", True, False),
        ("https://", "example.com", True, False),
    ],
)
def test_same_host_compares_scheme_host_and_port(
    origin: str, host: str, secure: bool, same: bool
) -> None:
    assert allowed("same-host", origin, host=host, secure=secure) is same
    assert allowed("https://other.example, Same-Host", origin, host=host, secure=secure) is same


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("example.com", "example.com is not an origin: expected scheme://host"),
        ("https://example.com/", "https://example.com/ is not an origin"),
        ("https://example.com/path", "is not an origin"),
        ("https://user@example.com", "is not an origin"),
        ("https://a.example https://b.example", "is not an origin"),
        ("https://example.com:http", "is not an origin"),
        ("https://[::1", "is not an origin"),
        ("https://[1:2]", "is not an origin"),
        # What no browser would ever send.
        ("https://", "https:// is not an origin"),
        ("http://:8080", "is not an origin"),
        ("https://*.", "a * may only stand for subdomains"),
        ("https://example.com:99999", "is not an origin"),
        ("https://example.com:65536", "is not an origin"),
        ("https://example.com:", "is not an origin"),
        ("https://ex%41mple.com", "is not an origin"),
        ("https://a b", "is not an origin"),
        ("https://*.a b", "is not an origin"),
        ("https://.example.com", "is not an origin"),
        ("https://*..example.com", "is not an origin"),
        ("https://a..b", "is not an origin"),
        ("https://a<b", "is not an origin"),
        ("https://a\uff0fb", "is not an origin"),  # which is a slash, once normalised
        ("http://[fe80::1%25eth0]", "is not an origin"),
        ("http://[v1.a]", "is not an origin"),
        ("wss://example.com", "an origin begins with http:// or https://"),
        ("https://*", "a * may only stand for subdomains"),
        ("https://*.*.example.com", "a * may only stand for subdomains"),
        ("https://a*.example.com", "a * may only stand for subdomains"),
        ("", "must be *, or same-host"),
        (" , ", "must be *, or same-host"),
    ],
)
def test_a_mistake_in_the_list_is_told_at_the_start(entries: str, message: str) -> None:
    with pytest.raises(ConfigError, match="ws_origins") as caught:
        Config("a:b", ws_origins=entries)
    assert message in str(caught.value)


def test_python_and_toml_may_give_a_list() -> None:
    origins: Any = ["same-host", " https://a.example "]
    assert Config("a:b", ws_origins=origins).ws_origins == "same-host,https://a.example"


# Over a real socket.


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class App:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
        else:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})


def test_a_refused_page_gets_403_and_the_application_never_hears_of_it(parser: str) -> None:
    app = App()
    with running(app, http=parser, ws_origins="https://example.com") as server:
        for origin in ("https://evil.example", "null", "http://example.com", "\xff"):
            with Client(server) as client:
                client.send(upgrade(f"Origin: {origin}"))
                reply = client.read()
                assert reply.status == 403
                assert b"Origin" in reply.body
                assert client.rest() == b""
        assert app.calls == 0
        for lines in ([], ["Origin: https://example.com"]):
            with Client(server) as client:
                client.send(upgrade(*lines))
                assert client.read().status == 101
        with Client(server) as client:
            assert client.get("/", "Origin: https://evil.example").status == 200
    assert app.calls == 3


def test_by_default_every_page_is_let_in(parser: str) -> None:
    with running(App(), http=parser) as server:
        for origin in ("https://anywhere.example", "null", "file://"):
            with Client(server) as client:
                client.send(upgrade(f"Origin: {origin}"))
                assert client.read().status == 101


def test_same_host_behind_a_trusted_proxy_goes_by_the_scheme_that_it_tells(parser: str) -> None:
    lines = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Origin: https://a.example"]
    for trusted, status in (("127.0.0.1", 101), ("10.0.0.1", 403)):
        with (
            running(
                App(), http=parser, ws_origins="same-host", forwarded_allow_ips=trusted
            ) as server,
            Client(server) as client,
        ):
            client.send(upgrade(*lines, host="a.example"))
            assert client.read().status == status


def test_same_host_over_tls(tmp_path: Path, parser: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = tmp_path / "cert.pem"
    pem.write_bytes(
        certificate.private_key_pem.bytes()
        + b"".join(part.bytes() for part in certificate.cert_chain_pems)
    )
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    with running(App(), http=parser, ws_origins="same-host", ssl_certfile=str(pem)) as server:
        for scheme, status in (("https", 101), ("http", 403)):
            with Client(server, tls=trusting) as client:
                host = f"localhost:{server.port}"
                client.send(upgrade(f"Origin: {scheme}://{host}", host=host))
                assert client.read().status == status
