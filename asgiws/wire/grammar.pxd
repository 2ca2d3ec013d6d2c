# The header of grammar.py, and its loop in C's terms.
cdef inline Py_ssize_t count_raw(const unsigned char* text, Py_ssize_t size, const unsigned char* chars) noexcept nogil:
    cdef Py_ssize_t i, found = 0
    for i in range(size):
        found += chars[text[i]]
    return found

cpdef Py_ssize_t count(bytes text, bytes chars) except -1
cpdef bint is_token(bytes text) except -1
cpdef bint holds_controls(bytes value) except -1
cpdef list elements(values)
cpdef list tokens(values)
cpdef bint lists(bytes value, bytes token) except -1
