"""One request and its response, as applications and clients may rely on them, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from typing import Any

import pytest

from asgiws.errors import ASGIError

from ..toolkit.apps import Recorder, echo, hello, read_body, respond
from ..toolkit.builds import BUILDS
from ..toolkit.raw_http import CHUNKED, GET, Client, sized
from ..toolkit.running import DEADLINE, running


def test_a_body_may_be_sized_or_chunked(loop: str) -> None:
    with running(echo, loop) as server, Client(server) as client:
        client.send(sized(5) + b"fixed")
        assert client.read().body == b"/ fixed"
        client.send(CHUNKED + b"3\r\none\r\nA\r\n, and more\r\n0\r\n\r\n")
        assert client.read().body == b"/ one, and more"
        client.send(sized(0))
        assert client.read().body == b"/ "


def test_a_body_comes_to_the_application_as_it_arrives(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            app.note(event)
        await respond(send)

    with running(call, loop) as server, Client(server) as client:
        client.send(sized(6))
        for piece, more in ((b"one", True), (b"two", False)):
            client.send(piece)
            assert app.next() == {"type": "http.request", "body": piece, "more_body": more}
        assert client.read().status == 200


def test_a_body_that_the_application_does_not_take_is_not_read(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        size = 0
        more = True
        while more:
            event = await receive()
            size += len(event["body"])
            app.note(len(event["body"]))
            more = event["more_body"]
        await respond(send, b"%d" % size)

    total = 30_000_000
    with running(call, loop) as server, Client(server) as client:
        sender = threading.Thread(target=client.send, args=(sized(total) + bytes(total),))
        sender.start()
        sender.join(0.3)
        assert sender.is_alive(), "30 MB were taken by a server whose application takes none"
        app.go.set()
        assert client.read().body == b"%d" % total
        sender.join()
        assert max(app.notes.queue) <= 65_536 + 262_144


def test_100_continue_is_sent_when_the_application_first_receives(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        await respond(send, await read_body(receive))

    with running(call, loop) as server, Client(server) as client:
        client.send(sized(4, "Expect: 100-continue"))
        assert client.is_silent(0.05)
        app.go.set()
        interim = client.read()
        assert (interim.status, interim.phrase, interim.names) == (100, "Continue", [])
        client.send(b"body")
        assert client.read().body == b"body"
        assert client.get().status == 200  # and the connection goes on


def test_100_continue_is_not_sent_to_a_client_that_does_not_wait(loop: str) -> None:
    with running(echo, loop) as server, Client(server) as client:
        client.send(sized(4, "Expect: 100-continue") + b"body")
        assert client.read().body == b"/ body"
        client.send(b"POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.is_silent(0.05)
        client.send(b"body")
        assert client.read().body == b"/ body"


def test_a_client_that_waits_for_100_continue_may_get_its_answer_instead(loop: str) -> None:
    with running(hello, loop) as server, Client(server) as client:
        client.send(sized(4, "Expect: 100-continue"))
        reply = client.read()
        assert reply.body == b"hello"
        # Whether its body will come is unknown: the connection cannot persist.
        assert reply.headers["connection"] == "close"
        client.send(b"body" + GET)
        assert client.rest() == b""


def test_a_small_body_that_is_never_read_costs_nothing(loop: str) -> None:
    with running(hello, loop) as server, Client(server) as client:
        client.send(sized(60_000))
        assert client.read().body == b"hello"
        client.send(bytes(60_000) + GET)
        assert client.read().body == b"hello"
        client.send(CHUNKED)
        assert client.read().body == b"hello"
        client.send(b"5\r\nhello\r\n0\r\n\r\n" + GET)
        assert client.read().body == b"hello"


def test_a_large_body_that_is_never_read_ends_the_connection_but_not_the_response(
    loop: str,
) -> None:
    with running(hello, loop) as server, Client(server) as client:
        client.send(sized(10_000_000) + bytes(500_000))
        reply = client.read()
        assert reply.body == b"hello"
        assert reply.headers["connection"] == "close"
        client.send(bytes(1_000_000))  # dropped, and no RST for it
        assert client.rest() == b""
    with running(hello, loop) as server, Client(server) as client:
        client.send(CHUNKED)
        assert client.read().body == b"hello"
        client.send(b"10000\r\n" + bytes(65536) + b"\r\n1\r\n!")
        assert client.rest() == b""

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await send({"type": "http.response.body"})

    with running(stream, loop) as server, Client(server) as client:
        client.send(sized(10_000_000) + bytes(500_000))
        assert client.read().body == b"hello"
        assert client.rest() == b""


def test_the_rest_of_a_body_that_does_not_come_ends_the_connection(loop: str) -> None:
    with running(hello, loop, timeout_keep_alive=0.2) as server, Client(server) as client:
        client.send(sized(100))
        assert client.read().body == b"hello"
        assert client.rest() == b""


def test_a_body_that_nobody_wants_may_follow_a_response_that_is_taken_slowly(loop: str) -> None:
    size = 16_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(size))

    with (
        running(app, loop, timeout_keep_alive=0.7) as server,
        Client(server, receive_buffer=4096) as client,
    ):
        client.send(sized(4))
        client.read_head()
        for _ in range(8):  # longer than the keep-alive timeout
            threading.Event().wait(0.1)
            assert len(client.file.read(1_000_000)) == 1_000_000
        assert len(client.file.read(size - 8_000_000)) == size - 8_000_000
        client.send(b"body" + GET)
        assert len(client.read().body) == size
        client.send(sized(4))
        assert len(client.read().body) == size
        assert client.rest() == b""


def test_absolute_targets_and_the_asterisk_are_understood(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope["headers"])[b"host"]
        await respond(send, b"%s %s %s" % (scope["raw_path"], scope["query_string"], host))

    with running(app, loop) as server, Client(server) as client:
        assert client.get("http://example.com:81/a%20b?c=d").body == b"/a%20b c=d example.com:81"
        assert client.get("HTTPS://example.com").body == b"/  example.com"
        assert client.get("http://example.com?q").body == b"/ q example.com"
        assert client.get("*", method="OPTIONS").body == b"*  localhost"
        assert client.get("http://example.com", method="OPTIONS").body == b"*  example.com"


def test_headers_come_lower_cased_in_order_and_with_duplicates(loop: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await respond(send)

    with running(app, loop) as server, Client(server) as client:
        client.get("/", "X-One: 1", "Cookie: a=\xe9", "x-one:  2\t", "X-Empty:")
    assert seen == [
        (b"host", b"localhost"),
        (b"x-one", b"1"),
        (b"cookie", b"a=\xe9"),
        (b"x-one", b"2"),
        (b"x-empty", b""),
    ]


def test_a_response_carries_date_and_server_unless_the_application_gives_its_own(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        own = [(b"Server", b"mine"), (b"Date", b"today")] if scope["path"] == "/own" else []
        await respond(send, b"", 200, *own)

    with running(app, loop, headers=["X-Default: yes"]) as server, Client(server) as client:
        reply = client.get()
        assert reply.headers["server"] == "asgiws"
        assert re.fullmatch(
            r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", str(reply.headers["date"])
        )
        assert reply.headers["x-default"] == "yes"
        own = client.get("/own")
        assert (own.headers["server"], own.headers["date"]) == ("mine", "today")
        assert len(own.names) == len(set(own.names))


def test_default_headers_can_be_switched_off_and_replaced(loop: str) -> None:
    with (
        running(hello, loop, server_header=False, date_header=False) as server,
        Client(server) as client,
    ):
        assert client.get().names == ["content-length"]
    with running(hello, loop, headers=["Server: other", "X-A: 1", "X-A: 2"]) as server:
        with Client(server) as client:
            reply = client.get()
        assert reply.headers["server"] == "other"
        assert reply.names.count("server") == 1
        assert reply.names.count("x-a") == 2


def test_a_body_in_pieces_is_chunked_and_one_in_a_piece_is_sized(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        if scope["path"] == "/pieces":
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await send({"type": "http.response.body", "more_body": True})
            await send({"type": "http.response.body", "body": b"two"})
        else:
            await send({"type": "http.response.body", "body": b"whole"})

    with running(app, loop) as server, Client(server) as client:
        pieces = client.get("/pieces")
        assert pieces.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in pieces.headers
        assert pieces.body == b"onetwo"
        whole = client.get()
        assert whole.headers["content-length"] == "5"
        assert "transfer-encoding" not in whole.headers


def test_a_piece_of_a_response_is_written_at_once(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await app.until_told()
        await send({"type": "http.response.body", "body": b"last"})

    with running(call, loop) as server, Client(server) as client:
        client.send(GET)
        client.read_head()
        assert client.read_chunk() == b"first"
        app.go.set()
        assert client.read_chunk() == b"last"
        assert client.read_chunk() == b""


class Noted:
    """A transport whose writes are noted down."""

    def __init__(self, transport: Any, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_the_first_piece_of_an_iteration_leaves_at_once_and_the_others_together(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = BUILDS["interpreted"].http.connection.HTTPProtocol
    made = protocol.connection_made
    turn = asyncio.Event()
    writes: list[bytes] = []
    monkeypatch.setattr(
        protocol,
        "connection_made",
        lambda connection, transport: made(connection, Noted(transport, writes)),
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for piece in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await turn.wait()
        for piece in (b"four", b"five", b"x" * 70_000, b"six"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    package = BUILDS["interpreted"]
    with running(app, loop, package) as server, Client(server) as client:
        client.send(GET)
        client.read_head()
        assert [client.read_chunk() for _ in range(3)] == [b"one", b"two", b"three"]
        server.call(turn.set)
        rest = [client.read_chunk() for _ in range(6)]
        assert rest == [b"four", b"five", b"x" * 70_000, b"six", b"end", b""]
        assert writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
        large = b"4\r\nfive\r\n11170\r\n" + b"x" * 70_000 + b"\r\n"
        last = b"3\r\nsix\r\n3\r\nend\r\n0\r\n\r\n"
        assert writes[1:] == [b"3\r\ntwo\r\n5\r\nthree\r\n", b"4\r\nfour\r\n", large, last]


@pytest.mark.parametrize("end", ["return", "raise", "finish", "malformed", "stop"])
def test_pieces_that_wait_leave_before_the_connection_ends(loop: str, end: str) -> None:
    """Whoever ends it: an application that breaks off, a client that has finished or says what is
    malformed, a server.
    """
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for piece in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if end == "raise":
            raise ValueError
        if end == "finish":
            client.sock.shutdown(socket.SHUT_WR)
            await left.wait()
        if end == "malformed":
            client.send(b"this is not a chunk\r\n")
            await left.wait()
        if end == "stop":
            server.server.shutdown()
            while (await receive())["type"] != "http.disconnect":
                pass

    with running(app, loop) as server, Client(server) as client:
        client.send({"finish": sized(10) + b"12345", "malformed": CHUNKED}.get(end, GET))
        client.read_head()
        assert [client.read_chunk() for _ in range(3)] == [b"one", b"two", b"three"]
        assert client.file.read() == b""
        server.call(left.set)


def test_head_204_and_304_have_no_body(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = int(scope["path"][1:])
        await respond(send, b"four", status, (b"content-length", b"4"))

    with running(app, loop) as server, Client(server) as client:
        head = client.get("/200", method="HEAD")
        assert (head.status, head.headers["content-length"]) == (200, "4")
        assert "content-length" not in client.get("/204").headers
        assert client.get("/304").headers["content-length"] == "4"
        assert client.get("/200").body == b"four"  # nothing was left on the wire


def test_http_1_0_gets_no_chunks_and_no_second_request(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})

    with running(app, loop) as server, Client(server) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        reply = client.read()
        assert (reply.version, reply.body) == ("HTTP/1.1", b"one1.0")
        assert reply.headers["connection"] == "close"
        assert "transfer-encoding" not in reply.headers
        assert client.rest() == b""


@pytest.mark.parametrize("side", ["client", "application"])
def test_either_side_can_ask_to_close(loop: str, side: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"connection", b"Close")] if side == "application" else []
        await respond(send, b"bye", 200, *headers)

    with running(app, loop) as server, Client(server) as client:
        reply = client.get("/", *(["Connection: x, CLOSE"] if side == "client" else []))
        assert reply.headers["connection"].lower() == "close"
        assert reply.names.count("connection") == 1
        assert reply.body == b"bye"
        assert client.rest() == b""


def test_send_waits_while_the_client_does_not_read_and_is_woken_when_it_goes(loop: str) -> None:
    app = Recorder()
    sent = 0

    async def call(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            sent += 100_000
        await send({"type": "http.response.body"})
        app.note("sent")

    with running(call, loop) as server, Client(server, receive_buffer=4096) as client:
        client.send(GET)
        client.read_head()
        before = -1
        while before != sent:
            before = sent
            threading.Event().wait(0.1)
        assert sent < 20_000_000
        client.reset()
        # A send to a client that has left is ignored (ASGI 2.3): the rest is sent in no time.
        assert app.next() == "sent"


@pytest.mark.parametrize("way", ["stream", "whole", "close"])
def test_a_client_that_takes_nothing_is_cut_off_after_the_write_timeout(
    loop: str, way: str
) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"connection", b"close")] if way == "close" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        piece = bytes(20_000_000)
        await send({"type": "http.response.body", "body": piece, "more_body": way == "stream"})
        app.note((await receive())["type"])

    with running(call, loop, timeout_write=0.8) as server:
        with Client(server, receive_buffer=4096) as client:
            client.send(GET)
            client.read_head()
            for _ in range(10):  # slow, and yet alive
                assert client.file.read(1_000_000)
                threading.Event().wait(0.1)
            assert server.call(lambda: len(server.server.serving.connections)) == 1
            server.wait_until(lambda: not server.server.serving.connections)
        assert app.next() == "http.disconnect"


def test_a_response_at_full_speed_lets_others_run(loop: str) -> None:
    ticks = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for _ in range(20_000):
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        await send({"type": "http.response.body"})

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    with running(app, loop) as server, Client(server) as client:
        ticker = server.call(lambda: asyncio.ensure_future(tick()))
        assert len(client.get().body) == 200_000
        server.call(ticker.cancel)
    assert ticks > 200  # iterations of the event loop


def test_the_application_learns_when_the_client_resets(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note(await receive())
        app.note(await receive())
        await respond(send, b"nobody hears this")
        app.note("ignored")

    with running(call, loop) as server:
        client = Client(server)
        client.send(GET)
        assert app.next()["type"] == "http.request"
        client.reset()
        assert app.next() == {"type": "http.disconnect"}
        assert app.next() == "ignored"
        server.wait_until(lambda: not server.server.serving.connections)


@pytest.mark.parametrize("what", ["send", "receive"])
def test_an_application_that_ignores_a_departure_starves_nobody(loop: str, what: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            return await respond(send, b"other")
        await send({"type": "http.response.start", "status": 200})
        app.note("started")
        while not app.go.is_set():
            if what == "send":
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
            else:
                await receive()
        return None

    with running(call, loop) as server:
        client = Client(server)
        client.send(GET)
        assert app.next() == "started"
        client.reset()
        server.wait_until(lambda: not server.server.serving.connections)
        with Client(server) as other:
            assert other.get("/other").body == b"other"
        app.go.set()


def test_an_idle_event_stream_ends_when_its_client_closes(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        app.note((await receive())["type"])

    with running(call, loop) as server:
        with Client(server) as client:
            client.send(GET)
            client.read_head()
            assert client.read_chunk() == b"data: 1\n\n"
        assert app.next() == "http.disconnect"
        server.wait_until(lambda: not server.server.serving.connections)


def test_a_half_closed_client_still_gets_its_responses(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.03)
        await respond(send, await read_body(receive))

    with running(app, loop) as server, Client(server) as client:
        client.send(sized(3) + b"one" + sized(3) + b"two" + sized(5) + b"cut")
        client.finish()
        assert client.read().body == b"one"
        assert client.read().body == b"two"
        assert client.rest() == b""


def test_a_half_closed_client_that_reads_a_slow_stream_gets_all_of_it(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200})
        for _ in range(8):
            await send({"type": "http.response.body", "body": b"tick ", "more_body": True})
            await asyncio.sleep(0.1)
        body = b"left" if gone.done() else b"there"
        gone.cancel()
        await send({"type": "http.response.body", "body": body})

    with running(app, loop) as server, Client(server) as client:
        client.send(GET)
        client.finish()
        assert client.read().body == b"tick " * 8 + b"there"
        assert client.rest() == b""


def test_a_body_that_is_cut_off_is_a_disconnect(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note((await receive())["body"])
        app.note((await receive())["type"])

    with running(call, loop) as server, Client(server) as client:
        client.send(sized(100) + b"part")
        assert app.next() == b"part"
        client.finish()
        assert app.next() == "http.disconnect"
        assert client.rest() == b""


def test_a_body_that_has_arrived_whole_is_delivered_even_if_the_client_has_left(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app.until_told()
        app.note(await receive())
        app.note(await receive())

    with running(call, loop) as server:
        client = Client(server)
        client.send(sized(6) + b"forget")
        server.wait_until(lambda: bool(server.server.serving.tasks))
        client.reset()
        server.wait_until(lambda: not server.server.serving.connections)
        app.go.set()
        assert app.next() == {"type": "http.request", "body": b"forget", "more_body": False}
        assert app.next() == {"type": "http.disconnect"}


def test_a_client_that_left_is_not_asked_for_its_body(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        app.note("called")
        await app.until_told()
        app.note(await receive())

    with running(call, loop) as server:
        client = Client(server)
        client.send(sized(4, "Expect: 100-continue"))
        assert app.next() == "called"
        client.reset()
        server.wait_until(lambda: not server.server.serving.connections)
        app.go.set()
        assert app.next() == {"type": "http.disconnect"}


def test_receive_says_disconnect_once_the_response_is_complete(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await respond(send)
        app.note(await waiting)
        app.note(await receive())

    with running(call, loop) as server, Client(server) as client:
        client.get()
        assert app.next() == app.next() == {"type": "http.disconnect"}


def test_a_cancelled_receive_loses_nothing_and_two_at_once_are_both_served(loop: str) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        app.note("cancelled")
        both = await asyncio.gather(receive(), receive())
        app.note([event["body"] for event in both])
        await respond(send)

    with running(call, loop) as server, Client(server) as client:
        client.send(sized(6))
        assert app.next() == "cancelled"
        client.send(b"one")
        server.call(lambda: None)
        client.send(b"two")
        assert b"".join(app.next()) == b"onetwo"
        assert client.read().status == 200


async def raises_before(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("before")


async def raises_after_start(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
    raise ValueError("nothing was written yet")


async def returns_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


def refuses_to_be_called(scope: Any, receive: Any, send: Any) -> Any:
    raise ValueError("no coroutine")


async def sends_a_bad_header(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"", 200, (b"x-bad", b"a\r\nset-cookie: b"))


@pytest.mark.parametrize(
    "app",
    [raises_before, raises_after_start, returns_nothing, refuses_to_be_called, sends_a_bad_header],
    ids=lambda app: app.__name__,
)
def test_an_application_that_fails_before_the_response_leaves_gives_500(
    loop: str, app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with running(app, loop) as server, Client(server) as client:
        reply = client.get()
        assert reply.status == 500
        assert reply.body == b"Internal Server Error\n"
        assert reply.headers["connection"] == "close"
        assert {"x-mine", "set-cookie"}.isdisjoint(reply.names)
        assert client.rest() == b""
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("ending", ["raise", "return"])
@pytest.mark.parametrize("version", ["1.1", "1.0", "length"])
def test_a_response_that_ends_half_way_is_cut_so_that_the_client_sees_it(
    loop: str, ending: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"100")] if version == "length" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await app.until_told()
        if ending == "raise":
            raise ValueError("half way")

    with running(call, loop) as server, Client(server) as client:
        client.send(
            f"GET / HTTP/{'1.0' if version == '1.0' else '1.1'}\r\nHost: a\r\n\r\n".encode()
        )
        client.read_head()
        if version == "1.0":
            assert client.file.read(4) == b"half"
            app.go.set()
            with pytest.raises(ConnectionResetError):  # an end would be the body's end
                client.rest()
        else:
            app.go.set()
            assert client.rest() == (b"half" if version == "length" else b"4\r\nhalf\r\n")
    assert len(caplog.records) == 1


def test_an_application_may_fail_when_its_client_has_left_and_nobody_noticed(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        app.note("half")
        app.go.wait(DEADLINE)  # the event loop sees nothing meanwhile

    with running(call, loop) as server:
        client = Client(server)
        client.send(GET)
        assert app.next() == "half"
        client.reset()
        app.go.set()
        server.wait_until(lambda: not server.server.serving.connections)
    (record,) = caplog.records
    assert record.getMessage() == "the application returned without the end of its response"


@pytest.mark.parametrize("how", ["raises", "returns"])
def test_a_client_that_has_the_500_finds_its_reason_in_the_log(
    loop: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered: list[bool] = []

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if how == "raises":
            raise ValueError("boom")

    def note(_: logging.LogRecord) -> bool:
        answered.append(client.is_answered())
        return True

    with (
        running(call, loop) as server,
        Client(server) as client,
        caplog.filtering(note),  # called in the thread of the server
    ):
        assert client.get().status == 500
        assert caplog.records[0].levelname == "ERROR"
    assert answered[0] is False


def test_a_body_must_be_as_long_as_its_content_length_says(
    loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder()

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"4")],
            }
        )
        body = scope["path"][1:].encode()
        with pytest.raises(ASGIError) as caught:
            await send({"type": "http.response.body", "body": body})
        app.note(str(caught.value))

    with running(call, loop) as server:
        with Client(server) as client:
            assert client.get("/longer").status == 500  # nothing of it was written
            assert app.next() == "expected no more than 4 bytes, as content-length says, got 6"
        with Client(server) as client:
            client.send(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            assert client.rest() == b"cut"
            assert app.next() == "expected 1 more byte of body, as content-length says"


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        (
            [{"type": "http.response.body"}],
            "expected http.response.start, got 'http.response.body'",
        ),
        ([{"type": "websocket.accept"}], "expected http.response.start, got 'websocket.accept'"),
        (["start", "start"], "expected http.response.body, got 'http.response.start'"),
        (
            ["start", "body", "body"],
            "expected nothing more, got 'http.response.body': the response is complete",
        ),
        ([None], "expected an event, a dict with a type, got None"),
        ([{}], "expected an event, a dict with a type, got {}"),
        (
            [{"type": "http.response.start"}],
            "expected status to be an int from 200 to 999, got None",
        ),
        (
            [{"type": "http.response.start", "status": "200"}],
            "expected status to be an int from 200 to 999, got '200'",
        ),
        (
            [{"type": "http.response.start", "status": 101}],
            "expected status to be an int from 200 to 999, got 101",
        ),
        (
            ["start", {"type": "http.response.body", "body": "text"}],
            "expected body to be bytes, got 'text'",
        ),
    ],
)
def test_events_that_break_asgi_raise_an_error_that_says_what_was_expected(
    events: list[Any], complaint: str
) -> None:
    app = Recorder()
    short = {
        "start": {"type": "http.response.start", "status": 200},
        "body": {"type": "http.response.body"},
    }

    async def call(scope: Any, receive: Any, send: Any) -> None:
        *good, bad = [short[event] if isinstance(event, str) else event for event in events]
        for event in good:
            await send(event)
        with pytest.raises(ASGIError) as caught:
            await send(bad)
        app.note(str(caught.value))

    with running(call) as server, Client(server) as client:
        client.send(GET)
        assert app.next() == complaint
