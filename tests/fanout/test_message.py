"""Publications, their envelopes, and messages as listeners see them."""

from __future__ import annotations

import json

import pytest

from asgiws.errors import TopicError
from asgiws.fanout.message import BYTES, JSON, TEXT, Message, Publication, notice, to_json


def enveloped(publication: Publication) -> object:
    return json.loads(publication.enveloped().payload)


def test_an_envelope_has_what_was_published() -> None:
    text = Publication("a", TEXT, 'say "é"'.encode(), position="e:1")
    assert enveloped(text) == {"topic": "a", "position": "e:1", "data": 'say "é"'}
    value = Publication("a", JSON, to_json({"n": [1, None]}))
    assert enveloped(value) == {"topic": "a", "position": None, "data": {"n": [1, None]}}
    data = Publication("a", BYTES, b"\x00\xff")
    assert enveloped(data) == {"topic": "a", "position": None, "base64": "AP8="}


def test_frames_are_built_once() -> None:
    publication = Publication("a", TEXT, b"x")
    assert publication.plain() is publication.plain()
    assert publication.enveloped() is publication.enveloped()
    assert publication.plain().plain() == b"\x81\x01x"
    assert Publication("a", BYTES, b"x").plain().plain() == b"\x82\x01x"


def test_a_message_gives_what_was_published() -> None:
    assert Message(Publication("a", TEXT, b"x"), 2).data == "x"
    assert Message(Publication("a", TEXT, b"x"), 2).gap == 2
    assert Message(Publication("a", JSON, b"[1]")).data == [1]
    assert Message(Publication("a", JSON, b"[1]")).text == "[1]"
    assert Message(Publication("a", BYTES, b"x")).data == b"x"
    with pytest.raises(TopicError, match="is bytes"):
        _ = Message(Publication("a", BYTES, b"x")).text


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800", {1j: 2}])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(TopicError):
        to_json(value)


def test_a_notice_has_no_data() -> None:
    assert json.loads(notice("a", gap=3).payload) == {"topic": "a", "gap": 3}
