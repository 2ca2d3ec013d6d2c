"""One large payload on its way, filled and unmasked in place, in both builds."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.builds import BUILDS
from ..toolkit.client_frames import KEY, mask

MIB = 1 << 20


def fill(filling: Any, data: bytes, step: int) -> None:
    """Write what is masked into the room there is, ``step`` bytes at a time."""
    while data:
        part = data[: min(step, filling.room())]
        view = filling.view()
        view[: len(part)] = part
        del view
        filling.filled(len(part))
        data = data[len(part) :]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000, MIB, MIB + 1, 3 * MIB + 7])
@pytest.mark.parametrize("step", [65_536, 65_539, 1 << 30])
def test_what_is_written_comes_out_unmasked(package: ModuleType, size: int, step: int) -> None:
    payload = random.Random(size).randbytes(size)
    filling = package.wire.filling.Filling(size, KEY, False)
    fill(filling, mask(payload), step)
    assert filling.room() == 0
    result = filling.result()
    assert result == payload
    assert type(result) is bytes


def test_every_cut_keeps_its_place_in_the_key(package: ModuleType) -> None:
    payload = bytes(range(40))
    for step in range(1, 41):
        filling = package.wire.filling.Filling(len(payload), KEY, False)
        fill(filling, mask(payload), step)
        assert filling.result() == payload


def test_there_is_room_for_as_much_again_as_has_come(package: ModuleType) -> None:
    first = package.wire.filling.AT_FIRST
    filling = package.wire.filling.Filling(5 * first + 1, KEY, False)
    rooms = []
    while room := filling.room():
        rooms.append(room)
        filling.filled(room)
    assert rooms == [first, first, 2 * first, first + 1]
    with memoryview(filling.view()) as view:
        assert len(view) == 0


def test_a_declared_length_takes_little_memory_before_a_byte_has_come() -> None:
    # The compiled build's first mebibyte is not touched, and has no page until then.
    filling = BUILDS["interpreted"].wire.filling.Filling(1 << 30, KEY, False)
    assert filling.room() <= 65_536


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_a_text_fails_at_the_byte_that_spoils_it(package: ModuleType, step: int) -> None:
    errors = package.wire.errors
    good = "aé€😀".encode() * 10
    filling = package.wire.filling.Filling(len(good), KEY, True)
    fill(filling, mask(good), step)
    assert filling.result() == good
    for bad in good + b"\xff" + good, good + b"\xf0\x9f\x98":
        filling = package.wire.filling.Filling(len(bad), KEY, True)
        with pytest.raises(errors.ProtocolError) as caught:
            fill(filling, mask(bad), step)
        assert caught.value.code == 1007
