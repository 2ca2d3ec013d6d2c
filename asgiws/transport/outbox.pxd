# The header of outbox.py.
cimport cython
from asgiws.websocket.limits cimport Group

cdef class Outbox:
    cdef public object transport
    cdef public bint paused, wrote
    cdef Group _group
    cdef list _cork, _waiters
    cdef Py_ssize_t _cork_size, _written
    cdef bint _flush_due

    cpdef write(self, bytes data, bint more)
    cpdef write_large(self, bytes head, bytes payload)
    cpdef write_all(self, list frames)
    cpdef flush(self)
    cdef _write_cork(self)
    cpdef Py_ssize_t taken(self) except? -1
    cpdef bint is_empty(self) except -1
    cpdef wake(self)
    cpdef resume(self)
    cpdef lose(self)
