# The header of inbox.py.
# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int QUEUE_BYTES, TAKEN_WHEN_EMPTY, TAKEN_AT_MOST

cdef class Inbox:
    cdef public object waiter
    cdef public Py_ssize_t waiting
    cdef Py_ssize_t _bytes, _head, _max_queue
    cdef object _first
    cdef list _behind, _rest

    cpdef bint is_full(self) noexcept
    cpdef bint is_low(self) noexcept
    cpdef put(self, message)
    cpdef object take(self)
    cpdef join(self, waiter)
    cpdef leave(self, waiter)
    cpdef wake(self)
