"""The masking of payloads (RFC 6455 section 5.3): the one loop over every byte received."""

from __future__ import annotations

from typing import Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

LANES_FROM: Final = 8192  # bytes

_EVERY_BYTE: Final = int.from_bytes(range(256), "little")
_ONES: Final = int.from_bytes(b"\1" * 256, "little")


def unmask(
    data: cython.p_const_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    key: cython.p_const_uchar,
    key_start: cython.Py_ssize_t,
    phase: cython.Py_ssize_t,
) -> bytes:
    """Unmask ``size`` bytes of ``data`` from ``start`` on into fresh bytes (section 5.3).

    The masking key is the four bytes of ``key`` from ``key_start`` on; ``phase``
    (0 to 3) is where in the key the first byte stands.
    """
    if cython.compiled:
        return unmasked(data, start, size, key, key_start, phase)  # type: ignore[name-defined,no-any-return] # noqa: F821
    mask = key[key_start : key_start + 4]
    if phase:
        mask = mask[phase:] + mask[:phase]
    if size >= LANES_FROM:
        return _by_lanes(data[start : start + size], mask)
    number = int.from_bytes(data[start : start + size], "little")
    number ^= int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return number.to_bytes(size, "little")


def _by_lanes(data: bytes, mask: bytes) -> bytes:
    """The same for the interpreted build, where numbers of many digits would cost twice as much.

    Every fourth byte meets the same byte of the mask, so a translation table does it.
    """
    result = bytearray(len(data))
    for lane, byte in enumerate(mask):
        table = (_EVERY_BYTE ^ _ONES * byte).to_bytes(256, "little")
        result[lane::4] = data[lane::4].translate(table)
    return bytes(result)
