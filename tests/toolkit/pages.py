"""A page of docs/ whose steps are typed as they stand, in a folder of a test's own.

A step is a block of code behind a line ``<!-- KIND: NAME -->``:

- ``file: NAME``: the whole content of a file;
- ``old: NAME`` and ``new: NAME``, one after the other: a place of the file, which is there
  once, and what comes in its place;
- ``add: NAME``: what is added to the end of the file;
- every other kind is for the test: commands, what they print, scripts.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .program import ROOT
from .served import Served

STEP = re.compile(r"^<!-- (\w+): ([^\n]*?) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """The steps of one page, from the first one on; ``folder`` is where its files are."""

    def __init__(self, name: str, folder: Path) -> None:
        text = (ROOT / "docs" / name).read_text("utf-8")
        self.folder = folder
        self._steps = STEP.findall(text)
        self._at = 0
        self._old = ""

    def go_to(self, kind: str, name: str) -> str:
        """Do all steps up to the next one of this kind and name; its content is returned."""
        while self._at < len(self._steps):
            kind_here, name_here, content = self._steps[self._at]
            self._at += 1
            self._do(kind_here, name_here, content)
            if (kind_here, name_here) == (kind, name):
                return str(content)
        raise AssertionError(f"the page has no {kind}: {name} behind here")

    def finish(self) -> None:
        """Do all steps that are left."""
        for step in self._steps[self._at :]:
            self._do(*step)
        self._at = len(self._steps)

    def _do(self, kind: str, name: str, content: str) -> None:
        path = self.folder / name
        if kind == "file":
            path.write_text(content, "utf-8")
        elif kind == "old":
            assert path.read_text("utf-8").count(content) == 1, f"{name} has no single {content}"
            self._old = content
        elif kind == "new":
            path.write_text(path.read_text("utf-8").replace(self._old, content), "utf-8")
        elif kind == "add":
            path.write_text(f"{path.read_text('utf-8')}\n\n{content}", "utf-8")

    def serve(self, name: str) -> Served:
        """Start the server with the next command of this name, on a free port."""
        words = shlex.split(self.go_to("serve", name))
        return Served(*words, "--port", "0", cwd=self.folder)

    def type(self, name: str, port: int = 8000) -> tuple[str, str]:
        """Run the next command of this name in a shell.

        Returns what it prints, and what the page says that it prints.
        """
        command = self.go_to("typed", name).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        programs = self.folder.parent / "programs"
        programs.mkdir(exist_ok=True)
        python = programs / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', "utf-8")
        python.chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        found = subprocess.run(
            [shutil.which("bash") or "bash", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        printed = self.go_to("printed", name) if self._next_is("printed", name) else ""
        return found.stdout, printed.strip()

    def _next_is(self, kind: str, name: str) -> bool:
        return self._at < len(self._steps) and self._steps[self._at][:2] == (kind, name)
