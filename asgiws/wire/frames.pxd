# The header of frames.py: layouts and signatures, and a frame built in one allocation.
cimport cython
from asgiws.wire.filling cimport Filling
from asgiws.wire.masking cimport unmask
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef inline bytes build(unsigned char first, const char* payload, Py_ssize_t size):
    cdef Py_ssize_t head = 2 if size < 126 else 4 if size < 65536 else 10
    cdef bytes result = PyBytes_FromStringAndSize(NULL, head + size)
    cdef unsigned char* target = <unsigned char*> PyBytes_AS_STRING(result)
    cdef Py_ssize_t i
    target[0] = first
    if head == 2:
        target[1] = <unsigned char> size
    else:
        target[1] = 126 if head == 4 else 127
        for i in range(2, head):
            target[i] = <unsigned char> ((<uint64_t> size >> (8 * (head - 1 - i))) & 0xFF)
    memcpy(target + head, payload, size)
    return result

cdef inline bytes join_frame(unsigned char first, bytes payload):
    return build(first, PyBytes_AS_STRING(payload), len(payload))

cdef inline bytes join_text_frame(str text):
    cdef Py_ssize_t size = 0
    cdef const char* utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return build(0x81, utf8, size)

# Constants that no other module reads: a name of Python's costs a look-up whenever it is read.
cdef int CUT, READ, PASSED, FILLING_BYTES

cpdef bytes frame(unsigned char first, bytes payload)
cpdef bytes text_frame(str text)
cpdef bytes header(unsigned char first, Py_ssize_t size)

# Nothing that it holds can lead back to it, and the collector's part of an object is saved.
@cython.no_gc
cdef class FrameReader:
    cdef public Py_ssize_t limit, backlog
    cdef public unsigned char opcode
    # A bint would take four bytes of each open connection.
    cdef public unsigned char allow_rsv1, fin, rsv1, first, last, in_message, discarding
    cdef public bytes payload
    cdef public Filling filling
    cdef bytes _owner, _key
    cdef const unsigned char* _data
    cdef object _more
    cdef Py_ssize_t _pos, _end, _remaining
    cdef unsigned char _phase

    cpdef void feed(self, bytes data)
    cdef borrow(self, const unsigned char* data, Py_ssize_t size)
    cpdef settle(self)
    cpdef discard(self)
    cpdef Py_ssize_t left(self) noexcept
    cpdef bint next(self) except -1
    @cython.locals(data="const unsigned char*")
    cdef int _read_header(self, Py_ssize_t available) except -1
    cdef _skip(self, Py_ssize_t size)
    cdef bint _next_piece(self, bint first) except -1
    cdef bint _fill(self, Filling filling) except -1
    cpdef filled(self, Py_ssize_t size)
