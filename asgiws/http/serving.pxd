# The header of serving.py.
from asgiws.http.heads cimport Llhttp
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    int PyIter_Send(object, object, PyObject**) except -1

cdef object ENDED

cdef inline object step(coroutine):
    """What the coroutine waits for; ENDED if it has returned.

    Its method ``send`` would raise StopIteration.
    """
    cdef PyObject* result = NULL
    cdef bint waits = PyIter_Send(coroutine, None, &result)
    found = <object> result
    Py_DECREF(found)
    return found if waits else ENDED


cdef object time

cdef class DefaultHeaders:
    cdef object _given
    cdef bint _date, _server
    cdef dict _lines
    cdef bytes _joined
    cdef double _second


cdef class Call:
    cdef object _cancelled, _coroutine
    cdef tuple _call

    cdef _begin(self)
    cdef _begun(self)
    cdef _fail(self, exc)


cdef class Serving:
    cdef public object admission, app, ended, hosts, limits, loop, notice, origins, proxies
    cdef public object state, websockets
    cdef public DefaultHeaders default_headers
    cdef public Llhttp heads
    cdef public set connections
    cdef public dict tasks
    cdef public int phase
    cdef set _cancelled
    cdef list _writers
    cdef object _first, _on_done, _sockname, _server, _first_timer

    cpdef address(self, sockname)
    cpdef double await_first(self, connection) except -1
    cpdef first_came(self, connection)
    cpdef bint full(self) except -1
    cpdef forget(self, connection)
    cpdef start(self, scope, receive, send, context, caller)
    cpdef cancel(self, task)
