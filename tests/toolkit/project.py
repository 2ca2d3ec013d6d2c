"""A user's project: the files of the directory in which the server is started."""

from __future__ import annotations

from pathlib import Path


def write_pyproject(text: str) -> None:
    """The table of the server, in the current directory."""
    Path("pyproject.toml").write_text(f"[tool.asgiws]\n{text}\n")
