"""``python -m benchmarks.micro``: every codec in a process of its own, then one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .. import environment
from ..report import micro_tables

CODECS = ("asgiws", "asgiws-pure", "websockets", "wsproto", "aiohttp", "picows")


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """codec -> ``read`` or ``build`` -> size -> ns per frame."""
    script = Path(__file__).parent / "codecs.py"
    results = {}
    for name in CODECS:
        variables = {key: value for key, value in os.environ.items() if key != "ASGIWS_PURE"}
        if name == "asgiws-pure":
            variables["ASGIWS_PURE"] = "1"
        command: list[str | Path] = [environment.BIN / "python", script, name.removesuffix("-pure")]
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, cwd=environment.WORK
        )
        if done.returncode:
            print(f"{name}: {done.stderr[-500:]}", file=sys.stderr)
            continue
        results[name] = json.loads(done.stdout)
    return results


def main() -> None:
    try:
        environment.install_peers()
        environment.install_asgiws()
    except environment.NotReady as error:
        raise SystemExit(str(error)) from None
    print(micro_tables(measure()))


if __name__ == "__main__":
    main()
