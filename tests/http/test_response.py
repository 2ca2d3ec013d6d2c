"""Responses as bytes, with h11's client as the judge of what they mean."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgiws.errors import ASGIError
from asgiws.http.response import Response, error_response


def judge(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes, Any]:
    """The head, the body and the client's state after ``data`` and the end of the connection."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(b"")
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert isinstance(event, h11.EndOfMessage)
            return head, body, client.states[h11.SERVER]


def written(
    pieces: list[bytes],
    status: int = 200,
    headers: Any = (),
    method: bytes = b"GET",
    version: str = "1.1",
    keep_alive: bool = True,
) -> bytes:
    response = Response(method, version, keep_alive, lambda given: b"date: today\r\n")
    response.start(status, headers)
    parts = [response.body(piece, True) for piece in pieces[:-1]]
    parts.append(response.body(pieces[-1], False))
    assert response.complete
    return b"".join(piece for part in parts for piece in part)


@given(
    st.lists(st.binary(), min_size=1),
    st.sampled_from([200, 204, 304, 404, 599, 999]),
    st.sampled_from([b"GET", b"HEAD"]),
    st.sampled_from(["1.0", "1.1"]),
    st.sampled_from(["nothing", "content-length", "transfer-encoding"]),
    st.booleans(),
)
def test_whatever_is_sent_arrives(
    pieces: list[bytes], status: int, method: bytes, version: str, framing: str, keep_alive: bool
) -> None:
    content = b"".join(pieces)
    headers = {
        "nothing": [],
        "content-length": [(b"Content-Length", b"%d" % len(content))],
        "transfer-encoding": [(b"Transfer-Encoding", b"chunked"), (b"content-length", b"999")],
    }[framing]
    keep_alive = keep_alive and version == "1.1"
    data = written(pieces, status, headers, method, version, keep_alive)
    head, body, state = judge(data, method.decode())
    assert head.status_code == status
    assert body == (b"" if method == b"HEAD" or status in (204, 304) else content)
    assert (state is h11.DONE) is keep_alive
    if status == 204:
        assert {b"content-length", b"transfer-encoding"}.isdisjoint(dict(head.headers))
    if version == "1.0":
        assert b"transfer-encoding" not in dict(head.headers)


def test_a_whole_response_is_one_head_and_its_body() -> None:
    assert written([b"hello"], headers=[(b"X-A", b"b")]) == (
        b"HTTP/1.1 200 OK\r\nx-a: b\r\ndate: today\r\ncontent-length: 5\r\n\r\nhello"
    )


def test_a_status_without_a_phrase_has_none() -> None:
    assert written([b""], 299).startswith(b"HTTP/1.1 299 \r\n")


def test_the_connection_closes_if_the_application_says_so() -> None:
    response = Response(b"GET", "1.1", True, lambda given: b"")
    response.start(200, [(b"connection", b"x , CLOSE")])
    assert b"connection: close" not in b"".join(response.body(b"", False))
    assert not response.keep_alive
    assert (
        written([b""], headers=[(b"connection", b"upgrade")], keep_alive=False).count(
            b"connection: "
        )
        == 2
    )


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\rb")],
        [(b"x", b"\0")],
        [(b"x", b"\x7f")],
        [(b"x", b"\x1b[0m")],
        [(b"x y", b"")],
        [(b"x\r\ny", b"")],
        [(b"x:", b"")],
        [(b"\xe9", b"")],
        [(b"", b"")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"")],
        [(b"content-length", b"1, 1")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [("x", "y")],
        [(b"x", "y")],
        [(b"x", None)],
        [(b"x",)],
        [b"x"],
        None,
        5,
    ],
)
def test_headers_that_may_not_be_sent_are_refused(headers: Any) -> None:
    response = Response(b"GET", "1.1", True, lambda given: b"")
    with pytest.raises(ASGIError, match="expected"):
        response.start(200, headers)
    assert not response.status


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_no_header_makes_more_lines_than_one(headers: list[tuple[bytes, bytes]]) -> None:
    response = Response(b"HEAD", "1.1", True, lambda given: b"")
    try:
        response.start(200, headers)
    except ASGIError:
        return
    head = b"".join(response.body(b"", False))
    assert (
        head.count(b"\n")
        == head.count(b"\r\n")
        == 2 + len([name for name, _ in headers if name.lower() != b"transfer-encoding"])
    )


def test_a_body_may_be_any_kind_of_bytes() -> None:
    for body in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert written([body]).endswith(b"content-length: 3\r\n\r\nabc")  # type: ignore[list-item]


def test_headers_may_hold_tabs_and_bytes_over_127() -> None:
    assert b"x: a\tb\xe9\r\n" in written([b""], headers=[(b"x", b"a\tb\xe9")])


def test_an_error_of_the_server_s_own_is_one_line_of_text() -> None:
    data = error_response(b"GET", 426, "", [(b"sec-websocket-version", b"13")], lambda given: b"")
    head, body, _ = judge(data)
    assert (head.status_code, body) == (426, b"Upgrade Required\n")
    assert dict(head.headers)[b"connection"] == b"close"
    assert dict(head.headers)[b"sec-websocket-version"] == b"13"
    assert judge(error_response(b"HEAD", 400, "why", [], lambda given: b""), "HEAD")[1] == b""
