# The header of outbox.py, and what it does in C.
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING

# What a socket that does not block takes at once; a negative number if it takes nothing.
# ``last``: a FIN follows, and the kernel sends it in the same segment.
cdef extern from *:
    """
    #ifdef _WIN32
    static Py_ssize_t asgiws_send_now(int fd, const char *data, Py_ssize_t size, int last) {
        (void)fd, (void)data, (void)size, (void)last;
        return -1;
    }
    static int asgiws_send_fin(int fd) {
        (void)fd;
        return -1;
    }
    #else
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef MSG_MORE
    #define MSG_MORE 0
    #endif
    static Py_ssize_t asgiws_send_now(int fd, const char *data, Py_ssize_t size, int last) {
        return send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL | (last ? MSG_MORE : 0));
    }
    static int asgiws_send_fin(int fd) {
        return shutdown(fd, SHUT_WR);
    }
    #endif
    """
    Py_ssize_t asgiws_send_now(int fd, const char *data, Py_ssize_t size, bint last) noexcept
    int asgiws_send_fin(int fd) noexcept

cdef inline Py_ssize_t send_now(int fd, bytes data, bint last):
    return asgiws_send_now(fd, PyBytes_AS_STRING(data), len(data), last)

cdef inline bint send_fin(int fd):
    return asgiws_send_fin(fd) == 0

# The module's constants in C.
cdef int NOT_LOOKED_AT, NO_SOCKET


cdef class Flush:
    cdef public object loop
    cdef public bint joins
    cdef list _dirty

    cpdef soon(self, Outbox outbox)

@cython.final
cdef class Outbox:
    cdef public object transport
    cdef public bint paused, wrote
    cdef Flush _flush
    cdef object _cork, _waiters
    cdef Py_ssize_t _cork_size, _written
    cdef unsigned char _flush_due, _in_transport
    cdef int _fd

    cpdef open(self, transport, int fd)
    cpdef write(self, bytes data, bint more)
    cpdef write_large(self, bytes head, bytes payload)
    cpdef write_all(self, list frames)
    cpdef bint write_last(self, list frames) except -1
    cpdef flush(self)
    cdef _keep(self, bytes data)
    cdef bint _write_cork(self, bint last=*) except -1
    cdef bytes _joined(self)
    cdef bytes _send(self, bytes data, bint last)
    cdef _find_fd(self)
    cpdef Py_ssize_t taken(self) except? -1
    cpdef Py_ssize_t unwritten(self) except? -1
    cpdef bint is_empty(self) except -1
    cpdef wake_next(self)
    cpdef wake(self)
    cpdef lose(self)
