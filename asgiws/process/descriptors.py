"""The descriptors 0, 1 and 2, which every program takes for granted."""

from __future__ import annotations

import os
import sys


def fill_standard_descriptors() -> None:
    """Open the null device in place of those that are closed.

    A process that is started without them would give their numbers to its first
    sockets: what somebody prints then goes to a client, and libuv aborts when it is
    to close one.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, mode, closefd=False))
