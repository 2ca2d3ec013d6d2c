"""What the process keeps of the memory that large messages have used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

PROGRAM = """
import resource, sys
from asgiws.process.memory import keep_for_the_next
kept = sys.argv[1] == "keep" and keep_for_the_next()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for blocks in range(2):
    before = faults()
    for _ in range(20):
        messages = [bytes(1_000_000 + number) for number in range(8)]
        del messages
print(int(kept), faults() - before)
"""


def churn(what: str, **env: str) -> tuple[bool, int]:
    """Twenty times eight messages of 1 MB: whether memory was kept, and the page faults."""
    clean = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", PROGRAM, what]
    output = subprocess.run(
        command, env={**clean, **env}, capture_output=True, text=True, check=True
    ).stdout
    kept, faults = output.split()
    return kept == "1", int(faults)


def test_the_memory_of_large_messages_is_kept_for_the_next_ones() -> None:
    kept, faults = churn("keep")
    assert kept == (platform.libc_ver()[0] == "glibc")
    if kept:
        assert faults < 2_000
        # The threshold is fixed, so that the heap's layout after the imports does not decide.
        assert churn("leave", MALLOC_MMAP_THRESHOLD_="131072")[1] > 10 * faults


def test_what_the_user_has_set_comes_first() -> None:
    assert not churn("keep", MALLOC_TRIM_THRESHOLD_="65536")[0]
    assert not churn("keep", GLIBC_TUNABLES="glibc.malloc.trim_threshold=65536")[0]
