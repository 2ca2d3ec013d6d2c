# The header of group.py.
cdef class Group:
    cdef public object loop, deflate
    cdef public set members
    cdef public bytearray buffer
    cdef public object buffer_view
    cdef public double tick
    cdef public bint joins
    cdef public Py_ssize_t max_size, max_queue, ping_ticks, pong_ticks, close_ticks
    cdef public Py_ssize_t accept_ticks, write_ticks, idle_ticks, deflator_ticks
    cdef list _dirty
    cdef object _timer
    cdef double _due

    cpdef flush_soon(self, outbox)
