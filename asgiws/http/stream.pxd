# The header of stream.py.

cdef class Stream:
    cdef public object loop
    cdef public bint write_paused

    cpdef bint lost(self) except -1
    cpdef write(self, list parts, bint more=*)
    cpdef close(self)
    cpdef body_wanted(self)
    cpdef resume_reading(self)
    cpdef announce(self, bint final)
    cpdef response_done(self)
    cpdef app_failed(self)
