"""The compiled modules under AddressSanitizer and UBSan: ``python -m tests.sanitize``.

Arguments are pytest's. Builds them instrumented, in a copy of the tree, and runs the tests
of everything that is compiled, the fuzzer's corpus among them. Any report of a sanitizer
ends the run with an error. Leak detection is off: CPython itself never frees all it has.
Needs gcc with libasan and libubsan on Linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
TESTS = (
    "tests/wire",
    "tests/websocket",
    "tests/transport",
    "tests/fuzz",
    "--ignore=tests/websocket/test_over_sockets.py",  # it measures time
)


def library(name: str) -> str:
    """The path of a sanitizer's runtime."""
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        sys.exit(f"gcc has no {name}: install its sanitizers")
    return str(Path(found).resolve())


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__", ".work", "autobahn")
        for part in "asgiws", "tests":
            shutil.copytree(ROOT / part, tree / part, ignore=ignore)
        for name in "pyproject.toml", "setup.py":
            shutil.copy(ROOT / name, tree)
        (tree / "README.md").touch()
        (tree / "LICENSE").touch()
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=tree,
            env={**os.environ, "CFLAGS": FLAGS, "LDFLAGS": FLAGS},
            check=True,
        )
        environment = {
            **os.environ,
            "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # or an overflow stays inside CPython's own arenas
            "PYTHONPATH": str(tree),
        }
        environment.pop("ASGIWS_PURE", None)
        check = "import asgiws; assert asgiws.build() == 'compiled', asgiws.build()"
        subprocess.run([sys.executable, "-c", check], cwd=tree, env=environment, check=True)
        arguments = sys.argv[1:] or ["-p", "no:cacheprovider", *TESTS]
        command = [sys.executable, "-m", "pytest", "-s", *arguments]
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
