# The header of websocket.py.
cimport cython
from asgiws.websocket.limits cimport Group
from asgiws.transport.outbox cimport Outbox
from asgiws.wire.frames cimport frame, header, text_frame
from asgiws.wire.protocol cimport Protocol

@cython.locals(known=dict)
cdef bint _is_message(event) except -1

cdef class WebSocket:
    cdef object __weakref__
    cdef Group _group
    cdef Protocol _protocol
    cdef object _loop, _opening, _agreed, _deflator, _transport
    cdef int _state
    cdef bint _connect_due, _disconnected, _discarding, _failing, _lingering, _gone
    cdef list _queue, _waiters_behind
    cdef object _waiter
    cdef Outbox _out
    cdef Py_ssize_t _head, _queued_bytes, _budget, _budget_bytes
    cdef bint _stopped, _reading, _filling, _heard
    cdef Py_ssize_t _ping_in, _pong_in, _countdown
    cdef Py_ssize_t _taken, _stuck, _moved, _idle, _sent, _deflator_rest
    cdef public Py_ssize_t messages_in, bytes_in, messages_out, bytes_out
    cdef public Py_ssize_t close_code
    cdef public object close_reason, closed_by, subprotocol

    cdef _send_message(self, dict event)
    cdef void _count_out(self, Py_ssize_t size) noexcept
    cdef _accept(self, event)
    cdef bint _ready(self) noexcept
    cdef _peer_left(self)
    @cython.locals(protocol=Protocol, queue=list)
    cdef _parse(self)
    cdef _regulate_reading(self)
    cdef dict _take(self)
    cdef _wake(self)
    cdef _leave(self, waiter)
    cdef _write_replies(self)
    cdef _disconnect(self, Py_ssize_t code, str reason, str by)
    cdef _close(self, Py_ssize_t code, str reason, str by)
    cdef bint _is_at_work(self) noexcept
    cdef _fail(self)
    cdef _peer_is_done(self)
    cdef _linger(self)
    cdef _judge_writing(self)
    cdef bint _takes(self) except -1
    cdef _judge_idleness(self)
    cdef _rest_deflator(self)
    cdef _keep_alive(self)
