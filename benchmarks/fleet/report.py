"""From the results of ``python -m benchmarks.fleet`` to docs/benchmarks-fleet.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from ..parts import commits, table, versions
from .servers import ASGIWS

Row = dict[str, Any]


def page(found: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    machine = found["machine"]
    told = versions(found, ("uvicorn", "gunicorn", "granian", "hypercorn"))
    parts = [
        "# Benchmarks of several workers\n",
        "<!-- written by python -m benchmarks.fleet --publish -->\n",
        f"Measured {found['date']} with [`python -m benchmarks.fleet`](../benchmarks/README.md):"
        f" {machine.get('processor', 'unknown processor')}, {machine['cores']} cores for servers"
        f" and clients together{', a virtual machine' if 'virtual' in machine else ''},"
        f" {machine['kernel']}, Python {machine['python']}, {told}. Others used"
        " the machine as well, so the ratios mean something and the absolute figures little. A"
        " ratio compares one round; the median over the rounds is shown."
        f"{commits(found)}\n",
    ]
    if "speed" in found:
        parts += [
            "## Speed\n",
            "The table has the server's CPU time per unit, in all its processes, and the units"
            " per second. A handshake is an upgrade, one echo and the close; an echo is one"
            " message of 125 B on one of 64 connections. The ratio is uvicorn's time divided by"
            " the server's: higher is better. An uneven [spread](#spread) saves time here,"
            " because a few workers then do much at once.\n",
            _speed(found["speed"], "uvicorn"),
        ]
    if "spread" in found:
        parts += [
            "## Spread\n",
            "The table shows how many of 1,000 WebSockets each of 4 workers has. In the last"
            " column they were opened one by one, the busiest worker was killed, and when another"
            " answered in its place as many were opened as had been lost.\n",
            _spread(found["spread"]),
        ]
    if "restart" in found:
        parts += [
            "## A rolling restart\n",
            "There are 4 workers, and 2,000 WebSockets that come back when they are closed. All"
            " the time two clients send requests on one connection, two open a connection for"
            " each request, and two open WebSockets. Then the server gets its signal for a"
            " restart (SIGHUP). A request or a handshake is lost if it was refused, reset, cut or"
            " not answered as it should be. A request on a connection that the server closed at"
            " that moment counts, too. asgiws has `--drain-window 10`.\n",
            _restart(found["restart"]),
        ]
    if "ways" in found:
        parts += [
            "## The supervisor accepts\n",
            "The table shows the cost of a supervisor that accepts connections and hands them"
            " over. The same workers run behind the supervisor, and without one, with a socket"
            " shared by all or one for each (SO_REUSEPORT). The ratio is their CPU time divided"
            " by that behind the supervisor: 0.90 means that handing over costs a tenth."
            " [performance.md](performance.md#several-workers) explains the reasons and the parts"
            " of this cost.\n",
            _speed(found["ways"], ASGIWS.name),
        ]
    return "\n".join(parts)


def _speed(rows: list[Row], base: str) -> str:
    """A line for each server, with CPU time and ratio for each kind and number of workers."""
    kinds = list(dict.fromkeys((row["kind"], row["workers"]) for row in rows))
    of = {(row["server"], row["kind"], row["workers"], row["round"]): row for row in rows}
    lines = []
    for server in dict.fromkeys(row["server"] for row in rows):
        line = [server]
        for kind, workers in kinds:
            mine = [
                row
                for row in rows
                if (row["server"], row["kind"], row["workers"]) == (server, kind, workers)
                and "cpu_us" in row
            ]
            if not mine:
                line.append("refused")
                continue
            ratios = []
            for row in mine:
                other = of.get((base, kind, workers, row["round"]), {}).get("cpu_us")
                if other:
                    # Peers are compared with uvicorn, the ways to accept with the supervisor.
                    ratios.append(
                        row["cpu_us"] / other if base == ASGIWS.name else other / row["cpu_us"]
                    )
            ratio = f" ({median(ratios):.2f})" if ratios else ""
            cost = median(row["cpu_us"] for row in mine)
            rate = median(row["per_second"] for row in mine)
            line.append(f"{cost:.0f} µs{ratio}, {rate:,.0f}/s")
        lines.append(line)
    return table(["", *(f"{kind}, {workers} workers" for kind, workers in kinds)], lines)


def _spread(rows: list[Row]) -> str:
    ways = ["one by one", "64 at a time", "all at once", "after a kill"]
    lines = []
    for row in rows:
        line = [row["server"]]
        for way in ways:
            counts = row.get(way, row.get("refused", ""))
            line.append(
                counts if isinstance(counts, str) else " / ".join(str(count) for count in counts)
            )
        lines.append(line)
    return table(["", *ways], lines)


def _restart(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        if "refused" in row:
            lines.append([row["server"], row["refused"], *[""] * 6])
            continue
        lost = [sum(row[kind].values()) for kind in ("requests lost", "handshakes lost")]
        closings = ", ".join(
            f"{count:,} with {code}" for code, count in sorted(row["codes"].items())
        )
        lines.append(
            [
                row["server"],
                f"{row['seconds']:.0f} s" if row["over"] else "not over",
                f"{lost[0]:,} of {row['requests'] + lost[0]:,}",
                f"{lost[1]:,} of {row['handshakes'] + lost[1]:,}",
                f"{row['slowest']:.2f} s",
                closings or "none",
                f"{row['fullest second']:,}",
                f"{row['mean second']:.0f}",
            ]
        )
    head = ["", "took", "requests lost", "handshakes lost", "slowest answer", "closings"]
    return table([*head, "in the fullest second", "in the mean second"], lines)
