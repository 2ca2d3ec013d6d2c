"""Keeps the memory of large messages, to use it again.

glibc gives the memory of a large message back to the system at once, and the next one
pays a page fault for every 4 KiB of it again: a quarter of what an echo of 1 MiB costs.
"""

from __future__ import annotations

import os

KEPT_BYTES = 16 * 1_048_576  # at the top of the heap; more than that goes back
LARGEST_BLOCK = 4 * 1_048_576  # larger blocks go back to the system at once, as before

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3


def keep_for_the_next() -> bool:
    """Have malloc keep up to KEPT_BYTES; return whether that was done.

    It changes the whole process, so only the owner of the process may call it. The user's
    settings (``MALLOC_TRIM_THRESHOLD_`` and the like, mallopt(3)) come first, and other C
    libraries than glibc have no such setting.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError, TypeError):
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    )
