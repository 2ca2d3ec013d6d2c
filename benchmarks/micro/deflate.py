"""zlib beside zlib-ng: ``python -m benchmarks.micro.deflate``, at asgiws's default settings.

Needs asgiws and zlib-ng in the Python that runs it. The messages are JSON, no two alike,
with the window taken over. One connection alone has the processor's caches to itself; of
256 that take turns each finds them full of the others. What is inflated was deflated by
the standard zlib. Memory is what 2,000 objects add to the process, after one message each.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random

from asgiws.wire import deflate

from .codecs import nanoseconds

SIZES = {1024: 64, 65536: 4}  # of a message -> how many, before they come again
CONNECTIONS = (1, 256)
OBJECTS = 2000
SETTINGS = deflate.Settings()
AGREED = deflate.Agreed(True, True, SETTINGS.window_bits, SETTINGS.window_bits)
WORDS = ["again", "and", "cheap", "for", "gone", "has", "price", "the", "up", "what", "you"]
COLUMNS = (
    "message",
    "",
    *(f"{what} µs, {count} in turn" for what in ("deflate", "inflate") for count in CONNECTIONS),
    "sent, bytes",
    "deflator, KiB",
    "inflator, KiB",
)


def messages(size: int) -> list[bytes]:
    """JSON as an application sends it, cut to ``size``."""
    random = Random(size)

    def record() -> dict[str, object]:
        text = " ".join(random.choices(WORDS, k=random.randrange(4, 16)))
        number = random.randrange(1_000_000)
        return {"id": number, "at": round(random.random() * 1e4, 3), "text": text, "new": True}

    return [
        json.dumps([record() for _ in range(size // 80)]).encode()[:size]
        for _ in range(SIZES[size])
    ]


def resident() -> int:
    """Bytes of the process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(library: str, size: int) -> list[float]:
    """One row's figures: one library with messages of one size."""
    plain = messages(size)
    count = len(plain)
    client = deflate.Deflator(AGREED, SETTINGS).deflate
    packed = [client(message) for message in plain * 2]
    settings = SETTINGS._replace(library=library)
    deflators = [deflate.Deflator(AGREED, settings).deflate for _ in range(OBJECTS)]
    inflators = [deflate.Inflator(AGREED, library).inflate for _ in range(OBJECTS)]
    marks = [resident()]
    for pack in deflators:
        pack(plain[0])
    marks.append(resident())
    for unpack in inflators:
        unpack(packed[0], True, size)
    marks.append(resident())

    # Each connection is some messages ahead of the one before. What was deflated in the
    # second round refers to the end of the first, and so can come again and again.
    for ahead, unpack in enumerate(inflators[: max(CONNECTIONS)]):
        start = packed[1 : count + ahead % count]
        if [unpack(each, True, size) for each in start] != (plain * 2)[1:][: len(start)]:
            raise SystemExit(f"{library} inflates to something else")

    def deflate_all(connections: int) -> None:
        for number in range(count):
            for ahead, pack in enumerate(deflators[:connections]):
                pack(plain[(number + ahead) % count])

    def inflate_all(connections: int) -> None:
        for number in range(count):
            for ahead, unpack in enumerate(inflators[:connections]):
                unpack(packed[count + (number + ahead) % count], True, size)

    times = [
        nanoseconds(partial(call, connections)) / count / connections / 1000
        for call in (deflate_all, inflate_all)
        for connections in CONNECTIONS
    ]
    sent = sum(len(deflators[0](message)) for message in plain) / count
    return [*times, sent, *((end - start) / OBJECTS / 1024 for start, end in pairwise(marks))]


def main() -> None:
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + "---:|" * len(COLUMNS))
    for size in SIZES:
        for library in deflate.LIBRARIES:  # each in a process that has used no memory before
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                figures = process.submit(measure, library, size).result()
            print(f"| {size} | {library} |", *(f"{figure:.1f} |" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
