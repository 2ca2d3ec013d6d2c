"""A process that is started without the descriptors 0, 1 and 2."""

from __future__ import annotations

import os
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
    command = f'exec "$0" -c "$1" "$2" {redirections}'
    reading, writing = os.pipe()
    with open(reading, encoding="ascii") as report:
        process = subprocess.Popen(
            ["sh", "-c", command, sys.executable, PROGRAM, str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writing],
        )
        os.close(writing)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said.strip()) in [(0, b"nor this"), (0, b"")]
        kept = [number not in closed for number in range(3)]
        assert report.read() == repr((kept, [True] * 3, True))
