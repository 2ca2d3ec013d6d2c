# The header of limits.py.
cdef class Limits:
    cdef public object deflate
    cdef public Py_ssize_t max_size, max_queue
    cdef public double ping_interval, ping_timeout, close_timeout
    cdef public double accept_timeout, write_timeout, idle_timeout
