"""From samples to tables: medians of the rounds, ratios within a round, and the pages.

The ratio of a scenario is uvicorn's CPU time per unit divided by the server's, taken
within one round and one placement of the cores, then the median over the rounds:
2.0 means half the CPU time. Absolute figures of one scenario all stem from one
placement, the one seen most often.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .measure import Sample
from .scenarios import SCENARIOS, Scenario
from .servers import BASE, SERVERS

OURS = "asgiws"
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"
README_ROWS = (
    ("echo-16-64", "raw"),
    ("echo-125-64", "raw"),
    ("echo-125-64", "starlette"),
    ("pipelined-16", "raw"),
    ("echo-16k-64", "raw"),
    ("echo-1m-16", "raw"),
    ("deflate-1k", "raw"),
    ("push", "raw"),
    ("flood", "raw"),
    ("broadcast-500", "raw"),
    ("handshake", "raw"),
    ("idle-5000", "raw"),
    ("hello", "raw"),
)

# Why asgiws needs more than another server, for the tables' readers. A reason is
# printed only where the run shows the loss.
REASONS = (
    (
        ("hello", "json", "connections", "post-1k", "post-10k", "download"),
        "The code around the parser is Python compiled to C, where others are C or Rust "
        "throughout. Without httptools the heads of requests are read in Python.",
    ),
    (
        ("file-1m", "file-64k"),
        "Starlette's FileResponse reads a file in threads, unless the server announces "
        "http.response.pathsend. granian does so always, asgiws with --pathsend.",
    ),
    (
        ("handshake",),
        "A handshake is one HTTP request and starts a task.",
    ),
    (
        ("idle",),
        "A connection keeps a task, its coroutine frames and the protocol's objects, and all of "
        "these are Python objects here. Servers written in C++ or Rust keep only the "
        "application's.",
    ),
)

README_SERVERS = (OURS, BASE, "hypercorn", "granian", "gunicorn", "daphne", "socketify")

Key = tuple[str, str]  # scenario, application


@dataclass
class Cell:
    """One server in one scenario: medians over the rounds, with their spread."""

    samples: list[Sample]
    refused: list[str]
    ratios: list[float] = field(default_factory=list)
    across: bool = False  # the ratio is one of medians, for want of a round with both

    def median(self, name: str) -> float:
        return float(statistics.median(getattr(sample, name) for sample in self.samples))

    def spread(self, name: str) -> tuple[float, float]:
        values = [getattr(sample, name) for sample in self.samples]
        return min(values), max(values)

    @property
    def kernel(self) -> float | None:
        """The share of the CPU time that was spent in the kernel, in the samples that tell it."""
        known = [sample.kernel for sample in self.samples if sample.kernel is not None]
        return statistics.median(known) if known else None

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None


def cost_name(scenario: str) -> str:
    """Which figure of a sample the scenario is about."""
    return "memory_kib" if SCENARIOS[scenario].mode == "idle" else "cpu_us"


def summarise(samples: Iterable[Sample], figure: str = "") -> dict[Key, dict[str, Cell]]:
    """Sort the samples into cells, like with like; the ratios are those of ``figure``.

    Without one they are those of what each scenario is about.
    """
    groups: dict[Key, list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.scenario, sample.app), []).append(sample)
    table: dict[Key, dict[str, Cell]] = {}
    for key, group in groups.items():
        good = [sample for sample in group if not sample.refused]
        cost = figure or cost_name(key[0])
        base = {(s.round, s.placement): getattr(s, cost) for s in good if s.server == BASE}
        seen = Counter(sample.placement for sample in good)
        usual = seen.most_common(1)[0][0] if seen else ""
        cells = table.setdefault(key, {})
        for name in dict.fromkeys(sample.server for sample in group):
            own = [sample for sample in good if sample.server == name]
            chosen = [sample for sample in own if sample.placement == usual] or own
            refused = [s.refused for s in group if s.server == name and s.refused]
            cells[name] = Cell(chosen, refused, _ratios(own, base, cost, usual))
        _compare_across(cells, cost)
    return table


def _ratios(
    own: list[Sample], base: dict[tuple[int, str], float], cost: str, usual: str
) -> list[float]:
    """One ratio for each round in which the base was seen in the same placement."""
    ratios = {}
    for sample in sorted(own, key=lambda sample: sample.placement == usual):
        value = getattr(sample, cost)
        other = base.get((sample.round, sample.placement))
        if other and value > 0:
            ratios[sample.round] = other / value
    return list(ratios.values())


def _compare_across(cells: dict[str, Cell], cost: str) -> None:
    """Where no round saw a server and the base in one placement, compare their medians."""
    base = cells.get(BASE)
    for cell in cells.values():
        if cell.ratios or not cell.samples or not base or not base.samples:
            continue
        own, other = cell.median(cost), base.median(cost)
        if cell.samples[0].placement == base.samples[0].placement and own > 0 and other > 0:
            cell.ratios = [other / own]
            cell.across = True


def merge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one, in which those of the later are further rounds.

    Raises ValueError unless all were made on one machine, of one commit and of the same versions.
    """
    merged = runs[0] | {"commands": [], "samples": [], "counts": [], "servers": {}}
    dates = list(dict.fromkeys(run["date"] for run in runs))
    merged |= {"date": ", ".join(dates), "rounds": " + ".join(str(run["rounds"]) for run in runs)}
    if len(runs) > 1:
        merged["name"] = f"{runs[-1]['name']}-merged"
    rounds = 0
    for run in runs:
        for kind in ("machine", "versions"):
            for name in merged[kind] | run[kind]:
                own, other = merged[kind].get(name), run[kind].get(name)
                if own != other:
                    raise ValueError(f"these runs differ in {name}: {own} and {other}")
        merged["commands"] += run.get("commands") or [run["command"]]
        merged["samples"] += [s | {"round": rounds + s["round"]} for s in run["samples"]]
        merged["counts"] += run.get("counts", [])
        merged["shared"] |= run["shared"]
        merged["micro"] = run.get("micro") or merged.get("micro")
        for name, entry in run["servers"].items():
            merged["servers"][name] = merged["servers"].get(name, {}) | entry
        rounds = 1 + max((s["round"] for s in merged["samples"]), default=-1)
    return merged


