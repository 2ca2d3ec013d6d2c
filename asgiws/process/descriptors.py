"""Descriptors: 0, 1 and 2, which every program takes for granted, and those of files in memory."""

from __future__ import annotations

import os
import sys
import tempfile


def fill_standard_descriptors() -> None:
    """Open the null device in place of those that are closed.

    A process that is started without them would give their numbers to its first sockets. Printed
    text would then go to a client, and libuv would abort when it has to close one.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, mode, closefd=False))


def memory_file() -> int:
    """A new file without a name, in memory; its descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("asgiws", os.MFD_CLOEXEC)
        except OSError:
            pass  # it can be forbidden
    # Not the first choice: a container may have no directory that can be written to.
    fd, path = tempfile.mkstemp(prefix="asgiws")
    os.unlink(path)
    return fd
