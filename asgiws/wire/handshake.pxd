# The header of handshake.py.
from asgiws.wire.grammar cimport count, elements, is_token, lists

cdef object b2a_base64, sha1

cdef class Request:
    cdef readonly bytes key
    cdef readonly list subprotocols, offers

cpdef bint requested(bytes method, str http_version, list headers) except -1
cpdef Request check(list headers)
cpdef bytes accept_key(bytes key)
cdef bint _is_key(bytes value) except -1
