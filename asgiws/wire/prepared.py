"""One message for many connections: its frames are built once (RFC 6455 section 5.6).

A deflated message does not refer to anything that was sent before. So all connections with the
same window can have the same bytes (RFC 7692 section 7.2.1).
"""

from __future__ import annotations

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .deflate import Agreed, Deflator, Settings
from .frames import frame


class Prepared:
    """A whole message, as an unfragmented frame. ``size`` is that of its payload, in bytes."""

    __slots__ = ("_deflated", "_first", "_plain", "payload", "size")

    def __init__(self, payload: bytes, text: bool) -> None:
        """``text``: it is a text message, and ``payload`` is UTF-8; otherwise a binary one."""
        self.payload = payload
        self._first = 0x81 if text else 0x82
        self._plain: bytes | None = None
        self._deflated: dict[int, bytes] | None = None
        self.size = len(payload)

    def plain(self) -> bytes:
        """The frame, not compressed."""
        if self._plain is None:
            self._plain = frame(self._first, self.payload)
        return self._plain

    def deflated(self, bits: cython.Py_ssize_t, settings: Settings) -> bytes:
        """The frame, deflated for a window of ``2 ** bits`` bytes."""
        if self._deflated is None:
            self._deflated = {}
        data = self._deflated.get(bits)
        if data is None:
            deflator = Deflator(Agreed(False, False, bits, bits), settings)
            data = frame(self._first | 0x40, deflator.deflate(self.payload))
            self._deflated[bits] = data
        return data
