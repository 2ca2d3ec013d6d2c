# The header of response.py.
cimport cython
from asgiws.wire.grammar cimport holds_controls, is_low_token, is_token, lowered, tokens
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef inline char* put(char* target, bytes text):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    memcpy(target, PyBytes_AS_STRING(text), size)
    return target + size

cdef inline bytes joined_lines(bytes first, list pairs):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(first)
    cdef tuple pair
    cdef bytes result
    cdef char* target
    for pair in pairs:
        size += PyBytes_GET_SIZE(pair[0]) + PyBytes_GET_SIZE(pair[1]) + 4
    result = PyBytes_FromStringAndSize(NULL, size)
    target = put(PyBytes_AS_STRING(result), first)
    for pair in pairs:
        target = put(target, pair[0])
        target[0] = b":"
        target[1] = b" "
        target = put(target + 2, pair[1])
        target[0] = b"\r"
        target[1] = b"\n"
        target += 2
    return result

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int UNDECIDED, NONE, LENGTH, CHUNKED, CLOSE

cdef class Response:
    cdef public bint begun, body_begun, body_complete, complete, is_event_stream, keep_alive
    cdef public Py_ssize_t status
    cdef public int trailers
    cdef public long long left
    cdef bint _body_allowed, _modern, _says_close
    cdef int _framing
    cdef object _default_headers
    cdef list _lines

    @cython.locals(pairs=list, given=list, name=bytes, size=Py_ssize_t)
    cpdef start(self, status, headers, int trailers=*)
    cpdef list trail(self, headers, more)
    cpdef list body(self, data, more)
    cpdef list head(self)
    cpdef list finish(self)
    cdef list _begin(self)

@cython.locals(pairs=list)
cpdef list checked_headers(headers)
cdef list _checked_one_by_one(headers)
cpdef bytes field_lines(bytes first, list pairs)
cdef bint _says_close(list pairs) except -1
cdef bint _is_event_stream(list pairs) except -1
cdef _length(list pairs)
