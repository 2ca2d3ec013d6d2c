"""The masking of payloads (RFC 6455 section 5.3): the one loop over every byte received."""

from __future__ import annotations

try:
    import cython
except ImportError:
    from . import _nocython as cython


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
    number = int.from_bytes(data[start : start + size], "little")
    number ^= int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return number.to_bytes(size, "little")
