# The header of members.py.
cimport cython
from asgiws.websocket.session cimport Session
from asgiws.wire.prepared cimport Prepared

cdef int FULL, GONE, TAKEN

cdef class Member:
    cdef public Topic topic
    cdef int _index
    cdef unsigned int _dropped
    cdef public object found

    cpdef bint take(self, publication, Prepared plain) except -1
    cpdef bint is_excluded(self, exclude) except -1

cdef class Topic:
    cdef readonly list members
    cdef readonly str name
    cdef readonly object owner

    cpdef join(self, Member member)
    cpdef leave(self, Member member)
    cpdef Py_ssize_t deliver(self, publication) except -1

cdef class Terms:
    cdef readonly str policy
    cdef readonly Py_ssize_t max_bytes
    cdef readonly bint envelope
    cdef readonly bint closes_on_gap

cdef class Socket(Member):
    cdef readonly Session session
    cdef public Socket behind
    cdef Terms _terms
    cdef object _backlog

    cdef _wait(self)
    cdef Prepared _message(self, publication)
    cdef _flush(self)
