# The header of request.py.
from asgiws.http.heads cimport Llhttp, read_head
from asgiws.wire.grammar cimport lists
from asgiws.wire.host cimport is_host

cdef int HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE
cdef dict _FIELDS

cdef class Request:
    cdef readonly bytes method, target
    cdef readonly str http_version
    cdef readonly list headers
    cdef readonly object body
    cdef readonly bint keep_alive, continues, upgrade

cpdef Request parse(bytes head, Llhttp first=*)
cdef Request _check(bytes method, bytes target, bytes version, list headers)
cdef bytes _other_form(bytes method, bytes target, list headers)
