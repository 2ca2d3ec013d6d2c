"""Other people's readers of the same bytes: ``websockets`` and ``wsproto``, without I/O.

Each gives the messages it delivered, the pings it answered, and how it ended, in the
terms of ``model.Model``.
"""

from __future__ import annotations

import codecs
import logging
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from .model import Message

Verdict = tuple[list[Message], list[bytes], tuple[Any, ...] | None]

_silent = logging.getLogger("tests.fuzz.referees")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def websockets_reads(chunks: list[bytes], deflate: bool, max_size: int | None = None) -> Verdict:
    protocol = ServerProtocol(state=State.OPEN, max_size=max_size, logger=_silent)
    if deflate:
        protocol.extensions = [TheirDeflate(False, False, 15, 15)]
    messages: list[Message] = []
    pongs: list[bytes] = []
    parts: list[str] | list[bytes] | None = None
    decoder: codecs.IncrementalDecoder | None = None
    for chunk in chunks:
        protocol.receive_data(chunk)
        for frame in protocol.events_received():
            assert isinstance(frame, TheirFrame)
            if frame.opcode is Opcode.PING:
                pongs.append(bytes(frame.data))
            if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            # Its assembler of messages belongs to the layer with I/O; this is what it does.
            if frame.opcode is not Opcode.CONT:
                text = frame.opcode is Opcode.TEXT
                decoder = codecs.getincrementaldecoder("utf-8")() if text else None
                parts = []
            assert parts is not None
            if decoder is None:
                parts.append(bytes(frame.data))  # type: ignore[arg-type]
            else:
                try:
                    parts.append(decoder.decode(frame.data, frame.fin))  # type: ignore[arg-type]
                except UnicodeDecodeError:
                    return messages, pongs, ("failed", 1007)
            if frame.fin:
                messages.append(("" if decoder else b"").join(parts))  # type: ignore[arg-type]
                parts = None
    end: tuple[Any, ...] | None = None
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        end = ("failed", protocol.close_sent.code)
    elif protocol.close_rcvd is not None:
        end = ("closed", protocol.close_rcvd.code, protocol.close_rcvd.reason)
    assert not isinstance(protocol.parser_exc, ConnectionClosed)
    return messages, pongs, end


def wsproto_reads(chunks: list[bytes], deflate: bool) -> Verdict:
    extensions = []
    if deflate:
        extension = PerMessageDeflate()
        extension.accept("permessage-deflate")
        extensions.append(extension)
    connection = Connection(ConnectionType.SERVER, extensions)  # type: ignore[arg-type]
    messages: list[Message] = []
    pongs: list[bytes] = []
    parts: list[Any] = []
    for chunk in chunks:
        connection.receive_data(chunk)
        for event in connection.events():
            if isinstance(event, Ping):
                pongs.append(bytes(event.payload))
            elif isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data)
                if event.message_finished:
                    empty = "" if isinstance(event, TextMessage) else b""
                    messages.append(empty.join(parts))  # type: ignore[arg-type]
                    parts = []
            elif isinstance(event, CloseConnection):
                state = connection.state.name
                if state == "REMOTE_CLOSING":
                    return messages, pongs, ("closed", int(event.code), event.reason or "")
                return messages, pongs, ("failed", int(event.code))
    return messages, pongs, None
