# The header of pulse.py.
from asgiws.transport.outbox cimport Flush
from asgiws.websocket.limits cimport Limits

cdef class Pulse:
    cdef public object loop
    cdef public Limits limits
    cdef public Flush flush
    cdef public set members
    cdef public bytearray buffer
    cdef public object buffer_view
    cdef public double look, now, fair, step
    cdef object _timer
    cdef list _rest
    cdef double _due, _seen

    cpdef double time(self) except? -1
