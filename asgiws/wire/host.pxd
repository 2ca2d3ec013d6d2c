# The header of host.py.
from asgiws.wire.grammar cimport count

cpdef bint is_host(bytes value) except -1
