"""A fresh interpreter, and what it inherits."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from asgiws.errors import ConfigError
from asgiws.options.config import Config
from asgiws.process.spawning import Spec, from_json, spawn, start, to_json


def run(statement: str, *fds: int) -> str:
    """What it writes into a pipe; its descriptor is named OUT in the statement."""
    read, write = os.pipe()
    try:
        pid = start(statement.replace("OUT", str(write)), (write, *fds))
    finally:
        os.close(write)
    with os.fdopen(read) as output:
        found = output.read()
    assert os.waitpid(pid, 0)[1] == 0
    return found


def test_it_inherits_what_it_is_given_and_no_other_descriptor() -> None:
    wanted, unwanted = os.pipe()
    statement = (
        "import os; os.write(OUT, repr([fd for fd in range(3, 99) if "
        f"os.path.exists(f'/proc/self/fd/{{fd}}')]).encode()) if os.fstat({wanted}) else None"
    )
    found = set(eval(run(statement, wanted)))
    assert wanted in found
    assert unwanted not in found
    assert not os.get_inheritable(wanted)
    os.close(wanted)
    os.close(unwanted)


def test_it_has_our_import_path_from_the_first_import_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "select.py").write_text("raise RuntimeError('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    found = run("import os, select, selectors; os.write(OUT, repr(sys.path).encode())")
    assert eval(found) == sys.path


def test_sigint_waits_until_it_says_what_it_means() -> None:
    statement = (
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); "
        "os.write(OUT, repr(signal.sigpending()).encode())"
    )
    assert "SIGINT" in run(statement)


def test_options_that_cannot_be_handed_over_are_an_error_that_names_them() -> None:
    spec = Spec(1, 0, 0, 0, 0, 0, {"log_config": {"filter": lambda record: True}}, [], [], [])
    with pytest.raises(ConfigError, match="log_config"):
        spawn(spec)


def test_a_spec_is_read_as_it_was_written() -> None:
    headers = ((b"x-name", bytes(range(0x80, 0x100))), (b"x-other", b""))
    config = Config("app:app", headers=headers, bind=("[::1]:1", "unix:/\udcff"), workers=3)
    options = dataclasses.asdict(config)
    spec = Spec(2, 3, 4, 5, 6, 7, options, [("::1", 80, 0, 0), "/ä"], ["/there"], ["asgiws"], True)
    found = from_json(to_json(spec))
    assert Config(**found.options) == config
    assert found._replace(options=options) == spec


def test_interpreter_flags_are_kept() -> None:
    found = run("import os; os.write(OUT, repr(list(sys.warnoptions)).encode())")
    assert eval(found) == sys.warnoptions


def test_the_default_action_of_sigterm_is_not_blocked() -> None:
    read, write = os.pipe()
    pid = start(f"import os, signal; os.write({write}, b'x'); signal.pause()", (write,))
    assert os.read(read, 1) == b"x"
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    os.close(read)
    os.close(write)


def test_no_directory_is_needed_that_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    fds = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]
    pid = spawn(Spec(1, 0, *fds, {}, [], [], []))  # a worker without options: it ends at once
    assert os.waitpid(pid, 0)[1] != 0
    for fd in fds:
        os.close(fd)
