"""Hostile frames over a real socket: the close code, and the neighbour who notices nothing.

Every attack runs against both builds on both event loops.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    client_frame,
    close_frame,
    deflated,
)
from ..toolkit.raw_websocket import DEFLATE, RawWebSocket
from ..toolkit.running import LOOPS, Running, running

LIMIT = 1 << 20
EURO = "€".encode()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


@pytest.fixture(scope="module", params=itertools.product(BUILDS, LOOPS), ids="-".join)
def victim(request: pytest.FixtureRequest) -> Iterator[Running]:
    build, loop = request.param
    with running(echo, loop, BUILDS[build], ws_max_size=LIMIT, ws_ping_interval=None) as server:
        yield server


@pytest.fixture(scope="module")
def neighbour(victim: Running) -> Iterator[RawWebSocket]:
    with RawWebSocket(victim) as neighbour:
        yield neighbour


@pytest.fixture(autouse=True)
def _the_next_client_is_served_as_if_nothing_had_happened(
    victim: Running, neighbour: RawWebSocket
) -> Iterator[None]:
    yield
    with RawWebSocket(victim) as newcomer:
        for client in (neighbour, newcomer):
            client.send(client_frame(TEXT, b"still there?"))
            assert client.read_frame() == (TEXT, b"still there?")


def header(first: int, size: int, form: int, masked: bool = True) -> bytes:
    """The header of a frame whose length is written in 7, 16 or 64 bits, whatever it is."""
    bit = 0x80 if masked else 0
    head = {
        7: lambda: struct.pack("!BB", first, bit | size),
        16: lambda: struct.pack("!BBH", first, bit | 126, size),
        64: lambda: struct.pack("!BBQ", first, bit | 127, size),
    }[form]()
    return head + (b"\0\0\0\0" if masked else b"")


def start(opcode: int = TEXT, payload: bytes = b"") -> bytes:
    return client_frame(opcode, payload, fin=False)


# name -> (what is sent, the close code that answers it)
ATTACKS: dict[str, tuple[bytes, int]] = {
    # Lengths (daphne CVE-2026-44545, gorilla CVE-2020-27813).
    "a length of 63 bits": (header(0x82, (1 << 63) - 1, 64), 1009),
    "a length with the most significant bit": (header(0x82, 1 << 63, 64), 1002),
    "a length of 64 ones": (header(0x82, (1 << 64) - 1, 64), 1002),
    "7 bits in 16": (header(0x82, 125, 16) + bytes(125), 1002),
    "16 bits in 64": (header(0x82, 65535, 64), 1002),
    "0 in 64 bits": (header(0x82, 0, 64), 1002),
    "a declared length over the limit": (header(0x82, LIMIT + 1, 64), 1009),
    "a declared length over what is left of the limit": (
        start(BINARY, bytes(LIMIT)) + header(0x80, 1, 7),
        1009,
    ),
    "a control frame over 125 bytes": (client_frame(PING, bytes(126)), 1002),
    "a control frame with a length of 64 bits": (header(0x89, 1 << 40, 64), 1002),
    # Frame state (aiohttp CVE-2026-59881).
    "a continuation without a start": (client_frame(CONT, b"x"), 1002),
    "a continuation after a whole message": (
        client_frame(TEXT, b"x") + client_frame(CONT, b"y"),
        1002,
    ),
    "data inside a message": (start() + client_frame(TEXT, b"x"), 1002),
    "other data inside a message": (start() + client_frame(BINARY, b"x"), 1002),
    "an unmasked frame": (header(0x81, 1, 7, masked=False) + b"x", 1002),
    "an unmasked ping": (header(0x89, 0, 7, masked=False), 1002),
    **{
        f"opcode {opcode}": (client_frame(opcode, b"x"), 1002)
        for opcode in (*range(3, 8), *range(11, 16))
    },
    **{
        f"RSV {rsv:03b} on opcode {opcode}": (
            (start() if opcode == CONT else b"") + client_frame(opcode, b"x", rsv=rsv),
            1002,
        )
        for opcode in (0, 1, 2, 8, 9, 10)
        for rsv in range(1, 8)
    },
    # Control frames (RFC 6455 section 5.5).
    "a fragmented ping": (client_frame(PING, fin=False), 1002),
    "a fragmented close": (client_frame(CLOSE, fin=False), 1002),
    "a close frame of 1 byte": (client_frame(CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (close_frame(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "invalid UTF-8 in the reason": (close_frame(1000, b"\xff"), 1007),
    "half a code point in the reason": (close_frame(1000, EURO[:2]), 1007),
    "data after close": (close_frame(1000) + client_frame(TEXT, b"late") * 100, 1000),
    "garbage after close": (close_frame(3000, b"bye") + os.urandom(10_000), 3000),
    # UTF-8 (RFC 3629).
    "a surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "an overlong slash": (client_frame(TEXT, b"\xc0\xaf"), 1007),
    "an overlong NUL in 3 bytes": (client_frame(TEXT, b"\xe0\x80\x80"), 1007),
    "a code point over U+10FFFF": (client_frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "a lone continuation byte": (client_frame(TEXT, b"\x80"), 1007),
    "a text that ends in a code point": (client_frame(TEXT, EURO[:2]), 1007),
    "a code point that a fragment breaks": (
        start(TEXT, EURO[:2]) + client_frame(CONT, b"x"),
        1007,
    ),
    "invalid UTF-8 in a message that never ends": (start(TEXT, b"ok\xff"), 1007),
    "invalid UTF-8 in a frame that never ends": (
        header(0x81, LIMIT, 64) + b"ok\xff" + bytes(200_000),
        1007,
    ),
    # Fragments (Bandit CVE-2026-42786, ws CVE-2026-48779).
    "more fragments than anybody needs": (
        start(BINARY) + client_frame(CONT, fin=False) * 140_000,
        1009,
    ),
}

# The same, where permessage-deflate was agreed.
DEFLATED: dict[str, tuple[bytes, int]] = {
    **{
        f"RSV1 on opcode {opcode}": (
            (start() if opcode == CONT else b"") + client_frame(opcode, b"x", rsv=4),
            1002,
        )
        for opcode in (CONT, CLOSE, PING, 10)
    },
    **{f"RSV {rsv:03b}": (client_frame(TEXT, b"x", rsv=rsv), 1002) for rsv in (1, 2, 3, 5, 6, 7)},
    "no deflate stream": (client_frame(BINARY, b"\xff" * 10, rsv=4), 1007),
    "a stream that is cut": (client_frame(BINARY, deflated(b"hello" * 99)[:-3], rsv=4), 1007),
    "a bomb of 1000 to 1": (client_frame(BINARY, deflated(bytes(50 << 20)), rsv=4), 1009),
    "a bomb one byte over the limit": (
        client_frame(BINARY, deflated(bytes(LIMIT + 1)), rsv=4),
        1009,
    ),
    "invalid UTF-8, compressed": (client_frame(TEXT, deflated(b"\xff"), rsv=4), 1007),
}


def split_bomb() -> bytes:
    """A bomb in fragments, none of which is one."""
    packed = deflated(bytes(8 * LIMIT))
    pieces = [packed[at : at + 100] for at in range(0, len(packed), 100)]
    return b"".join(
        client_frame(CONT if at else BINARY, piece, fin=False, rsv=0 if at else 4)
        for at, piece in enumerate(pieces)
    )


DEFLATED["a bomb split over fragments"] = (split_bomb(), 1009)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_its_own_connection(victim: Running, name: str) -> None:
    sent, code = ATTACKS[name]
    with RawWebSocket(victim) as client:
        client.send(sent)
        assert client.close_code() == code


@pytest.mark.parametrize("name", DEFLATED)
def test_an_attack_on_deflate_fails_its_own_connection(victim: Running, name: str) -> None:
    sent, code = DEFLATED[name]
    with RawWebSocket(victim, DEFLATE) as client:
        assert "sec-websocket-extensions" in client.reply.headers
        client.send(sent)
        assert client.close_code() == code


# Of the attacks that differ in a number only, the first is enough here.
CUT = {
    re.sub(r"\d+( on opcode \d+)?$", "", name): name
    for name, (sent, _) in reversed(ATTACKS.items())
    if len(sent) < 100
}


@pytest.mark.parametrize("name", CUT.values())
def test_an_attack_cut_into_bytes_ends_the_same(victim: Running, name: str) -> None:
    sent, code = ATTACKS[name]
    with RawWebSocket(victim) as client:
        try:
            for at in range(len(sent)):
                client.send(sent[at : at + 1])
        except ConnectionError:
            pass  # it was answered before it was complete
        assert client.close_code() == code


def test_empty_blocks_are_no_message_and_no_work(victim: Running) -> None:
    """websockets CVE-2018-1000518: what inflates to nothing still costs something."""
    blocks = b"\x00\x00\x00\xff\xff" * 100_000
    began = time.process_time()
    with RawWebSocket(victim, DEFLATE) as client:
        client.send(client_frame(BINARY, blocks + b"\x00", rsv=4))
        assert client.read_frame() == (BINARY, b"")
    assert time.process_time() - began < 5


def test_a_good_deflated_message_is_served_beside_the_bombs(victim: Running) -> None:
    with RawWebSocket(victim, DEFLATE) as client:
        client.send(client_frame(TEXT, deflated(b"hello" * 1000), rsv=4))
        opcode, payload = client.read_frame()
        inflated = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
        assert (opcode, inflated) == (TEXT, b"hello" * 1000)


def test_a_code_point_may_be_cut_across_fragments_and_reads(victim: Running) -> None:
    text = ("€" * 10 + "\U0001f600" * 10).encode()
    frames = [
        client_frame(CONT if at else TEXT, text[at : at + 1], fin=at == len(text) - 1)
        for at in range(len(text))
    ]
    with RawWebSocket(victim) as client:
        for frame in frames:
            client.send(frame[:3])
            client.send(frame[3:])
        assert client.read_frame() == (TEXT, text)


def test_a_pause_in_the_middle_of_a_frame_is_no_end(victim: Running) -> None:
    frame = client_frame(TEXT, b"x" * 200)
    with RawWebSocket(victim) as client:
        for at in (0, 1, 3, 5, 100):
            end = {0: 1, 1: 3, 3: 5, 5: 100, 100: len(frame)}[at]
            client.send(frame[at:end])
            if end < len(frame):
                assert client.is_silent(0.02)
        assert client.read_frame() == (TEXT, b"x" * 200)


def test_control_frames_pass_between_fragments(victim: Running) -> None:
    with RawWebSocket(victim) as client:
        client.send(start(TEXT, b"a") + client_frame(PING, b"now") + client_frame(CONT, b"b"))
        assert [client.read_frame(), client.read_frame()] == [(10, b"now"), (TEXT, b"ab")]


def test_many_small_fragments_take_linear_time(victim: Running) -> None:
    def seconds(count: int) -> float:
        body = client_frame(CONT, b"x", fin=False) * (count - 2)
        with RawWebSocket(victim) as client:
            began = time.process_time()
            client.send(start(BINARY, b"x") + body + client_frame(CONT, b"x"))
            assert client.read_frame() == (BINARY, b"x" * count)
            return time.process_time() - began

    few, many = (min(seconds(count) for _ in range(2)) for count in (5_000, 40_000))
    assert many < 8 * 4 * few + 0.1


def test_a_ping_flood_whose_pongs_are_never_read_is_bounded(victim: Running) -> None:
    """The pongs wait in one place: the last ping's (RFC 6455 section 5.5.3)."""
    pings = client_frame(PING, bytes(125)) * 500
    before = resident_bytes()
    with RawWebSocket(victim, receive_buffer=4096) as client:
        for _ in range((32 << 20) // len(pings)):
            client.send(pings)
        assert resident_bytes() - before < 16 << 20
        client.cut()


def resident_bytes() -> int:
    """The memory of this process, in which the server runs."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")
