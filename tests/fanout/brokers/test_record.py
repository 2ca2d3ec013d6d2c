"""What workers say to each other over a broker."""

from __future__ import annotations

import pickle

import pytest

from asgiws.fanout.brokers import record
from asgiws.fanout.brokers.record import Record, decode, encode
from asgiws.fanout.message import BYTES, JSON, TEXT

WORKER = b"worker-1"


@pytest.mark.parametrize(
    "said",
    [
        Record(record.MESSAGE, WORKER, 0, TEXT, None, b"text"),
        Record(record.MESSAGE, WORKER, 2**40, BYTES, "a key \u00e9", b"\xff\x00"),
        Record(record.MESSAGE, WORKER, 1, JSON, "k", b""),
        Record(record.ASK, WORKER, 7),
        Record(record.ANSWER, WORKER, 7, payload=record.members(3)),
    ],
)
def test_what_was_said_is_heard(said: Record) -> None:
    assert decode(encode(said)) == said


def test_an_answer_is_a_number() -> None:
    assert record.number_of(record.members(100_000)) == 100_000
    with pytest.raises(ValueError, match="without a number"):
        record.number_of(b"12345")


GOOD = encode(Record(record.MESSAGE, WORKER, 0, TEXT, "key", b"text"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02" + GOOD[1:],  # another version
        b"\x01\x07" + GOOD[2:],  # a kind that does not exist
        b"\x01\x00\x07" + GOOD[3:],  # and one of a message
        GOOD[:10],
        GOOD[:22],  # half a key
        GOOD + b"\xff",  # not UTF-8, in a message of text
        pickle.dumps({"any": "thing"}),
    ],
)
def test_what_is_not_a_record_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(body)
