# The header of heads.py.
cimport cython
from asgiws.wire.grammar cimport count, is_token, lowered, span, tokens

cdef bytes _VALUE, _VISIBLE
cdef tuple _FRAMING_SIZES, _VERSIONS
cdef int _MOST_DIGITS

cpdef Py_ssize_t head_size(bytearray buffer, Py_ssize_t searched, Py_ssize_t limit) except -1
cpdef bint whole(bytes data, Py_ssize_t limit) except -1

cdef class Reader:
    cpdef tuple read(self, bytes head)

cdef class Plain(Reader):
    @cython.locals(name=bytes, headers=list)
    cpdef tuple read(self, bytes head)

cdef class Llhttp(Reader):
    cdef object _errors, _make, _parser
    cdef bytes _target
    cdef list _headers
    cdef bint _framing, _persists

cdef bint _frames_plainly(list headers) except -1
cdef Py_ssize_t _lines(bytes head) except -1
cpdef tuple read_head(bytes head, Reader first=*)
