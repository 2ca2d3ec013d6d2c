"""Sockets that a service manager has opened and hands over: systemd's sd_listen_fds(3).

They have the descriptors 3 and following, and three variables say how many there are and for
which process. The variables are removed once they are read, so that no child takes the sockets.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import NamedTuple

from ..log import error_log
from ..options.addresses import Address, Descriptor

FIRST = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Passed(NamedTuple):
    """The descriptors that were handed over, and the variables that said so.

    A program that the same process executes next finds them again if it gets these.
    """

    addresses: tuple[Descriptor, ...]
    variables: dict[str, str]


def take_passed(environ: MutableMapping[str, str]) -> Passed:
    """The sockets that were handed over to this process; ``environ`` loses the variables.

    The descriptors are closed in programs that are executed from now on.
    """
    variables = {name: environ.pop(name) for name in VARIABLES if name in environ}
    count, pid = (variables.get(name, "") for name in ("LISTEN_FDS", "LISTEN_PID"))
    if not count.isdecimal() or not pid.isdecimal():
        return Passed((), {})
    if int(pid) != os.getpid():
        error_log.info(
            "LISTEN_FDS names sockets of process %s, but this is process %d: they are not used",
            pid,
            os.getpid(),
        )
        return Passed((), {})
    addresses = tuple(Descriptor(FIRST + number) for number in range(int(count)))
    for address in addresses:
        with suppress(OSError):
            os.set_inheritable(address.number, False)
    return Passed(addresses, variables)


def where_to_listen(
    asked: tuple[Address, ...], by_default: bool, passed: Passed
) -> tuple[Address, ...]:
    """The sockets that were handed over, if no option asks for others (``by_default``)."""
    if not passed.addresses:
        return asked
    if by_default:
        return passed.addresses
    if left := [address for address in passed.addresses if address not in asked]:
        error_log.info(
            "systemd passed sockets that are not used (%s): the options ask for %s",
            ", ".join(map(str, left)),
            ", ".join(map(str, asked)),
        )
    return asked
