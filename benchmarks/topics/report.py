"""From the results of ``python -m benchmarks.topics`` to docs/benchmarks-topics.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from ..parts import commits, table, versions
from .ways import FLOOR, TOPICS, UVICORN

Row = dict[str, Any]
PEERS = ("uvicorn", "starlette", "broadcaster", "channels", "channels_redis", "redis")
PLACEMENTS = ("near", "far")


def page(found: dict[str, Any]) -> str:
    """The whole page, as Markdown."""
    machine = found["machine"]
    told = versions(found, PEERS)
    parts = [
        "# Benchmarks of topics\n",
        "<!-- written by python -m benchmarks.topics --publish -->\n",
        f"Measured {found['date']} with [`python -m benchmarks.topics`](../benchmarks/README.md):"
        f" {machine.get('processor', 'unknown processor')}, {machine['cores']} cores"
        f"{', a virtual machine' if 'virtual' in machine else ''}, {machine['kernel']}, Python"
        f" {machine['python']}, {told}. The ratios say more than the absolute"
        " figures, which are this machine's."
        f"{commits(found)}\n",
        "A delivery is one message that one client has got, whole and in its order; the load"
        " generator checks all of them. The figures are the CPU time of all processes of the server"
        " for each delivery. The ratio is that time divided by the time of `asgiws.topics` in the"
        " same round: 2.00 means that topics take half. The median over the rounds is shown.\n",
    ]
    for name, (title, text, show) in _PARTS.items():
        if name in found:
            parts += [f"## {title}\n", text + "\n", show(found[name])]
    return "\n".join(parts)


def _all(row: Row) -> list[Row]:
    """The measured parts of a row."""
    return [row[placement] for placement in PLACEMENTS if placement in row]


def _of(rows: list[Row], way: str, *keys: str) -> float | None:
    """The median of a figure over the rounds of a way."""
    found = []
    for row in rows:
        if row["way"] == way:
            for figure in _all(row):
                for key in keys:
                    figure = figure[key]
                found.append(figure)
    return median(found) if found else None


def _ratio(rows: list[Row], way: str) -> float | None:
    """How much more a way costs than topics, like compared with like within each round."""
    ratios = []
    for row in rows:
        if row["way"] != way or "round" not in row:
            continue
        for other in rows:
            if other["way"] == TOPICS.name and other.get("round") == row["round"]:
                ratios += [
                    row[placement]["cpu_us"] / other[placement]["cpu_us"]
                    for placement in PLACEMENTS
                    if placement in row and placement in other
                ]
    return median(ratios) if ratios else None


def _told(value: float | None, form: str = "{:.2f}") -> str:
    return "not measured" if value is None else form.format(value)


def _ways(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["way"] for row in rows))


def _why(rows: list[Row], way: str) -> str:
    """Why a way has no figures."""
    reasons = [row["refused"] for row in rows if row["way"] == way and "refused" in row]
    return f"refused: {reasons[0]}" if reasons else "not measured"


def _costs(rows: list[Row]) -> str:
    """A line for each way, two columns for each kind of load."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = []
    for way in _ways(rows):
        line = [way]
        for kind in kinds:
            mine = [row for row in rows if row["kind"] == kind]
            cost = _of(mine, way, "cpu_us")
            if cost is None:
                line += [_why(mine, way), ""]
            else:
                line += [f"{cost:.2f} µs", _told(_ratio(mine, way))]
        lines.append(line)
    return table(["", *(word for kind in kinds for word in (kind, "ratio"))], lines)


def _worker(rows: list[Row]) -> str:
    """The costs, and how far any server could be ahead of uvicorn."""
    bounds = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        peer, floor = _ratio(mine, UVICORN.name), _ratio(mine, FLOOR.name)
        if peer is not None and floor is not None:
            bounds.append(f"{peer / floor:.2f} ({kind})")
    if not bounds:
        return _costs(rows)
    return _costs(rows) + (
        "\nThe last two lines bound what is possible. A server that does nothing but these system"
        f" calls would be cheaper than uvicorn and Starlette by a factor of {'; '.join(bounds)}."
        " With one message at a time, each delivery is one system call, and no server can be three"
        " times cheaper where that factor is below 3.\n"
    )


def _deflate(rows: list[Row]) -> str:
    lines = [
        [
            way,
            _told(_of(rows, way, "cpu_us"), "{:.2f} µs"),
            _told(_ratio(rows, way)),
            _told(_of(rows, way, "bytes"), "{:.0f}"),
        ]
        for way in _ways(rows)
    ]
    return table(["", "1 KiB to 500", "ratio", "bytes on the wire"], lines)


