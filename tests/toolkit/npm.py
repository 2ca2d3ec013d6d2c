"""Packages of npm's, in a directory of the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def npm_install(directory: Path, *packages: str) -> None:
    """Put ``packages`` into ``directory/node_modules``; without npm the test fails."""
    npm = shutil.which("npm")
    assert npm, "npm is not installed, and this test needs it: apt-get install npm"
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(directory), *packages]
    subprocess.run(command, check=True, timeout=120, cwd=directory)
