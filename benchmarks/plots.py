"""The charts of a run, as SVG: a few bars with their names and figures beside them.

The background is transparent and the colours follow the reader's theme, so that one file
serves a light page and a dark one.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

WIDTH = 520  # a phone shows it at three quarters, and it can still be read
NAMES = 84  # what the names of the servers take
FIGURES = 52  # what the longest bar leaves for its figure
BAR = 15
LINE = 18
GROUP = 30  # a title, and the room above it

OURS, BASE = "asgiws", "uvicorn"
PEERS = ("granian", "hypercorn", "gunicorn", "daphne", "socketify")
#: The rows of the one chart of the README, and what they are called there.
SUMMARY = {
    "echo 125 B, 64 connections": "echo of 125 bytes",
    "echo 16 KiB, binary, 64 connections": "echo of 16 KiB",
    "push: the server streams 125 B": "a stream to the client",
    "broadcast of 125 B to 500 connections": "broadcast to 500 clients",
    "handshake: upgrade, one echo, close": "connect, one echo, close",
    "HTTP hello, 64 connections kept alive": "HTTP request",
}
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .asgiws { fill: #c1272d }
  .uvicorn { fill: #5f87b0 }
  .peer { fill: #9aa3ad }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #a5afba }
    .asgiws { fill: #ea5a60 }
    .peer { fill: #7d8590 }
  }
"""

Rows = list[dict[str, Any]]


def draw(data: dict[str, dict[str, Any]], target: Path) -> None:
    """Write ``{name}.svg`` for each chart; rows are ``{"title", "server", "value"}``.

    ``note`` says what the figures are, ``better`` is ``"high"`` or ``"low"``.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, chart in data.items():
        svg = bars(few(chart["rows"], chart["better"]), chart["note"])
        (target / f"{name}.svg").write_text(svg, "utf-8")


def summary(rows: Rows) -> Rows:
    """The rows of the README's chart, under shorter titles."""
    found = [row | {"title": SUMMARY[row["title"]]} for row in rows if row["title"] in SUMMARY]
    return sorted(found, key=lambda row: list(SUMMARY.values()).index(row["title"]))


def few(rows: Rows, better: str) -> Rows:
    """Of each scenario asgiws, uvicorn, and the best of the other servers."""
    kept = []
    for title in dict.fromkeys(row["title"] for row in rows):
        group = {row["server"]: row for row in rows if row["title"] == title}
        peers = [group[name] for name in PEERS if name in group]
        best = max if better == "high" else min
        kept += [group[name] for name in (OURS, BASE) if name in group]
        kept += [best(peers, key=lambda row: row["value"])] if peers else []
    return kept


def bars(rows: Rows, note: str) -> str:
    """One group of bars below each title, all to one scale from zero."""
    scale = (WIDTH - NAMES - FIGURES) / max(row["value"] for row in rows)
    y, title, parts = 20, "", [_text(0, 14, note, "note")]
    for row in rows:
        if row["title"] != title:
            title = row["title"]
            parts.append(_text(0, y + GROUP - 8, title, "title"))
            y += GROUP
        length = max(row["value"] * scale, 1)
        kind = row["server"] if row["server"] in (OURS, BASE) else "peer"
        parts.append(_text(NAMES - 8, y + 12, row["server"], anchor="end"))
        parts.append(
            f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        parts.append(_text(NAMES + length + 6, y + 12, _figure(row["value"])))
        y += LINE
    height = y + 6
    label = escape(f"{note}: " + ", ".join(dict.fromkeys(row["title"] for row in rows)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "") -> str:
    extra = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.0f}" y="{y:.0f}"{extra}>{escape(words)}</text>'
