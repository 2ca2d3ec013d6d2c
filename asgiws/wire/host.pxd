# The header of host.py.
from asgiws.wire.grammar cimport count, span

cdef bytes _DIGITS, _NAME_CHARS

cpdef bint is_host(bytes value) except -1
cdef bint _is_port(bytes value, Py_ssize_t start) except -1