# ---- formatting ----


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [_row(head), _row(["---"] + ["---:"] * (len(head) - 1))]
    return "\n".join(lines + [_row(row) for row in rows])


def folded(summary: str, text: str) -> str:
    """A long text of which the page shows one line until somebody opens it."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def title(key: Key) -> str:
    scenario, app = key
    framework = {"raw": "", "starlette": ", Starlette", "fastapi": ", FastAPI"}[app]
    return SCENARIOS[scenario].title + framework


def _names(table: dict[Key, dict[str, Cell]], wanted: Callable[[str], bool]) -> list[str]:
    present = {name for cells in table.values() for name in cells}
    return [name for name in SERVERS if name in present and wanted(name)]


def _ratio_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.ratio is None:
        return "refused" if not cell.samples else "n/a"
    return f"{'~' if cell.across else ''}{cell.ratio:.2f}"


def ratio_table(table: dict[Key, dict[str, Cell]], keys: Iterable[Key], names: list[str]) -> str:
    rows = []
    for key in keys:
        if key in table:
            cells = table[key]
            rows.append([title(key), *(_ratio_text(cells.get(name)) for name in names)])
    return _table(["scenario", *names], rows)


def value_table(
    table: dict[Key, dict[str, Cell]], keys: list[Key], names: list[str], fields: tuple[str, ...]
) -> str:
    """Medians instead of ratios; several fields share a cell."""
    rows = []
    for key in keys:
        cells = [table[key].get(name) for name in names]
        texts = [
            " / ".join(number(cell.median(field)) for field in fields)
            if cell and cell.samples
            else ("refused" if cell else "")
            for cell in cells
        ]
        rows.append([title(key), *texts])
    return _table(["scenario", *names], rows)


def detail(key: Key, cells: dict[str, Cell]) -> str:
    """The table of one scenario: every figure, and how busy both sides were."""
    scenario = SCENARIOS[key[0]]
    lines = [f"`load {scenario.load}`, application `{key[1]}`", ""]
    if scenario.mode == "idle":
        head = ["server", "KiB per connection", "spread", "ratio"]
    else:
        unit = scenario.unit
        head = ["server", f"CPU µs per {unit}", "spread", "ratio", f"{unit}s/s", "p50 µs", "p99 µs"]
        head += ["max µs", "server busy", "client busy", "in the kernel", "cores"]
        head += ["bytes in", "bytes out"] if scenario.deflate else []
    rows = []
    for name in SERVERS:
        if name in cells:
            rows.append(_detail_row(name, cells[name], scenario, len(head)))
    lines.append(_table(head, rows))
    notes = []
    for name, cell in cells.items():
        if cell.samples and cell.samples[0].extensions:
            notes.append(f"{name} agreed to `{cell.samples[0].extensions}`.")
        for reason, times in Counter(cell.refused).items():
            notes.append(f"{name}: {times} refused, {reason.strip()[:200]}.")
    if notes:
        lines += [""] + [f"- {note}" for note in notes]
    return folded(title(key), "\n".join(lines))


def _detail_row(name: str, cell: Cell, scenario: Scenario, width: int) -> list[str]:
    if not cell.samples:
        return [name, "refused"] + [""] * (width - 2)
    cost = cost_name(scenario.name)
    low, high = cell.spread(cost)
    row = [name, number(cell.median(cost)), f"{number(low)} to {number(high)}", _ratio_text(cell)]
    if scenario.mode == "idle":
        return row
    row.append(number(cell.median("per_second")))
    row += [number(cell.median(field)) if cell.median("max") else "" for field in ("p50", "p99")]
    row.append(number(max(s.max for s in cell.samples)) if cell.median("max") else "")
    row += [f"{cell.median(field):.0%}" for field in ("server_busy", "client_busy")]
    row.append("" if cell.kernel is None else f"{cell.kernel:.0%}")
    row.append(cell.samples[0].placement)
    if scenario.deflate:
        row += [number(cell.median(field)) for field in ("wire_in", "wire_out")]
    return row


def losses(table: dict[Key, dict[str, Cell]]) -> str:
    """The scenarios in which another server needs less than asgiws (2 % count as noise)."""
    groups: dict[str, list[str]] = {}
    for key, cells in table.items():
        ours = cells.get(OURS)
        if ours is None or ours.ratio is None:
            continue
        better = [
            f"{name} {cell.ratio / ours.ratio:.2f}x"
            for name, cell in cells.items()
            if cell.ratio is not None and cell.ratio > ours.ratio * 1.02
            and not name.startswith(OURS) and not SERVERS[name].floor
        ]  # fmt: skip
        if better:
            reason = next(
                (text for names, text in REASONS if key[0].startswith(names)),
                "The cause is not known.",
            )
            groups.setdefault(reason, []).append(f"- {title(key)}: {', '.join(better)}")
    if not groups:
        return "In no scenario of this run did another ASGI server need less than asgiws."
    parts = []
    for reason, lines in groups.items():
        parts += ["\n".join(lines), "", reason, ""]
    return "\n".join(parts).strip()


def counts_table(counts: list[dict[str, Any]], name: str) -> str:
    """System calls or instructions per unit."""
    scenarios = list(dict.fromkeys(row["scenario"] for row in counts if name in row))
    servers = [s for s in SERVERS if any(row["server"] == s and name in row for row in counts)]
    values = {(row["scenario"], row["server"]): row[name] for row in counts if name in row}
    rows = [
        [
            SCENARIOS[scenario].title,
            *(
                number(values[scenario, server]) if (scenario, server) in values else ""
                for server in servers
            ),
        ]
        for scenario in scenarios
    ]
    return _table(["scenario", *servers], rows) if rows else ""


def micro_tables(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Nanoseconds per frame of each codec, reading and building."""
    parts = []
    for what, heading in (
        ("read", "Reading: feed, parse, unmask, take the message out (ns per frame)"),
        ("build", "Building an unmasked frame (ns per frame)"),
    ):
        names = [name for name in results if results[name][what]]
        sizes = list(dict.fromkeys(size for name in names for size in results[name][what]))
        rows = [
            [f"{size} B", *(number(results[name][what][size]) for name in names)] for size in sizes
        ]
        parts += [f"### {heading}", _table(["payload", *names], rows)]
    return "\n\n".join(parts)


