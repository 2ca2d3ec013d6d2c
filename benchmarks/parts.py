"""Benchmarks that are measured part by part, each of which stays until it is measured anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from . import environment

Found = dict[str, Any]


def measured(result: Path, names: str, measure: Callable[[str, Any], Any]) -> Found:
    """All parts: those of ``names``, with commas between, measured now, the others from ``result``.

    ``measure`` gets the name of a part and what was found for it before, None if nothing was.
    """
    found: Found = json.loads(result.read_text()) if result.exists() else {}
    if names:
        found |= {"date": date.today().isoformat(), "machine": environment.machine()}
        found["versions"] = environment.versions()
    result.parent.mkdir(parents=True, exist_ok=True)
    for name in names.split(",") if names else ():
        found[name] = measure(name, found.get(name))
        found.setdefault("commits", {})[name] = found["machine"]["commit"]
        result.write_text(json.dumps(found, indent=1) + "\n")
    return found


def versions(found: Found, names: Sequence[str]) -> str:
    """Those that were measured, as text."""
    return ", ".join(
        f"{name} {found['versions'][name]}" for name in names if name in found["versions"]
    )


def commits(found: Found) -> str:
    """Which asgiws was measured in each part, as a sentence."""
    parts: dict[str, list[str]] = {}
    for part, commit in found.get("commits", {}).items():
        parts.setdefault(commit, []).append(part)
    told = "; ".join(f"{commit} ({', '.join(names)})" for commit, names in parts.items())
    return f" Commits of asgiws: {told}." if told else ""


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown; all columns but the first hold numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
