"""The channel between a supervisor and a worker."""

from __future__ import annotations

from asgiws.process.channel import LARGEST_BYTES, LARGEST_TEXT, Channel, pair


def test_messages_arrive_whole_and_in_order() -> None:
    near, far = pair()
    other = Channel(far)
    assert near.send("ready")
    assert near.send("failed", message="line\nline", status=3)
    assert other.receive() == {"kind": "ready"}
    assert other.receive() == {"kind": "failed", "message": "line\nline", "status": 3}
    assert other.receive() is None
    assert not other.over
    near.close()
    other.close()


def test_the_end_of_the_other_side_is_noticed() -> None:
    near, far = pair()
    near.send("ready")
    near.close()
    other = Channel(far)
    assert other.receive() == {"kind": "ready"}
    assert not other.over
    assert other.receive() is None
    assert other.over
    assert not other.send("drain")
    other.close()


def test_nobody_waits_for_a_side_that_does_not_read() -> None:
    near, far = pair()
    sent = 0
    while near.send("text", text="x" * (LARGEST_BYTES // 4)):
        sent += 1
        assert sent < 1000
    other = Channel(far)
    for _ in range(sent):
        message = other.receive()
        assert message is not None
        assert len(message["text"]) == LARGEST_BYTES // 4
    assert other.receive() is None
    near.close()
    other.close()


def test_the_longest_texts_in_any_script_arrive_whole() -> None:
    near, far = pair()
    other = Channel(far)
    text = "\N{SNAKE}" * LARGEST_TEXT
    assert near.send("failed", message=text, details=text)
    assert other.receive() == {"kind": "failed", "message": text, "details": text}
    near.close()
    other.close()