# ---- pages ----

INTRODUCTION = """\
# Benchmarks

The figures compare the CPU time that a server takes for a unit of work with uvicorn's: **2.00
means half of uvicorn's CPU time, below 1.00 means more.** They are from {date}, {place}.
Your machine will give others: run the command ([how it is measured](../benchmarks/README.md)).
"""
RULES = """\
The CPU time is that of the server's whole process tree, because noise disturbs it least. A
ratio compares two servers within the same round. With ~ it is between medians, because no
round had both with the cores in the same place. Every answer was checked for length and
content. A sample is refused when the server's core was not saturated, or the client's was,
in a scenario that is about throughput.

robyn is not in the tables, because it does not serve ASGI applications. With handlers of its own
it had a ratio of 0.54 in HTTP hello, 0.64 in a POST of 1 KiB and 0.34 in an echo of 125 B (robyn
0.88.0, medians of five rounds on 2026-11-28, on cores that other processes used as well).
"""
SHARED = """\
**Other processes used the machine during this run. Of its figures only the CPU time means
anything. Throughput and latency do not.**
"""
MEMORY = """\
The figures are what the proportional set size of the process tree grows by, for each
connection that has echoed one message of 1 KiB and waits. The kernel's socket buffers are
not in them.
"""
WITHOUT_KERNEL = """\
These are the same ratios, of the CPU time in user mode only. This is the time of the servers'
own code. Most of the kernel's part (reading, writing, the loopback network) cannot be avoided
by any server. A server still costs the whole CPU time, above. The TCP floors are left out,
because they do next to nothing in user mode.
"""


