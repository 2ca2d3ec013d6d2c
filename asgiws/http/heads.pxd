# The header of heads.py.
cimport cython
from asgiws.wire.grammar cimport count, is_token, lowered, stands, tokens

cdef bytes _VISIBLE
cdef tuple _VERSIONS
cdef dict _USUAL
cdef int BLANK, COLON, CR, LF, MOST_PIECES
cdef int _MOST_DIGITS

cpdef Py_ssize_t head_size(bytearray buffer, Py_ssize_t searched, Py_ssize_t limit) except -1
cpdef bint whole(bytes data, Py_ssize_t limit) except -1

cdef class Llhttp:
    cdef object _errors, _make, _parser
    cdef bytes _target
    cdef list _pieces
    cdef bint _persists

    @cython.locals(
        headers=list, method=bytes, name=bytes, pieces=list, target=bytes, value=bytes,
        version=bytes,
    )
    cpdef tuple read(self, bytes head, Py_ssize_t controls)

@cython.locals(framing=bint, headers=list, hosts=Py_ssize_t, name=bytes, spelt=bytes)
cdef _undisputed(list pieces)
cdef bint _frames_plainly(list headers) except -1
@cython.locals(headers=list, line=bytes, lines=list, pieces=list, version=bytes)
cdef _by_grammar(bytes head)
cdef object _REQUEST_LINE, _FIELD
cpdef tuple read_head(bytes head, Llhttp first=*)
