"""What is said of the end of a worker."""

from __future__ import annotations

import signal

import pytest

from asgiws.process.child import exit_code, told


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (0, "exit code 0", 1),
        (3 << 8, "exit code 3", 3),
        (int(signal.SIGKILL), "killed by SIGKILL", 137),
        (int(signal.SIGSEGV) | 0x80, "killed by SIGSEGV", 139),
        (40, "killed by signal 40", 168),
    ],
)
def test_a_status_is_told_by_its_name_and_never_taken_for_success(
    status: int, words: str, code: int
) -> None:
    assert told(status) == words
    assert exit_code(status) == code
