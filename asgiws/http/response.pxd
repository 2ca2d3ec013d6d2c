# The header of response.py.
from asgiws.wire.grammar cimport count, holds_controls, is_token, tokens

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int UNDECIDED, NONE, LENGTH, CHUNKED, CLOSE

cdef class Response:
    cdef public bint begun, body_begun, body_complete, complete, is_event_stream, keep_alive
    cdef public Py_ssize_t status
    cdef public int trailers
    cdef public object left
    cdef bint _body_allowed, _modern, _says_close
    cdef int _framing
    cdef object _default_headers
    cdef list _lines

    cpdef start(self, status, headers, int trailers=*)
    cpdef list trail(self, headers, more)
    cpdef list body(self, data, more)
    cpdef list head(self)
    cpdef list finish(self)
    cdef list _begin(self)

cpdef list checked_headers(headers)
cdef bint _says_close(list pairs) except -1
cdef bint _is_event_stream(list pairs) except -1
cdef _length(list pairs)
