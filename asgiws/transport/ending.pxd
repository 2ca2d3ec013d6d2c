# The header of ending.py.
# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int HELD, CLOSING, CUT, UNKNOWN

cdef class Ending:
    cdef readonly double interval
    cdef object _transport
    cdef double _patience, _stuck, _since, _speaks_until, _look_after
    cdef Py_ssize_t _unwritten, _unacknowledged
    cdef int _state
    cdef bint _heard

    cpdef heard(self)
    cpdef double look(self, double now) except -1
    cdef _close(self)
    cdef _cut(self)
