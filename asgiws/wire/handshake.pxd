# The header of handshake.py.
cimport cython
from asgiws.wire.grammar cimport count, elements, is_token, lists

cdef object b2a_base64, sha1

cdef int CONNECTION, CONTENT_LENGTH, EXTENSIONS, KEY, PROTOCOL, TRANSFER_ENCODING, UPGRADE, VERSION
cdef dict _FIELDS

cdef class Request:
    cdef readonly bytes key
    cdef readonly list subprotocols, offers

cpdef bint requested(bytes method, str http_version, list headers) except -1
@cython.locals(
    known=tuple, usual=tuple, pair=tuple, name=bytes, value=bytes, upgrades=bint, has_body=bint
)
cpdef Request check(list headers)
cpdef bytes accept_key(bytes key)
cdef bint _is_key(bytes value) except -1
