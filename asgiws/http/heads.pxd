# The header of heads.py.
from asgiws.wire.grammar cimport count, tokens

cpdef tuple read_head(bytes head)
