# The header of utf8.py.
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef inline Py_ssize_t skip_ascii(const unsigned char* data, Py_ssize_t i, Py_ssize_t size) noexcept nogil:
    # From an ASCII byte on, eight at a time.
    cdef uint64_t word
    while i + 8 <= size:
        memcpy(&word, data + i, 8)
        if word & <uint64_t> 0x8080808080808080:
            break
        i += 8
    while i < size and data[i] < 0x80:
        i += 1
    return i

cdef class Utf8:
    cdef unsigned char _need, _low, _high
    cdef object _decoder

    cpdef bint accepts(self, bytes piece, bint final) except -1
    cdef bint accepts_raw(self, const unsigned char* data, Py_ssize_t size) noexcept
