# The header of prepared.py.

cdef class Prepared:
    cdef readonly bytes payload
    cdef unsigned char _first
    cdef object _plain
    cdef dict _deflated
    cdef readonly Py_ssize_t size

    cpdef bytes plain(self)
    cpdef bytes deflated(self, Py_ssize_t bits, settings)
