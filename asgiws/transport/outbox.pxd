# The header of outbox.py.
cimport cython

cdef class Flush:
    cdef public object loop
    cdef public bint joins
    cdef list _dirty

    cpdef soon(self, Outbox outbox)

cdef class Outbox:
    cdef public object transport
    cdef public bint paused, wrote
    cdef Flush _flush
    cdef list _cork
    cdef object _waiters
    cdef Py_ssize_t _cork_size, _written
    cdef bint _flush_due

    cpdef write(self, bytes data, bint more)
    cpdef write_large(self, bytes head, bytes payload)
    cpdef write_all(self, list frames)
    cpdef flush(self)
    cdef _write_cork(self)
    cpdef Py_ssize_t taken(self) except? -1
    cpdef Py_ssize_t unwritten(self) except? -1
    cpdef bint is_empty(self) except -1
    cpdef wake_next(self)
    cpdef wake(self)
    cpdef lose(self)
