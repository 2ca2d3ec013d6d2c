"""The same streams before asgiws (both builds), the model, ``websockets`` and ``wsproto``.

They accept and reject the same streams with the same messages and codes, but for
DIFFERENCES; each names the sentence that makes asgiws right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS, builds_with_libraries
from ..toolkit.client_frames import BINARY, CLOSE, TEXT, split
from .model import Frame, Model, bad_frames, close_frames, good_frames, may_go_on, packed_frames
from .referees import Verdict, websockets_reads, wsproto_reads
from .test_machine import Subject

End = tuple[Any, ...] | None


def ours(package: Any, chunks: list[bytes], deflate: bool) -> Verdict:
    subject = Subject(package, deflate, 1 << 20)
    for chunk in chunks:
        subject.feed(chunk)
    return subject.messages, subject.pongs, subject.end()


class Case(NamedTuple):
    """How a stream ended: rightly, for a referee, inside a message or not, at which frame."""

    right: End
    theirs: End
    inside: bool
    last: Frame


def model_of(
    frames: list[Frame], deflate: bool, limit: int = 1 << 20
) -> tuple[Verdict, bool, Frame]:
    """What is right, whether the stream ended inside a message, and the last frame read."""
    model = Model(limit, deflate)
    frame = Frame(TEXT)
    for frame in frames:
        model.read(frame)
        if model.end is not None:
            break
    return (model.messages, model.pongs, model.end), model._kind is not None, frame


def close_inside_a_message(case: Case) -> bool:
    """``websockets`` takes a close frame inside a fragmented message for an error.

    RFC 6455 section 5.4: "Control frames (see Section 5.5) MAY be injected in the middle
    of a fragmented message."
    """
    return case.inside and case.last.opcode == CLOSE and case.theirs == ("failed", 1002)


def code_1014(case: Case) -> bool:
    """``wsproto`` refuses close code 1014.

    RFC 6455 section 7.4.2: codes 1000 to 2999 are defined by "this protocol, its future
    revisions, and extensions specified in a permanent and readily available public
    specification"; the IANA registry of section 11.7 has had 1014, Bad Gateway, since.
    """
    return case.last.payload[:2] == b"\x03\xf6" and case.theirs == ("failed", 1002)


def invalid_deflate(case: Case) -> bool:
    """``websockets`` fails data that is no deflate stream with 1002.

    RFC 6455 section 7.4.1: 1007 is for "data within a message that was not consistent
    with the type of the message"; 1002 is for errors of the protocol, of which there is
    none in the frames.
    """
    return case.right == ("failed", 1007) and case.theirs == ("failed", 1002)


def inflated_before_its_place_is_judged(case: Case) -> bool:
    """``wsproto`` inflates a data frame that may not be inside a message, and then says 1007.

    RFC 6455 section 5.4: after the first frame of a message come frames with opcode 0. A frame
    with another opcode is an error of the protocol, whatever its payload is.
    """
    return (
        case.inside
        and case.last.opcode in (TEXT, BINARY)
        and case.right == ("failed", 1002)
        and case.theirs == ("failed", 1007)
    )


def surrogate_one_octet_later(case: Case) -> bool:
    """Both decode with CPython, which waits for the third octet of a surrogate.

    RFC 3629 section 4: after ED only 80 to 9F may come, so that the second octet is the
    one that makes the text invalid; RFC 6455 section 8.1: an endpoint that finds this
    "MUST _Fail the WebSocket Connection_".
    """
    return case.right == ("failed", 1007) and case.theirs is None


def length_not_minimal(case: Case) -> bool:
    """``websockets`` accepts a length that takes more octets than it needs.

    RFC 6455 section 5.2: "Note that in all cases, the minimal number of bytes MUST be used
    to encode the length".
    """
    return case.right == ("failed", 1002) and case.last.form > 7


def two_errors_in_a_close_frame(case: Case) -> bool:
    """A code that may not be sent before a reason that is no UTF-8: ours is 1002.

    RFC 6455 section 7.4.1 has a code for each and does not say which goes first; the code
    comes first in the frame (section 5.5.1).
    """
    return (
        case.last.opcode == CLOSE
        and not may_go_on(case.last.payload[2:] + b"?")
        and case.right == ("failed", 1002)
        and case.theirs == ("failed", 1007)
    )


DIFFERENCES = {
    "websockets": [
        two_errors_in_a_close_frame,
        length_not_minimal,
        close_inside_a_message,
        invalid_deflate,
        surrogate_one_octet_later,
    ],
    "wsproto": [code_1014, inflated_before_its_place_is_judged, surrogate_one_octet_later],
}


def agree(name: str, right: Verdict, theirs: Verdict, inside: bool, last: Frame) -> None:
    if right == theirs:
        return
    case = Case(right[2], theirs[2], inside, last)
    explained = [difference for difference in DIFFERENCES[name] if difference(case)]
    assert explained, f"{name} says {theirs}, right is {right}"
    for mine, others in zip(right[:2], theirs[:2], strict=True):
        assert others[: len(mine)] == mine


def compare(frames: list[Frame], places: list[int], deflate: bool) -> None:
    data = b"".join(frame.encode() for frame in frames)
    chunks = split(data, places)
    right, inside, last = model_of(frames, deflate)
    for package in builds_with_libraries() if deflate else BUILDS.values():
        assert ours(package, [data], deflate) == right
        assert ours(package, chunks, deflate) == right
    agree("websockets", right, websockets_reads(chunks, deflate), inside, last)
    agree("wsproto", right, wsproto_reads(chunks, deflate), inside, last)


places = st.lists(st.integers(0, 3000), max_size=8)
streams = st.lists(good_frames | good_frames | bad_frames | close_frames, max_size=8)
packed = st.lists(
    st.one_of(
        good_frames.map(lambda frame: [frame]),
        packed_frames.map(lambda found: [found] if isinstance(found, Frame) else found),
        packed_frames.map(lambda found: [found] if isinstance(found, Frame) else found),
        bad_frames.map(lambda frame: [frame]),
        close_frames.map(lambda frame: [frame]),
    ),
    max_size=6,
).map(lambda groups: [frame for group in groups for frame in group])


@given(streams, places)
@settings(max_examples=80, derandomize=True)
def test_all_read_the_same(frames: list[Frame], places: list[int]) -> None:
    compare(frames, places, False)


@given(packed, places)
@settings(max_examples=80, derandomize=True)
def test_all_inflate_the_same(frames: list[Frame], places: list[int]) -> None:
    compare(frames, places, True)


@pytest.mark.slow
@given(streams, places)
@settings(max_examples=3000)
def test_all_read_the_same_for_long(frames: list[Frame], places: list[int]) -> None:
    compare(frames, places, False)


@pytest.mark.slow
@given(packed, places)
@settings(max_examples=3000)
def test_all_inflate_the_same_for_long(frames: list[Frame], places: list[int]) -> None:
    compare(frames, places, True)


def text(payload: bytes, **fields: Any) -> Frame:
    return Frame(TEXT, payload, **fields)


@pytest.mark.parametrize(
    ("name", "difference", "frames", "deflate"),
    [
        (
            "websockets",
            close_inside_a_message,
            [text(b"half", fin=False), Frame(CLOSE, b"\x03\xe8")],
            False,
        ),
        ("websockets", two_errors_in_a_close_frame, [Frame(CLOSE, b"\0\0\xff")], False),
        ("websockets", length_not_minimal, [text(b"short", form=16)], False),
        ("websockets", length_not_minimal, [text(b"short", form=64)], False),
        ("websockets", invalid_deflate, [text(b"\xff\xff", rsv=4)], True),
        ("websockets", surrogate_one_octet_later, [text(b"\xed\xa0", fin=False)], False),
        ("wsproto", code_1014, [Frame(CLOSE, b"\x03\xf6")], False),
        ("wsproto", surrogate_one_octet_later, [text(b"\xed\xa0", fin=False)], False),
    ],
)
def test_the_differences_are_still_there(
    name: str, difference: Any, frames: list[Frame], deflate: bool
) -> None:
    read: Any = {"websockets": websockets_reads, "wsproto": wsproto_reads}[name]
    right, inside, last = model_of(frames, deflate)
    theirs = read([b"".join(frame.encode() for frame in frames)], deflate)
    assert right != theirs
    assert difference(Case(right[2], theirs[2], inside, last))


def test_every_difference_names_its_sentence() -> None:
    for differences in DIFFERENCES.values():
        for difference in differences:
            assert "RFC 6455 section" in str(difference.__doc__)


# Control frames are left out: websockets counts them, too.
@given(
    st.lists(good_frames.filter(lambda frame: frame.opcode < CLOSE), max_size=6),
    st.integers(10, 300),
)
@settings(max_examples=60, derandomize=True)
def test_the_limit_of_a_message_is_the_same_for_websockets(frames: list[Frame], limit: int) -> None:
    data = b"".join(frame.encode() for frame in frames)
    right, inside, last = model_of(frames, False, limit)
    agree("websockets", right, websockets_reads([data], False, limit), inside, last)


def test_a_frame_that_may_not_be_there_is_not_inflated() -> None:
    # Found by Hypothesis: the second payload, put behind the first, is not a deflate stream.
    compare(
        [
            Frame(TEXT, b"\0\0", fin=False, rsv=4),
            Frame(TEXT, b"0\xc2\x80", fin=False),
        ],
        [],
        True,
    )
