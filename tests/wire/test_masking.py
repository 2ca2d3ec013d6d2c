"""The masking of payloads (RFC 6455 section 5.3), in both builds."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    mask,
)


class TestUnmasking:
    @pytest.mark.parametrize("size", [*range(34), 255, 4096, 4099, 8191, 8192, 8193, 8194, 8195])
    def test_every_length_phase_and_offset(self, package: ModuleType, size: int) -> None:
        chance = random.Random(size)
        for phase in range(4):
            for start in (0, 1, 2, 3, 5, 8):
                payload, key = chance.randbytes(size), chance.randbytes(4)
                turned = key[phase:] + key[:phase]
                data = chance.randbytes(start) + mask(payload, turned) + chance.randbytes(3)
                result = package.wire.masking.unmask(data, start, size, key, 0, phase)
                assert result == payload
                assert type(result) is bytes

    def test_the_key_may_stand_anywhere(self, package: ModuleType) -> None:
        data = b"12" + b"\x01\x02\x03\x04" + mask(b"payload", b"\x01\x02\x03\x04") + b"behind"
        assert package.wire.masking.unmask(data, 6, 7, data, 2, 0) == b"payload"
