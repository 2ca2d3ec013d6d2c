"""A process that is started without the descriptors 0, 1 and 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each descriptor is what it was or the null device; the next one that is opened is above them,
# and the streams can be used.
PROGRAM = """
import os, sys
from asgiws.process.descriptors import fill_standard_descriptors
fill_standard_descriptors()
null = os.stat(os.devnull).st_rdev
kept = [os.fstat(number).st_rdev != null for number in range(3)]
report = int(sys.argv[1])
inheritable = [os.get_inheritable(number) for number in range(3)]
print("nobody reads this", flush=True)
print("nor this", file=sys.stderr, flush=True)
sys.stdin.read()
os.write(report, repr((kept, inheritable, os.dup(0) > 2)).encode())
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_those_that_are_closed_are_the_null_device(closed: tuple[int, ...]) -> None:
    redirections = " ".join(f"{number}>&-" for number in closed)
    command = f'exec "$0" -c "$1" 9 9>&1 >&4 {redirections} 4>&-'
    done = subprocess.run(
        ["sh", "-c", f"exec 4>/dev/full; {command}".replace("/dev/full", "/dev/zero"), sys.executable, PROGRAM],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == repr(([number not in closed for number in range(3)], [True] * 3, True))
