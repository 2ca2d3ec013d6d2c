# The header of scope.py.
from asgiws.http.request cimport Request

cdef class Peer:
    cdef readonly object client, proxies
    cdef public object server
    cdef public bint secure

cdef dict _HTTP, _WEBSOCKET

cdef _describe(dict scope, Request request, Peer peer, str root_path, dict state)
cpdef dict http_scope(Request request, Peer peer, str root_path, dict state, notice, bint pathsend=*)
