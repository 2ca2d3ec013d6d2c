"""The messages between workers over a broker: bytes, of which nothing is ever executed.

A record is its version (1 byte), its kind, the kind of the message, the worker that says it
(8 bytes), a number of that worker's (8 bytes), the size of a key (2 bytes), the key, and the
payload.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..message import BYTES, JSON, TEXT

VERSION: Final = 1

MESSAGE: Final = 0
ASK: Final = 1  # asks for the number of members of a topic
ANSWER: Final = 2  # that number; to the worker that has asked

_HEAD: Final = struct.Struct("<BBB8sQH")
_MEMBERS: Final = struct.Struct("<I")
_NO_KEY: Final = 0xFFFF


class Record(NamedTuple):
    """One record. ``number`` names the member that a MESSAGE excludes (0: none), or the ASK."""

    kind: int
    worker: bytes
    number: int
    message: int = TEXT  # TEXT, BYTES or JSON
    key: str | None = None
    payload: bytes = b""


def encode(record: Record) -> bytes:
    """The bytes of a record."""
    key = b"" if record.key is None else record.key.encode()
    size = _NO_KEY if record.key is None else len(key)
    head = _HEAD.pack(VERSION, record.kind, record.message, record.worker, record.number, size)
    return head + key + record.payload


def decode(body: bytes) -> Record:
    """Return the record of these bytes. Raises ValueError if they are not one."""
    if not body or body[0] != VERSION:
        raise ValueError(f"version {body[0] if body else 'missing'} instead of {VERSION}")
    if len(body) < _HEAD.size:
        raise ValueError(f"a record of {len(body)} bytes")
    _, kind, message, worker, number, size = _HEAD.unpack_from(body)
    if kind not in (MESSAGE, ASK, ANSWER) or message not in (TEXT, BYTES, JSON):
        raise ValueError(f"a record of kind {kind}, {message}")
    end = _HEAD.size + (0 if size == _NO_KEY else size)
    if end > len(body):
        raise ValueError(f"a key of {size} bytes")
    key = None if size == _NO_KEY else body[_HEAD.size : end].decode()
    payload = body[end:]
    if kind == ANSWER:
        number_of(payload)
    elif message != BYTES:
        payload.decode()  # a frame of text has to be UTF-8
    return Record(kind, worker, number, message, key, payload)


def members(number: int) -> bytes:
    """The payload of an ANSWER."""
    return _MEMBERS.pack(min(number, 0xFFFF_FFFF))


def number_of(payload: bytes) -> int:
    """Return the number in an ANSWER. Raises ValueError."""
    if len(payload) != _MEMBERS.size:
        raise ValueError("an answer without a number")
    return int(_MEMBERS.unpack(payload)[0])
