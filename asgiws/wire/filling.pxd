# The header of filling.py: bytes objects in the making, which nobody else has seen yet.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.string cimport memcpy
from asgiws.wire.masking cimport xor_into
from asgiws.wire.utf8 cimport Utf8

cdef inline bytes new_bytes(Py_ssize_t size):
    return PyBytes_FromStringAndSize(NULL, size)

cdef inline bytes grow_bytes(bytes old, Py_ssize_t more):
    cdef Py_ssize_t size = len(old)
    cdef bytes grown = PyBytes_FromStringAndSize(NULL, size + more)
    memcpy(PyBytes_AS_STRING(grown), PyBytes_AS_STRING(old), size)
    return grown

cdef inline object view_of(bytes target, Py_ssize_t start, Py_ssize_t size):
    return PyMemoryView_FromMemory(PyBytes_AS_STRING(target) + start, size, PyBUF_WRITE)

cdef inline void copy_into(bytes target, Py_ssize_t at, const unsigned char* data, Py_ssize_t start, Py_ssize_t size) noexcept:
    memcpy(PyBytes_AS_STRING(target) + at, data + start, size)

cdef inline void xor_within(bytes target, Py_ssize_t start, Py_ssize_t size, const unsigned char* key) noexcept:
    cdef unsigned char* at = <unsigned char*> PyBytes_AS_STRING(target) + start
    xor_into(at, at, size, key, start & 3)

cdef inline bint text_is_valid(Utf8 utf8, bytes target, Py_ssize_t start, Py_ssize_t size, bint last):
    return utf8.accepts_raw(<const unsigned char*> PyBytes_AS_STRING(target) + start, size) and not (last and utf8._need)

cdef class Filling:
    cdef bytes _key
    cdef bytes _target
    cdef Utf8 _utf8
    cdef Py_ssize_t _size, _filled

    cpdef Py_ssize_t room(self) except -1
    cpdef object view(self)
    cdef put(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t size)
    cpdef filled(self, Py_ssize_t size)
    cdef bint _is_valid(self, Py_ssize_t start, Py_ssize_t size) except -1
    cpdef bytes result(self)
