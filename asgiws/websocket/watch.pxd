# The header of watch.py.
from asgiws.websocket.limits cimport Limits

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef double EPSILON, NEVER

cdef class Watch:
    cdef public bint heard
    cdef public double due
    cdef Py_ssize_t _left, _moved, _taken, _unread
    cdef double _moved_at, _ping_at, _pong_due, _taken_at

    cpdef start(self, Limits limits, double now, double fair)
    cpdef end(self, double due, Py_ssize_t unread)
    cpdef bint overdue(self, Py_ssize_t unread, double step, double fair) except -1
    cpdef int judge(self, Limits limits, double now, double fair, bint waits, Py_ssize_t taken, Py_ssize_t moved, bint busy, bint deaf) except -1
