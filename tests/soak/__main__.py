"""The command of the soak; see run.py.

    python -m tests.soak --minutes 30 --seed 1
    python -m tests.soak --url redis://          over a broker, which is started, and killed
    python -m tests.soak --url nats://?durable=true

The exit code is 1 if something was seen that may not be, and the evidence is printed.
"""

from __future__ import annotations

import argparse
import sys

from .run import Plan, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=40.0, help="publications a second, in all")
    parser.add_argument("--pause", type=float, default=15.0, help="seconds between two faults")
    parser.add_argument("--url", help="redis:// or nats://: over such a broker")
    given = parser.parse_args()
    plan = Plan(
        given.minutes * 60, given.seed, given.workers, given.rate, given.pause, url=given.url
    )
    return 0 if soak(plan).passed else 1


if __name__ == "__main__":
    sys.exit(main())
