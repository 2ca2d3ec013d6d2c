"""Frames of one message for many connections."""

from __future__ import annotations

import importlib
import zlib
from types import ModuleType

import pytest


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("text", [True, False])
def test_a_deflated_frame_refers_to_nothing_before_it(
    package: ModuleType, bits: int, text: bool
) -> None:
    prepared = importlib.import_module(f"{package.__name__}.wire.prepared")
    deflate = importlib.import_module(f"{package.__name__}.wire.deflate")
    payload = b"again and " * 100
    message = prepared.Prepared(payload, text)
    frame = message.deflated(bits, deflate.Settings())
    assert frame[0] == (0xC1 if text else 0xC2)
    assert frame[1] == len(frame) - 2
    # The window of a client that has seen something else is of no use for it.
    inflator = zlib.decompressobj(-bits)
    assert inflator.decompress(frame[2:] + b"\x00\x00\xff\xff") == payload
    assert message.deflated(bits, deflate.Settings()) is frame


def test_the_plain_frame_is_built_once(package: ModuleType) -> None:
    prepared = importlib.import_module(f"{package.__name__}.wire.prepared")
    message = prepared.Prepared(b"x" * 300, False)
    assert message.plain() == b"\x82\x7e\x01\x2c" + b"x" * 300
    assert message.plain() is message.plain()
    assert message.size == 300
