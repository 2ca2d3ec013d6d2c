# The header of grammar.py, and its loops in C's terms.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcmp

cdef inline Py_ssize_t count_raw(const unsigned char* text, Py_ssize_t size, const unsigned char* chars) noexcept nogil:
    cdef Py_ssize_t i, found = 0
    for i in range(size):
        found += chars[text[i]]
    return found

cdef inline Py_ssize_t span_raw(const unsigned char* text, Py_ssize_t at, const unsigned char* chars) noexcept nogil:
    while chars[text[at]]:
        at += 1
    return at

cdef inline bint stands_raw(bytes text, bytes piece, Py_ssize_t at):
    return at + len(piece) <= len(text) and not memcmp(
        PyBytes_AS_STRING(text) + at, PyBytes_AS_STRING(piece), len(piece)
    )

cdef inline bytes lowered_raw(const unsigned char* text, Py_ssize_t start, Py_ssize_t end):
    cdef bytes result = PyBytes_FromStringAndSize(NULL, end - start)
    cdef unsigned char* target = <unsigned char*> PyBytes_AS_STRING(result)
    cdef Py_ssize_t i
    cdef unsigned char char
    for i in range(end - start):
        char = text[start + i]
        target[i] = char | 32 if 65 <= char <= 90 else char
    return result

cpdef Py_ssize_t count(bytes text, bytes chars) except -1
cpdef Py_ssize_t span(bytes text, Py_ssize_t at, bytes chars) except -1
cpdef bint stands(bytes text, bytes piece, Py_ssize_t at) except -1
cpdef bytes lowered(bytes text, Py_ssize_t start, Py_ssize_t end)
cpdef bint is_token(bytes text) except -1
cpdef bint is_low_token(bytes text) except -1
cpdef bint holds_controls(bytes value) except -1
cpdef list elements(values)
cpdef list tokens(values)
cpdef bint lists(bytes value, bytes token) except -1
