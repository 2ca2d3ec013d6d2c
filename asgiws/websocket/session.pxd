# The header of session.py.
cimport cython
from asgiws.transport.outbox cimport Outbox
from asgiws.websocket.inbox cimport Inbox
from asgiws.websocket.pulse cimport Pulse
from asgiws.websocket.watch cimport Watch
from asgiws.wire.frames cimport frame, header, text_frame
from asgiws.wire.prepared cimport Prepared
from asgiws.wire.protocol cimport Protocol

# The module's constants in C: a name of Python's costs a look-up whenever it is read.
cdef int CONNECTING, DENYING, ACCEPTED, ENDED
cdef int OPENING, OPEN, FAILING, DEPARTED, CLOSING, OVER
cdef int OPENED, REFUSED, BROKE, FAILED, CLOSED, CLOSE, LEFT, FINISHED, CUT, LOST
cdef int PARSED, KEPT, NOT_READ
cdef int LETS_GO, BUSY, RESTING
cdef int TAKEN, FULL, GONE
cdef int NOTHING, TIME_TO_PING, SILENT, IDLE
cdef int WIRE_CLOSED, WIRE_FAILED
cdef int NOT_LOOKED_AT
cdef int BACKLOG_BYTES, BUDGET_BYTES, BUDGET_MESSAGES, CORK_BYTES
cdef double DEFLATOR_SECONDS, FAILING_SECONDS, SILENT_SECONDS, NEVER

@cython.locals(known=dict)
cdef bint _is_message(event) except -1

cdef class Session:
    cdef object __weakref__
    cdef Pulse _pulse
    cdef Protocol _protocol
    cdef Inbox _inbox
    cdef Outbox _out
    cdef Watch _watch
    cdef object _loop, _opening, _agreed, _deflator, _ending, _transport
    # A bint would take four bytes of each open connection.
    cdef unsigned char _app, _reading, _connect_due, _filling
    cdef int _budget
    cdef Py_ssize_t _budget_bytes, _sent
    cdef double _deflator_used
    cdef readonly int link
    cdef public Py_ssize_t messages_in, bytes_in, messages_out, bytes_out
    cdef public int close_code
    cdef public object close_reason, closed_by, subprotocol, subscribed

    cdef _send_message(self, dict event)
    cpdef int offer(self, Prepared message) except -1
    cdef void _count_out(self, Py_ssize_t size) noexcept
    cdef _accept(self, event)
    cdef bint _ready(self) except -1
    cdef _parse(self)
    cdef _regulate(self, int reading)
    cdef dict _take(self)
    cdef _wake(self)
    cdef _write_replies(self)
    cdef _end(self, int event, Py_ssize_t code, str reason, str by)
    cdef _end_within(self, double seconds)
    cdef _close(self, Py_ssize_t code, str reason, str by)
    cdef _peer_left(self)
    cdef bint _is_at_work(self) except -1
    cdef _peer_is_done(self)
    cdef _fail(self)
    cdef _settle(self)
    cdef _linger(self)
    cdef _time_is_up(self)
    cdef _judge(self)
    cdef _rest_deflator(self)
