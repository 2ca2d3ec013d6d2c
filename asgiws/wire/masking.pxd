# The header of masking.py, and its loop in C's terms.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef inline void xor_into(unsigned char* target, const unsigned char* source, Py_ssize_t size, const unsigned char* key, Py_ssize_t phase) noexcept nogil:
    # Eight bytes a step; memcpy keeps unaligned loads defined and the loop vectorised.
    cdef unsigned char repeated[8]
    cdef uint64_t key_word, word
    cdef Py_ssize_t i
    for i in range(8):
        repeated[i] = key[(phase + i) & 3]
    memcpy(&key_word, repeated, 8)
    i = 0
    while i + 8 <= size:
        memcpy(&word, source + i, 8)
        word ^= key_word
        memcpy(target + i, &word, 8)
        i += 8
    while i < size:
        target[i] = source[i] ^ repeated[i & 7]
        i += 1

cdef inline bytes unmasked(const unsigned char* data, Py_ssize_t start, Py_ssize_t size, const unsigned char* key, Py_ssize_t key_start, Py_ssize_t phase):
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    xor_into(<unsigned char*> PyBytes_AS_STRING(result), data + start, size, key + key_start, phase)
    return result

cpdef bytes unmask(const unsigned char* data, Py_ssize_t start, Py_ssize_t size, const unsigned char* key, Py_ssize_t key_start, Py_ssize_t phase)
