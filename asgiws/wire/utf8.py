"""UTF-8 checked as it arrives (RFC 3629), so that invalid text fails at its first bad byte."""

from __future__ import annotations

import codecs

try:
    import cython
except ImportError:
    from . import _nocython as cython


class Utf8:
    """Checks text that comes in pieces, cut anywhere."""

    __slots__ = ("_decoder", "_high", "_low", "_need")

    def __init__(self) -> None:
        self._need = 0  # continuation bytes that must follow
        self._low = 0x80  # the least and the greatest value of the next one
        self._high = 0xBF
        self._decoder: codecs.IncrementalDecoder | None = None
        if not cython.compiled:
            self._decoder = codecs.getincrementaldecoder("utf-8")()

    def accepts(self, piece: bytes, final: bool) -> bool:
        """True if the text is valid so far; with ``final`` it must not end inside a character."""
        if cython.compiled:
            return self.accepts_raw(piece, len(piece)) and not (final and self._need)
        assert self._decoder is not None
        try:
            self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            return False
        # CPython waits for the third byte of a surrogate.
        cut = self._decoder.getstate()[0]
        return not (cut[:1] == b"\xed" and cut[1:] > b"\x9f")

    def accepts_raw(self, data: cython.p_const_uchar, size: cython.Py_ssize_t) -> bool:
        """The same for memory; in the compiled build only."""
        i: cython.Py_ssize_t = 0
        byte: cython.uchar
        while i < size:
            byte = data[i]
            if self._need:
                if byte < self._low or byte > self._high:
                    return False
                self._need -= 1
                self._low = 0x80
                self._high = 0xBF
            elif byte < 0x80:
                i = skip_ascii(data, i, size)  # type: ignore[name-defined] # noqa: F821
                continue
            elif 0xC2 <= byte <= 0xDF:
                self._need = 1
            elif 0xE0 <= byte <= 0xEF:
                self._need = 2
                if byte == 0xE0:
                    self._low = 0xA0  # overlong
                elif byte == 0xED:
                    self._high = 0x9F  # surrogates
            elif 0xF0 <= byte <= 0xF4:
                self._need = 3
                if byte == 0xF0:
                    self._low = 0x90  # overlong
                elif byte == 0xF4:
                    self._high = 0x8F  # above U+10FFFF
            else:
                return False
            i += 1
        return True
