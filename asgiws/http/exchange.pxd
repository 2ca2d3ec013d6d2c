# The header of exchange.py.
from asgiws.http.request cimport Request
from asgiws.http.response cimport Response
from asgiws.http.stream cimport Stream
from asgiws.wire.grammar cimport lists

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int BODY_MARK, BUDGET_BYTES, BUDGET_EVENTS
cdef int TRAILERS_DROPPED, TRAILERS_NONE, TRAILERS_SENT

cdef class Exchange:
    cdef public object client, task
    cdef public Request request
    cdef public bint told
    cdef public Response response
    cdef Stream _stream
    cdef object _flush_soon
    cdef list _body, _waiters
    cdef Py_ssize_t _body_size, _budget, _budget_bytes
    cdef bint _continues, _gone, _more_body

    cpdef bint feed(self, bytes data) except -1
    cpdef flush(self)
    cpdef leave(self)
    cdef bint _ready(self) except -1
    cdef bint _received(self) except -1
    cdef int _trailers(self) except -1
    cdef _trail(self, headers, more)
    cdef _write_head(self)
    cdef _wake(self)
