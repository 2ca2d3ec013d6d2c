"""One large payload on its way: filled in place, unmasked in place, checked as it arrives.

The event loop may read from the socket straight into ``view``, so that a message of
a mebibyte is not copied between its bytes in the kernel and the bytes the
application gets. Memory grows with what has arrived, not with what was declared.
"""

from __future__ import annotations

from typing import Any, Final

try:
    import cython
except ImportError:
    from . import _nocython as cython

from .errors import INVALID_DATA, ProtocolError
from .masking import unmask
from .utf8 import Utf8

# In the compiled build the kernel gives no page of it before a byte comes there.
AT_FIRST: Final = 1_048_576 if cython.compiled else 65_536


class Filling:
    """The payload of one frame of ``size`` bytes, masked with ``key`` (4 bytes).

    ``is_text``: it is a whole text message, so invalid UTF-8 raises ProtocolError
    (1007) from ``put`` and ``filled``.
    """

    __slots__ = ("_filled", "_key", "_size", "_target", "_utf8")

    def __init__(self, size: cython.Py_ssize_t, key: bytes, is_text: cython.bint) -> None:
        self._size = size
        self._key = key
        self._filled = 0
        self._utf8: Utf8 | None = Utf8() if is_text else None
        # bytes in the making in the compiled build, a bytearray in the interpreted one
        self._target: Any
        if cython.compiled:
            self._target = new_bytes(min(size, AT_FIRST))  # type: ignore[name-defined] # noqa: F821
        else:
            self._target = bytearray(min(size, AT_FIRST))

    def room(self) -> cython.Py_ssize_t:
        """Return how many bytes there is room for now; 0 when the payload is whole."""
        space: cython.Py_ssize_t = len(self._target) - self._filled
        if not space and self._filled < self._size:
            space = min(self._filled, self._size - self._filled)
            if cython.compiled:
                self._target = grow_bytes(self._target, space)  # type: ignore[name-defined] # noqa: F821
            else:
                self._target.extend(bytes(space))
        return space

    def view(self) -> memoryview:
        """The room as memory to write masked bytes into; report them to ``filled``."""
        space: cython.Py_ssize_t = self.room()
        if cython.compiled:
            return view_of(self._target, self._filled, space)  # type: ignore[name-defined,no-any-return] # noqa: F821
        return memoryview(self._target)[self._filled : self._filled + space]

    def put(
        self, data: cython.p_const_uchar, start: cython.Py_ssize_t, size: cython.Py_ssize_t
    ) -> None:
        """Take ``size`` masked bytes of ``data`` from ``start`` on."""
        part: cython.Py_ssize_t
        while size:
            part = min(size, self.room())
            if cython.compiled:
                copy_into(self._target, self._filled, data, start, part)  # type: ignore[name-defined] # noqa: F821
            else:
                self._target[self._filled : self._filled + part] = data[start : start + part]
            self.filled(part)
            start += part
            size -= part

    def filled(self, size: cython.Py_ssize_t) -> None:
        """``size`` masked bytes have been written where ``view`` pointed."""
        start: cython.Py_ssize_t = self._filled
        self._filled += size
        if cython.compiled:
            xor_within(self._target, start, size, self._key)  # type: ignore[name-defined] # noqa: F821
        else:
            masked = bytes(self._target[start : self._filled])
            self._target[start : self._filled] = unmask(masked, 0, size, self._key, 0, start & 3)
        if self._utf8 is not None and not self._is_valid(start, size):
            raise ProtocolError(INVALID_DATA, "invalid UTF-8")

    def _is_valid(self, start: cython.Py_ssize_t, size: cython.Py_ssize_t) -> bool:
        last: cython.bint = self._filled == self._size
        if cython.compiled:
            return text_is_valid(self._utf8, self._target, start, size, last)  # type: ignore[name-defined,no-any-return] # noqa: F821
        assert self._utf8 is not None
        return self._utf8.accepts(bytes(self._target[start : self._filled]), last)

    def result(self) -> bytes:
        """The whole payload, unmasked."""
        if cython.compiled:
            return self._target  # type: ignore[no-any-return]
        return bytes(self._target)
