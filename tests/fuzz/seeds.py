"""Where the fuzzer begins: good input of every kind, from the specifications' vectors."""

from __future__ import annotations

from ..http.test_rfc6455_handshake import BROKEN
from ..http.test_rfc9112 import CASES
from ..toolkit.client_frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_frame,
    deflated,
)
from .smuggling import ODD_HEADS

_streams = [
    client_frame(TEXT, b"Hello"),
    client_frame(TEXT, b"Hel", fin=False) + client_frame(PING, b"?") + client_frame(CONT, b"lo"),
    client_frame(BINARY, bytes(200)) + client_frame(PONG, b"x"),
    client_frame(TEXT, "κόσμε€😀".encode()) + close_frame(1000, b"bye"),
    client_frame(TEXT, b"\xed\xa0\x80", fin=False),
    client_frame(TEXT, deflated(b"Hello" * 20), rsv=4),
    client_frame(TEXT, deflated(b"Hello")[:3], rsv=4, fin=False)
    + client_frame(CONT, deflated(b"Hello")[3:]),
    client_frame(BINARY) * 5 + close_frame(),
    close_frame(4999, b"x" * 123),
    client_frame(CLOSE, b"\x03"),
    b"\x82\xff" + (65536).to_bytes(8, "big") + b"\0\0\0\0",
    b"\x82\xfe\x00\x80\0\0\0\0" + bytes(128),
    b"\x81\x05Hello",
]

SEEDS: dict[str, list[bytes]] = {
    "stream": [
        bytes([step, options]) + data
        for data in _streams
        for step, options in ((0, 1 | 15 << 1), (6, 7 << 1))
    ],
    "inflate": [
        b"\x03\x0f" + data
        for data in (
            deflated(b"Hello"),
            deflated(bytes(5000)),
            bytes.fromhex("f3 48 cd c9 c9 07 00 00"),
            bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"),
            bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00"),
            b"\x03\x00" * 5,
        )
    ],
    "extensions": [
        b"\x03" + value
        for value in (
            b"permessage-deflate",
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
            b'permessage-deflate; server_max_window_bits="1\\0"\nx-other',
            b"x; a=b, permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        )
    ],
    "handshake": [
        b"host: a\nupgrade: websocket\nconnection: keep-alive, Upgrade\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-version: 13" + more
        for more in (
            b"",
            b"\nsec-websocket-protocol: chat, superchat",
            b"\ncontent-length: 0",
            b"\nsec-websocket-extensions: permessage-deflate",
            b"\ntransfer-encoding: chunked",
        )
    ],
    "utf8": [
        b"\x03" + text.encode() for text in ("Hello", "κόσμε", "€" * 9, "😀ab", "\ud7ff\ue000")
    ]
    + [b"\x03\xed\xa0\x80", b"\x03\xf4\x90\x80\x80", b"\x03\xc0\xaf", b"\x03\xf0\x80\x80\xaf"],
    "requests": [*ODD_HEADS, *(case.sent for case in (*CASES, *BROKEN))],
}
