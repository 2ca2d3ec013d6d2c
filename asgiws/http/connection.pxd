# The header of connection.py.
from asgiws.http.exchange cimport Exchange
from asgiws.http.heads cimport head_size, whole
from asgiws.http.request cimport Request, parse
from asgiws.http.scope cimport Peer, http_scope
from asgiws.http.serving cimport Serving
from asgiws.http.stream cimport Stream

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int RETIRING, DRAINING, STOPPING
cdef int LETS_GO, PENDING, BUSY, RESTING
cdef int HEAD, BODY, RESPONSE, WAITING, OPENING, CLOSING, HANDED_OVER
cdef int NOTHING, HEAD_DUE, REQUEST_DUE, BODY_DUE, REST_DUE, DEPARTURE, STREAM_DUE, TOLD_DUE
cdef int READING_DUE, END_DUE
cdef int BACKLOG, CORK, DRAIN
cdef int NOT_LOOKED_AT
cdef double CORK_SECONDS, NEVER
cdef object monotonic

cdef class HTTPProtocol(Stream):
    cdef object __weakref__
    cdef public Serving serving
    cdef Peer _peer
    cdef object _transport, _context, _websocket, _timer, _ending
    cdef Exchange _exchange
    cdef Py_ssize_t _state, _due
    cdef int _fd
    cdef bytearray _buffer
    cdef list _cork, _drain_waiters
    cdef Py_ssize_t _cork_size, _searched, _drained, _unwritten
    cdef bint _beginning, _fresh, _reading, _eof, _wrote
    cdef double _corked_at, _taken_at, _timer_at, _deadline

    cdef _read_head(self)
    cdef _take_head(self, bytes head)
    cdef _begin(self, Request request)
    cdef _open(self, Request request)
    cdef _call(self, scope, opening, agreed)
    cdef _refuse_for_now(self, admission, Request request)
    cdef _stop_waiting(self)
    cdef _refuse_opening(self, Py_ssize_t code, str reason)
    cdef _read_body(self)
    cdef _await_response(self)
    cdef _next(self)
    cpdef flush(self)
    cdef _write(self, list parts, Py_ssize_t size)
    cpdef pause_reading(self)
    cdef _leave(self)
    cdef _end(self)
    cdef _settle(self)
    cdef _expect(self, Py_ssize_t due, double seconds)
    cdef _watch_writing(self)
    cdef double _look_after(self) except -1
