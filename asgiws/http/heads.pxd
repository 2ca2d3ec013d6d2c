# The header of heads.py.
from asgiws.wire.grammar cimport count, is_token, tokens

cdef tuple _FRAMING_SIZES, _VERSIONS
cdef int _MOST_DIGITS

cdef class Llhttp:
    cdef object _errors, _make, _parser
    cdef bytes _target
    cdef list _headers
    cdef bint _framing, _persists

    cpdef tuple read(self, bytes head)

cdef bint _frames_plainly(list headers) except -1
cpdef tuple read_head(bytes head, Llhttp first=*)
