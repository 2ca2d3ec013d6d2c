"""A process that is started without the descriptors 0, 1 and 2."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from asgiws.process.descriptors import memory_file

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


@pytest.mark.parametrize("memory", [True, False])
def test_a_file_in_memory_has_no_name_and_needs_no_directory(
    memory: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not memory:

        def forbidden(*_: object) -> int:
            raise PermissionError

        monkeypatch.setattr(os, "memfd_create", forbidden)
    # Where nothing could be written: what is written to otherwise.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none" if memory else tmp_path))
    fd = memory_file()
    assert not os.get_inheritable(fd)
    with os.fdopen(fd, "w+b") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"
    assert not list(tmp_path.iterdir())
