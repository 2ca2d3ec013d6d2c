"""The fuzzing client: Autobahn|Testsuite 0.8.2, which is Python 2, in a virtualenv of its own.

The versions are the newest with which the suite still runs; nothing here follows
upstream, because nothing upstream moves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

WORK = Path(__file__).parent / ".work"

# The last virtualenv that makes environments for Python 2.7. It runs on Python 3.
VIRTUALENV = "virtualenv==20.21.1"

# One installation each, in this order: setup.py files import what comes before.
REQUIREMENTS = (
    ("setuptools==44.0.0", "wheel==0.36.2"),
    ("incremental==16.10.1",),
    (
        "txaio==2.1.0",
        "Twisted==19.10.0",
        "zope.interface==4.6.0",
        "pyOpenSSL==19.1.0",
        "cryptography==3.3.2",
        "service_identity==18.1.0",
        "jinja2==2.11.3",
        "markupsafe==1.1.1",
        "Werkzeug==1.0.1",
        "klein==17.10.0",
        "unittest2==1.1.0",
        "six==1.16.0",
        "wsaccel==0.6.6",
        "ujson==2.0.3",
        "autobahn[twisted,accelerate]==0.10.9",
    ),
    ("autobahntestsuite==0.8.2",),
)

LIST_CASES = """
import json
from autobahntestsuite.case import Cases, CaseCategories
names = [case.__name__[len("Case"):].replace("_", ".") for case in Cases]
print(json.dumps([names, CaseCategories]))
"""

IS_PYTHON_27 = "import ssl, sys, zlib; sys.exit(sys.version_info[:2] != (2, 7))"


class Unavailable(Exception):
    """The suite cannot run on this machine; the message says what is missing."""


def _candidates() -> Iterator[str]:
    """Where a Python 2.7 may be: on PATH, where pyenv keeps it, where Debian installs it."""
    for name in ("python2.7", "python2"):
        if found := shutil.which(name):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True))
    yield "/usr/bin/python2.7"
    yield "/usr/local/bin/python2.7"


def find_python27() -> str:
    """A Python 2.7 that runs and has ssl and zlib. pyenv's shims may exist and still not run."""
    for candidate in _candidates():
        try:
            probe = subprocess.run(
                [candidate, "-c", IS_PYTHON_27], capture_output=True, timeout=60, check=False
            )
        except OSError:
            continue
        if probe.returncode == 0:
            return candidate
    raise Unavailable(
        "No Python 2.7 was found on PATH, among pyenv's versions or in /usr/bin, and "
        "Autobahn|Testsuite runs on nothing else. Install one with 'pyenv install 2.7.18', or "
        "as python2.7 and python2.7-dev from Debian 11; Debian 12 and later have none."
    )


class Suite:
    """The installed fuzzing client. Making one installs it, once."""

    def __init__(self) -> None:
        self._environment = WORK / "python27"
        self._ready = self._environment / "ready.json"
        pins = [list(step) for step in REQUIREMENTS]
        if not self._ready.exists() or json.loads(self._ready.read_text()) != pins:
            self._install()
            self._ready.write_text(json.dumps(pins))
        listing = subprocess.run(
            [self.python, "-W", "ignore", "-c", LIST_CASES],
            capture_output=True,
            timeout=60,
            check=True,
        )
        self.cases: list[str]
        self.sections: dict[str, str]
        self.cases, self.sections = json.loads(listing.stdout)

    @property
    def python(self) -> str:
        return str(self._environment / "bin" / "python")

    @property
    def wstest(self) -> list[str]:
        """The command of the fuzzing client. The script of that name fails if its path is long."""
        program = "from autobahntestsuite.wstest import run; run()"
        return [self.python, "-u", "-W", "ignore", "-c", program]

    def _install(self) -> None:
        python27 = find_python27()
        print(f"Installing Autobahn|Testsuite for {python27} into {WORK}", flush=True)
        shutil.rmtree(self._environment, ignore_errors=True)
        maker = WORK / "virtualenv"
        venv.create(maker, clear=True, with_pip=True)
        pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        _run(str(maker / "bin" / "python"), *pip, VIRTUALENV)
        # What virtualenv carries for 2.7 need not be downloaded.
        _run(
            *(str(maker / "bin" / "virtualenv"), "--quiet", "--no-download"),
            *("--python", python27, str(self._environment)),
        )
        for step in REQUIREMENTS:
            _run(self.python, "-W", "ignore", *pip, *step)


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
        raise Unavailable(f"{' '.join(command)}: exit code {done.returncode}")
