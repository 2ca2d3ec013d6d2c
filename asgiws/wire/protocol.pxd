# The header of protocol.py.
cimport cython
from asgiws.wire.frames cimport FrameReader, frame
from asgiws.wire.utf8 cimport Utf8

@cython.no_gc  # as a FrameReader
cdef class Protocol:
    cdef public FrameReader reader
    cdef public Py_ssize_t size
    cdef public unsigned char state, hold_pongs
    cdef public list replies
    cdef public object close_code, close_reason, pong
    cdef object _held_pong, _inflator
    cdef Utf8 _utf8
    cdef bytearray _parts
    cdef Py_ssize_t _max_size, _fragments, _arrived
    cdef unsigned char _opcode, _deflated

    cpdef void receive_data(self, bytes data)
    cdef receive_lent(self, const unsigned char* data, Py_ssize_t size)
    cdef settle(self)
    cpdef object room(self)
    cpdef filled(self, Py_ssize_t size)
    cpdef Py_ssize_t backlog(self)
    cpdef Py_ssize_t arrived(self) noexcept
    @cython.locals(reader=FrameReader)
    cpdef object next_message(self)
    cpdef close(self, Py_ssize_t code, str reason=*)
    cpdef reply(self, bytes data)
    cpdef release_pongs(self)
    @cython.locals(parts=bytearray)
    cdef bint _append(self, FrameReader reader) except -1
    cdef object _finish(self, FrameReader reader)
    cdef _control(self, FrameReader reader)
    cdef _fail(self, Py_ssize_t code, str reason)
    cdef _move(self, Py_ssize_t event, Py_ssize_t code, str reason)
