"""The plots of a run, as SVG: ``plots.py RESULTS.json DIRECTORY`` (needs matplotlib).

Run by the Python of the benchmarks' own environment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {
    "asgiws": "#c1272d",
    "asgiws-pure": "#e8a0a3",
    "uvicorn": "#1f4e79",
    "uvicorn-wsproto": "#7aa6d1",
    "hypercorn": "#6b8e23",
    "granian": "#d98200",
    "gunicorn": "#2e8b57",
    "daphne": "#8b6fa8",
    "socketify": "#20a0a0",
    "picows": "#888888",
    "uvloop-tcp": "#bbbbbb",
    "c-epoll": "#dddddd",
}
Rows = list[dict[str, Any]]


def ratios(rows: Rows, path: Path) -> None:
    """Bars of the ratio to uvicorn, to the left of 1 or to the right, grouped by scenario."""
    scenarios = list(dict.fromkeys(row["title"] for row in rows))
    servers = [name for name in COLOURS if any(row["server"] == name for row in rows)]
    height = 0.8 / len(servers)
    figure, axes = plt.subplots(figsize=(9, 0.5 + len(scenarios) * (0.25 + 0.11 * len(servers))))
    for index, server in enumerate(servers):
        values = {row["title"]: row["ratio"] for row in rows if row["server"] == server}
        places = [i + index * height for i, name in enumerate(scenarios) if name in values]
        lengths = [values[name] for name in scenarios if name in values]
        widths = [length - 1 for length in lengths]
        axes.barh(places, widths, height, left=1, label=server, color=COLOURS[server])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(scenarios))], scenarios)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time per unit: uvicorn's divided by the server's (to the right is better)")
    axes.legend(fontsize="small", loc="lower right")
    save(figure, path)


def curves(rows: Rows, path: Path, x: str, y: str) -> None:
    """One line for each server over the number of connections, both axes logarithmic."""
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for server, colour in COLOURS.items():
        points = sorted((row["x"], row["y"]) for row in rows if row["server"] == server)
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=server, color=colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    data = json.loads(Path(sys.argv[1]).read_text())
    target = Path(sys.argv[2])
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "asgiws", "font.size": 9}
    for name, plot in data.items():
        if plot["kind"] == "ratios":
            ratios(plot["rows"], target / f"{name}.svg")
        else:
            curves(plot["rows"], target / f"{name}.svg", plot["x"], plot["y"])


main()