def _burst(rows: list[Row]) -> str:
    lines = []
    for way in _ways(rows):
        counts = next((row["counts"] for row in rows if row["way"] == way and "counts" in row), {})
        calls = counts.get("system_calls")
        lines.append(
            [
                way,
                _told(_of(rows, way, "cpu_us"), "{:.2f} µs"),
                _told(_ratio(rows, way)),
                _told(None if calls is None else calls * 64),
            ]
        )
    return table(["", "64 messages to 500", "ratio", "system calls per subscriber"], lines)


def _workers(rows: list[Row]) -> str:
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        for workers in dict.fromkeys(row["workers"] for row in rows):
            mine = [row for row in rows if (row["kind"], row["workers"]) == (kind, workers)]
            refused = [row["refused"] for row in mine if "refused" in row]
            lines.append(
                [
                    f"{kind}, {workers} worker{'s' if workers > 1 else ''}",
                    _told(_of(mine, TOPICS.name, "cpu_us"), "{:.2f} µs"),
                    _told(_of(mine, TOPICS.name, "per_second"), "{:,.0f}"),
                    *(
                        _told(_of(mine, TOPICS.name, "last", key), "{:,.0f} µs")
                        for key in ("p50", "p99", "max")
                    ),
                    f"{len(refused)} runs: {refused[0]}" if refused else "none",
                ]
            )
    head = ["", "CPU time", "deliveries/s", "p50 to the last delivery", "p99", "max", "lost"]
    return table(head, lines)


def _slow(rows: list[Row]) -> str:
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        line = [kind, _told(_of(mine, TOPICS.name, "cpu_us"), "{:.2f} µs")]
        for key in ("p50", "p99", "max"):
            line.append(_told(_of(mine, TOPICS.name, "latency", key), "{:,.0f} µs"))
        lines.append(line)
    return table(["", "CPU time", "p50 of a delivery", "p99", "max"], lines)


def _memory(rows: list[Row]) -> str:
    lines = [
        ["a subscription", f"{median(row['bytes'] for row in rows):.0f} B"],
        ["a WebSocket without any", f"{median(row['connection'] for row in rows):,.0f} B"],
    ]
    return table(["", "memory"], lines)


_PARTS = {
    "worker": (
        "One worker",
        "One of the clients sends 125 B, and all of them get it. `write alone` is a program in C"
        " that only does `epoll`, `read` and `write`: it shows what the kernel costs every"
        " server.",
        _worker,
    ),
    "deflate": (
        "With permessage-deflate",
        "The message is 1 KiB of JSON, and clients offer compression without context takeover"
        " (`server_no_context_takeover`). Topics compress a message once for all clients with the"
        " same window.",
        _deflate,
    ),
    "burst": (
        "64 messages in one iteration of the event loop",
        "A client sends 64 messages at once, and the next 64 when all clients have got these.",
        _burst,
    ),
    "redis": (
        "Beside what is used today",
        "There are 500 subscribers in one worker of asgiws, or of uvicorn where it is named."
        " `asgiws.topics` needs no other service; the others use a Redis on the same machine, whose"
        " CPU time counts, too. The applications are those of the libraries' own documentation."
        " That of broadcaster subscribes to two channels before the first client comes: without"
        " the first its listener ends at once (redis-py 8), and without the second clients that"
        " come first together lose messages. One message at a time, or eight at once, go to"
        " 500 subscribers.",
        _costs,
    ),
    "workers": (
        "Several workers",
        "There are 2,000 subscribers of one topic, or ten of each of 199 topics, with messages as"
        " fast as possible; and ten of each of 199 topics with 1,000 messages/s. The subscribers of"
        " a topic are in all workers. Workers and load generator share all cores of the machine."
        " The time to the last"
        " delivery counts from the moment when the message was due to be sent.",
        _workers,
    ),
    "slow": (
        "One that does not read",
        "40 messages/s of 1 KiB to 500 subscribers. One of them reads nothing, with"
        ' `policy="drop_oldest"`; the latencies are those of the others.',
        _slow,
    ),
    "memory": (
        "Memory",
        "1,000 WebSockets have 100 topics each, or none. The table shows by how much the process"
        " (its proportional set size) grows for each subscription.",
        _memory,
    ),
}
