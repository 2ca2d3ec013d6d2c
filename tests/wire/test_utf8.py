"""UTF-8 checked as it arrives (RFC 3629), in both builds."""

from __future__ import annotations

import itertools
import random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import split

# Every byte at which the table of section 4 turns, and its neighbours.
EDGES = [
    *(0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF),
    *(0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF),
]


def accepted(package: ModuleType, pieces: list[bytes]) -> bool:
    check = package.wire.utf8.Utf8()
    return all(
        check.accepts(piece, number == len(pieces)) for number, piece in enumerate(pieces, 1)
    )


def is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def may_go_on(data: bytes) -> bool:
    """Return whether some UTF-8 begins with ``data``."""
    tails = [b"", b"\x80", b"\x90", b"\xa0", b"\x80\x80", b"\x90\x80", b"\xa0\x80", b"\x90\x80\x80"]
    tails.append(b"\x80\x80\x80")
    return any(is_utf_8(data + tail) for tail in tails)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_turn_of_the_table(package: ModuleType, length: int) -> None:
    for octets in itertools.product(EDGES, repeat=length):
        data = bytes(octets)
        assert accepted(package, [data]) == is_utf_8(data), data
        assert package.wire.utf8.Utf8().accepts(data, False) == may_go_on(data), data


def test_every_sequence_of_four_that_begins_well(package: ModuleType) -> None:
    for octets in itertools.product([0xF0, 0xF1, 0xF4], EDGES, EDGES, EDGES):
        data = bytes(octets)
        assert accepted(package, [data]) == is_utf_8(data), data


def test_every_character_passes(package: ModuleType) -> None:
    codes = itertools.chain(range(0xD800), range(0xE000, 0x110000))
    text = "".join(map(chr, codes)).encode()
    assert accepted(package, [text])
    assert accepted(package, [text[start : start + 997] for start in range(0, len(text), 997)])


def test_a_bad_byte_is_found_at_every_place_of_a_word(package: ModuleType) -> None:
    for before in range(20):
        for after in range(20):
            for bad in b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80":
                assert not accepted(package, [b"x" * before + bad + b"x" * after])
            assert accepted(package, [b"x" * before + "é€😀".encode() + b"x" * after])


@given(
    st.text(max_size=20).map(str.encode) | st.binary(max_size=12),
    st.lists(st.integers(0, 60)),
    st.integers(0, 60),
    st.binary(max_size=2),
)
def test_any_split_of_any_bytes_is_judged_as_python_does(
    data: bytes, places: list[int], spot: int, put: bytes
) -> None:
    data = data[:spot] + put + data[spot:]
    for package in BUILDS.values():
        for pieces in [data], split(data, places), [bytes([octet]) for octet in data] or [b""]:
            assert accepted(package, pieces) == is_utf_8(data)


def test_nothing_is_let_through_after_a_prefix_that_cannot_go_on(package: ModuleType) -> None:
    chance = random.Random(3629)
    for _ in range(2000):
        data = bytes(chance.choice(EDGES) for _ in range(chance.randrange(1, 9)))
        check = package.wire.utf8.Utf8()
        for place, octet in enumerate(data):
            good = check.accepts(bytes([octet]), False)
            assert good == may_go_on(data[: place + 1]), data[: place + 1]
            if not good:
                break
