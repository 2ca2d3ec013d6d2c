"""The opening handshake, server's side (RFC 6455 section 4), in both builds."""

from __future__ import annotations

import base64
import string
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

Headers = list[tuple[bytes, bytes]]

GOOD: Headers = [
    (b"host", b"server.example.com"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", KEY),
    (b"origin", b"http://example.com"),
    (b"sec-websocket-version", b"13"),
]


def but(name: bytes, *values: bytes) -> Headers:
    """A good request's headers, with the fields ``name`` replaced by ``values``."""
    return [pair for pair in GOOD if pair[0] != name] + [(name, value) for value in values]


def refusal(package: ModuleType, headers: Headers) -> Any:
    assert package.wire.handshake.requested(b"GET", "1.1", headers)
    with pytest.raises(package.wire.errors.HandshakeRefused) as caught:
        package.wire.handshake.check(headers)
    assert caught.value.reason
    if caught.value.status != 426:  # which says what would be understood
        assert caught.value.headers == ()
    return caught.value


class TestRequested:
    """Which requests ask for a WebSocket; all others are plain HTTP."""

    def test_an_upgrade_to_websocket_does(self, package: ModuleType) -> None:
        assert package.wire.handshake.requested(b"GET", "1.1", GOOD)

    @pytest.mark.parametrize(
        "values",
        [
            (b"WebSocket",),
            (b"WEBSOCKET",),
            (b"h2c, websocket",),
            (b"websocket , h2c",),
            (b"h2c\t,\twebsocket\t",),
            (b"h2c", b"websocket"),
            (b", ,websocket",),
        ],
    )
    def test_the_token_counts_in_any_case_and_list(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        assert package.wire.handshake.requested(b"GET", "1.1", but(b"upgrade", *values))

    @pytest.mark.parametrize(
        "values",
        [
            (),
            (b"",),
            (b"notwebsocket",),
            (b"websocket2",),
            (b"websockets",),
            (b"websocket/13",),
            (b"web socket",),
            (b"h2c websocket",),
            (b'"websocket"',),
            (b"h2c",),
            (b"TLS/1.0, HTTP/2.0",),
            (b"websocke\xfe",),
        ],
    )
    def test_other_protocols_are_plain_http(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        assert not package.wire.handshake.requested(b"GET", "1.1", but(b"upgrade", *values))

    @pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"PUT"])
    def test_other_methods_are_plain_http(self, package: ModuleType, method: bytes) -> None:
        assert not package.wire.handshake.requested(method, "1.1", GOOD)

    @pytest.mark.parametrize("version", ["1.0", "0.9", "2.0", "1.2", ""])
    def test_other_versions_of_http_ignore_upgrade(self, package: ModuleType, version: str) -> None:
        assert not package.wire.handshake.requested(b"GET", version, GOOD)


class TestCheck:
    """Section 4.2.1."""

    def test_a_good_request(self, package: ModuleType) -> None:
        request = package.wire.handshake.check(GOOD)
        assert (request.key, request.subprotocols, request.offers) == (KEY, [], [])

    @pytest.mark.parametrize(
        "values",
        [(b"upgrade",), (b"keep-alive, UPGRADE",), (b"keep-alive", b"Upgrade"), (b" Upgrade\t,",)],
    )
    def test_connection_is_a_list_of_tokens(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        assert package.wire.handshake.check(but(b"connection", *values)).key == KEY

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"connection", b"upgrade"),
            (b"connection", b"keep-alive, Upgrade"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits"),
        ],
    )
    def test_usual_headers_stand_in_memory_once(
        self, package: ModuleType, name: bytes, value: bytes
    ) -> None:
        first = but(name, value)
        again = [(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in first]
        for headers in (first, again):
            before = list(headers)
            package.wire.handshake.check(headers)
            assert headers == before
        found = [pair for pair in first if pair[0] == name]
        assert len(found) == 1
        assert [pair for pair in again if pair is found[0]] == found

    @pytest.mark.parametrize(
        "values",
        [(), (b"",), (b"close",), (b"upgrades",), (b"keep-alive upgrade",), (b"no-upgrade",)],
    )
    def test_connection_must_name_upgrade(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        assert refusal(package, but(b"connection", *values)).status == 400

    @pytest.mark.parametrize(
        "values",
        [
            (),
            (b"",),
            (b"8",),
            (b"99",),
            (b"013",),
            (b"13.0",),
            (b"13, 8",),
            (b"8, 13",),
            (b"8", b"13"),
            (b"13", b"13"),
            (b"\xb1\xb3",),
            (b"-13",),
        ],
    )
    def test_another_version_is_answered_with_ours(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        # Section 4.2.2: "an appropriate HTTP error code (such as 426 Upgrade Required) and
        # a |Sec-WebSocket-Version| header field".
        refused = refusal(package, but(b"sec-websocket-version", *values))
        assert refused.status == 426
        # RFC 9110, 15.5.22: "The server MUST send an Upgrade header field in a 426 response",
        # and 7.8: with an Upgrade option in Connection.
        assert refused.headers == (
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade, close"),
            (b"sec-websocket-version", b"13"),
        )

    @pytest.mark.parametrize(
        "values",
        [
            (),
            (b"",),
            (KEY, KEY),
            (KEY[:-1],),
            (KEY[:-2],),
            (KEY + b"=",),
            (KEY + b"\n",),
            (b" " + KEY,),
            (KEY[:-4] + b"!Q==",),
            (KEY.replace(b"Z", b"-"),),
            (KEY.replace(b"Z", b"\xe9"),),
            (base64.b64encode(b"x" * 15),),
            (base64.b64encode(b"x" * 17),),
            (base64.b64encode(b"x" * 18),),
            (b"=" * 24,),
            (b"A" * 24,),
            (b"A" * 10_000,),
        ],
    )
    def test_the_key_is_16_bytes_in_base64_and_there_once(
        self, package: ModuleType, values: tuple[bytes, ...]
    ) -> None:
        assert refusal(package, but(b"sec-websocket-key", *values)).status == 400

    @pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding"])
    @pytest.mark.parametrize("value", [b"1", b"5", b"00001", b"chunked", b"10", b"-0", b"0, 1"])
    def test_a_body_is_refused(self, package: ModuleType, name: bytes, value: bytes) -> None:
        assert refusal(package, [*GOOD, (name, value)]).status == 400

    def test_any_transfer_encoding_is_a_body(self, package: ModuleType) -> None:
        for value in b"", b"identity", b"0":
            assert refusal(package, [*GOOD, (b"transfer-encoding", value)]).status == 400

    def test_a_second_length_is_seen_too(self, package: ModuleType) -> None:
        headers = [*GOOD, (b"content-length", b"0"), (b"content-length", b"7")]
        assert refusal(package, headers).status == 400

    def test_a_content_length_of_nothing_is_no_body(self, package: ModuleType) -> None:
        for value in b"0", b"00":
            headers = [*GOOD, (b"content-length", value)]
            assert package.wire.handshake.check(headers).key == KEY

    @pytest.mark.parametrize(
        ("values", "offered"),
        [
            ((b"chat",), ["chat"]),
            ((b"chat, superchat",), ["chat", "superchat"]),
            ((b"b", b"a"), ["b", "a"]),
            ((b"c,b", b"a"), ["c", "b", "a"]),
            ((b"\tchat ,  superchat\t",), ["chat", "superchat"]),
            ((b"chat,, ,superchat,",), ["chat", "superchat"]),
            ((b"",), []),
            ((b"Chat, chat",), ["Chat", "chat"]),
            # A client must not, but nothing goes wrong, and other servers let it in.
            ((b"chat, b, chat",), ["chat", "b", "chat"]),
            ((b"chat", b"chat"), ["chat", "chat"]),
            ((b"graphql-transport-ws", b"v12.stomp"), ["graphql-transport-ws", "v12.stomp"]),
            ((b"!#$%&'*+-.^_`|~09azAZ",), ["!#$%&'*+-.^_`|~09azAZ"]),
        ],
    )
    def test_subprotocols_in_the_clients_order(
        self, package: ModuleType, values: tuple[bytes, ...], offered: list[str]
    ) -> None:
        request = package.wire.handshake.check(but(b"sec-websocket-protocol", *values))
        assert request.subprotocols == offered

    @pytest.mark.parametrize(
        "values",
        [
            (b"two words",),
            (b'"chat"',),
            (b"chat;q=1",),
            (b"ch\xe4t",),
            (b"a/b",),
            (b"\xff",),
            (b"chat\x00",),
            (b"chat\x7f",),
            (b"http://example.com/",),
            (b"good, (bad)",),
        ],
    )
    def test_subprotocols_are_tokens(self, package: ModuleType, values: tuple[bytes, ...]) -> None:
        # Section 4.1, item 10: "The elements that comprise this value MUST be non-empty
        # strings with characters in the range U+0021 to U+007E not including separator
        # characters".
        assert refusal(package, but(b"sec-websocket-protocol", *values)).status == 400

    def test_every_byte_of_a_subprotocol_is_judged(self, package: ModuleType) -> None:
        tokens = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
        for octet in range(256):
            if octet in b", \t":
                continue
            headers = but(b"sec-websocket-protocol", b"a%cb" % octet)
            if octet in tokens:
                assert package.wire.handshake.check(headers).subprotocols == [f"a{octet:c}b"]
            else:
                assert refusal(package, headers).status == 400

    def test_offers_are_handed_on_in_order(self, package: ModuleType) -> None:
        values = b"permessage-deflate; client_max_window_bits", b"x, \xff", b""
        request = package.wire.handshake.check(but(b"sec-websocket-extensions", *values))
        assert request.offers == list(values)

    @pytest.mark.parametrize(
        ("name", "some", "too_many"),
        [
            (b"sec-websocket-protocol", (b"a,b" * 33, b"c"), (b"," * 99, b"")),
            (b"sec-websocket-protocol", (b"a",) * 100, (b"a",) * 101),
            (b"sec-websocket-extensions", (b"," * 99,), (b"," * 100,)),
            (b"sec-websocket-extensions", (b"a" + b"; b" * 98, b""), (b"a" + b"; b" * 99, b"")),
            (b"sec-websocket-extensions", (b"a",) * 100, (b"a",) * 101),
        ],
    )
    def test_a_client_may_offer_a_hundred_things_empty_ones_included(
        self,
        package: ModuleType,
        name: bytes,
        some: tuple[bytes, ...],
        too_many: tuple[bytes, ...],
    ) -> None:
        # RFC 9110, 5.6.1.2: "a reasonable number of empty list elements: enough to handle
        # common mistakes [...], but not so much that they could be used as a
        # denial-of-service mechanism."
        assert package.wire.handshake.check(but(name, *some)).key == KEY
        assert refusal(package, but(name, *too_many)).status == 400


class TestResponse:
    """Section 4.2.2."""

    @pytest.mark.parametrize(
        ("key", "accept"),
        [
            (KEY, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (b"xqBt3ImNzJbYqRINxEFlkg==", b"K7DJLdLooIwIG/MOpvWFB3y3FE8="),
        ],
    )
    def test_the_accept_value(self, package: ModuleType, key: bytes, accept: bytes) -> None:
        assert package.wire.handshake.accept_key(key) == accept

    def test_the_least_response(self, package: ModuleType) -> None:
        request = package.wire.handshake.check(GOOD)
        assert package.wire.handshake.response(request, None, None, ()) == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"\r\n"
        )

    def test_everything_that_may_stand_in_a_response(self, package: ModuleType) -> None:
        request = package.wire.handshake.check(GOOD)
        headers = [(b"set-cookie", b"a=1"), (b"X-Case", b"Kept"), (b"set-cookie", b"b=2")]
        answer = package.wire.handshake.response(request, "chat", b"permessage-deflate", headers)
        lines = answer.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
        assert lines[4:] == [
            b"Sec-WebSocket-Protocol: chat",
            b"Sec-WebSocket-Extensions: permessage-deflate",
            b"set-cookie: a=1",
            b"X-Case: Kept",
            b"set-cookie: b=2",
            b"",
            b"",
        ]


names = st.sampled_from([name for name, _ in GOOD]) | st.sampled_from(
    [
        b"content-length",
        b"transfer-encoding",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
    ]
)
values = st.binary(max_size=30) | st.sampled_from([value for _, value in GOOD])


@given(st.lists(st.tuples(names, values), max_size=4), st.lists(names, max_size=2))
def test_any_headers_are_accepted_or_refused_alike_in_both_builds(
    more: Headers, less: list[bytes]
) -> None:
    headers = [pair for pair in GOOD if pair[0] not in less] + more
    verdicts = []
    for package in BUILDS.values():
        package.wire.handshake.requested(b"GET", "1.1", headers)
        try:
            request = package.wire.handshake.check(headers)
            verdicts.append((request.key, request.subprotocols, request.offers))
        except package.wire.errors.HandshakeRefused as exc:
            verdicts.append((exc.status, exc.reason))
    assert all(verdict == verdicts[0] for verdict in verdicts)
