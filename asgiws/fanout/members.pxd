# The header of members.py.
cimport cython
from asgiws.websocket.session cimport Session
from asgiws.wire.prepared cimport Prepared

cdef int FULL, GONE, TAKEN

cdef class Member:
    cdef public Topic topic
    cdef Py_ssize_t _index

    cpdef bint take(self, publication, Prepared plain) except -1
    cpdef bint is_excluded(self, exclude) except -1

cdef class Topic:
    cdef readonly list members
    cdef readonly str name

    cpdef join(self, Member member)
    cpdef leave(self, Member member)
    cpdef Py_ssize_t deliver(self, publication) except -1

cdef class Socket(Member):
    cdef readonly Session session
    cdef public Socket behind
    cdef public object on_end
    cdef object _backlog, _slow
    cdef str _policy
    cdef Py_ssize_t _max_bytes, _dropped
    cdef bint _envelope

    cdef _flush(self)
