"""Stands in for the module ``cython`` where Cython is not installed.

The compiled modules are ordinary Python files; what they take from ``cython`` means
nothing when they are interpreted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

compiled = False
Py_ssize_t = int
bint = bool
int = int
p_const_uchar = bytes
uchar = int


def _unchanged(thing: T) -> T:
    return thing


cfunc = inline = final = _unchanged


def returns(_type: Any) -> Callable[[T], T]:
    return _unchanged