def _facts(data: dict[str, Any]) -> str:
    facts = {"date": data["date"], "rounds": str(data["rounds"])} | data["machine"]
    facts["versions"] = ", ".join(f"{k} {v}" for k, v in data["versions"].items())
    return "\n".join(_row(item) for item in facts.items())


def page(data: dict[str, Any], charts: list[tuple[str, str]]) -> str:
    """The whole results page; ``charts`` are (path, what it shows), the summary first.

    A reader sees the summary, and opens what else there is.
    """
    samples = [Sample(**sample) for sample in data["samples"]]
    table = summarise(samples)
    variants = {name for name, server in SERVERS.items() if server.only}
    main = _names(table, lambda name: name not in variants)
    side = _names(table, lambda name: name in variants)
    memory = [key for key in table if SCENARIOS[key[0]].mode == "idle"]
    growth = [key for key in table if SCENARIOS[key[0]].mode == "rate"]
    rest = [key for key in table if key not in memory and key not in growth]
    parts = [INTRODUCTION.format(date=data["date"], place=_place(data))]
    if data["shared"]:
        parts.append(SHARED)
    pictures = [f"![{text}]({path})" for path, text in charts]
    parts += pictures[:1]
    short = [key for key in README_ROWS if key in table]
    if short:
        parts.append(ratio_table(table, short, _names(table, README_SERVERS.__contains__)))
    if any(OURS in cells for cells in table.values()):
        parts += ["## Where asgiws is slower", losses(table)]
    if rest:
        parts += ["## CPU time per unit, as a ratio to uvicorn", *pictures[1:]]
        parts.append(folded("Every scenario and every server", ratio_table(table, rest, main)))
    told = [key for key in rest if any(cell.kernel is not None for cell in table[key].values())]
    if told:
        names = [name for name in main if not SERVERS[name].tcp]
        known = [sample for sample in samples if sample.kernel is not None or sample.refused]
        parts += ["## Without the kernel", WITHOUT_KERNEL]
        ratios = ratio_table(summarise(known, "user_us"), told, names)
        parts.append(folded("Every scenario and every server", ratios))
    with_side = [key for key in rest if any(name in table[key] for name in side)]
    if with_side:
        shown = [name for name in (OURS, BASE) if name in main] + side
        ratios = ratio_table(table, with_side, shown)
        parts += ["## Variants", folded("Other loops, parsers and libraries", ratios)]
    latency = [key for key in rest if not _about_throughput(key)]
    if latency:
        values = value_table(table, latency, main, ("p50", "p99", "p999"))
        parts += ["## Latency", folded("p50 / p99 / p99.9, µs", values)]
    if growth:
        parts += ["## Cost as connections grow"]
        costs = value_table(table, growth, main, ("cpu_us",))
        parts.append(folded("CPU µs per message", costs))
        values = value_table(table, growth, main, ("p50", "p99", "p999"))
        parts.append(folded("Latency of the same runs, p50 / p99 / p99.9, µs", values))
    if memory:
        parts += ["## Memory of idle connections", MEMORY]
        values = value_table(table, memory, main, ("memory_kib",))
        parts.append(folded("KiB per connection", values))
    for name, heading in (("system_calls", "System calls"), ("instructions", "Instructions")):
        text = counts_table(data.get("counts", []), name)
        if text:
            parts += [f"## {heading} per unit", folded("Every server", text)]
    if data.get("micro"):
        parts += ["## The codec alone", folded("Every codec", micro_tables(data["micro"]))]
    parts += ["## How it was measured", RULES]
    parts.append(folded("Commands, machine and versions", _provenance(data)))
    parts.append(folded("Command lines of the servers", _commands(data)))
    parts.append("## All figures")
    parts += [detail(key, cells) for key, cells in table.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _place(data: dict[str, Any]) -> str:
    """The machine and the versions of the measurement, in a few words."""
    names = (name for name in data["versions"] if name in README_SERVERS and name != OURS)
    versions = [f"{name} {data['versions'][name]}" for name in names]
    machine = data["machine"]
    return ", ".join(
        filter(None, [machine.get("processor"), f"Python {machine['python']}", *versions])
    )


def _provenance(data: dict[str, Any]) -> str:
    commands = "\n".join(f"- `{command}`" for command in dict.fromkeys(data["commands"]))
    return f"{commands}\n\n| | |\n|---|---|\n{_facts(data)}"


def _about_throughput(key: Key) -> bool:
    scenario = SCENARIOS[key[0]]
    return scenario.throughput and scenario.mode != "slow"


def _commands(data: dict[str, Any]) -> str:
    rows = [
        [name, f"`{entry[command]}`", note.format(entry["note"])]
        for command, note in (("command", "{}"), ("command_uds", "{}; over a Unix socket"))
        for name, entry in data["servers"].items()
        if command in entry
    ]
    return _table(["server", "command", ""], rows).replace("---:", "---")


def readme_table(data: dict[str, Any]) -> str:
    """The short table of the README."""
    table = summarise(Sample(**sample) for sample in data["samples"])
    present = _names(table, README_SERVERS.__contains__)
    versions = ", ".join(f"{n} {data['versions'].get(n, '')}" for n in present if n != OURS)
    return (
        f"CPU time per unit of work (for idle connections memory), uvicorn's divided by the "
        f"server's: **higher is better**. "
        f"{data['date']}, {data['machine'].get('processor', '')}, "
        f"Python {data['machine']['python']}, {versions}; one process on one core.\n\n"
        + ratio_table(table, README_ROWS, present)
    )


def insert(path: Path, text: str, start: str = START, end: str = END) -> bool:
    """Put ``text`` between the markers of a file; false if it has none."""
    if not path.exists():
        return False
    old = path.read_text()
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(old):
        return False
    new = pattern.sub(lambda match: f"{start}\n{text}\n{end}", old)
    path.write_text(new)
    return True


def terminal(table: dict[Key, dict[str, Cell]]) -> str:
    """The text that is shown at the end of a run."""
    lines = []
    for key, cells in table.items():
        unit = "KiB" if SCENARIOS[key[0]].mode == "idle" else "µs"
        lines.append(title(key))
        for name, cell in cells.items():
            if not cell.samples:
                lines.append(f"  {name:16} refused: {'; '.join(cell.refused)[:150]}")
                continue
            cost = cost_name(key[0])
            low, high = cell.spread(cost)
            ratio = f"{cell.ratio:5.2f}x" if cell.ratio else "      "
            line = f"  {name:16} {ratio} {cell.median(cost):9.2f} {unit} ({low:.2f} to {high:.2f})"
            if unit == "µs":
                line += f" {cell.median('per_second'):11,.0f}/s  p99 {cell.median('p99'):9,.0f} µs"
                line += f"  {cell.samples[0].placement}"
            lines.append(line)
    return "\n".join(lines)
