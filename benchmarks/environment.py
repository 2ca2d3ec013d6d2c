"""The benchmarks' own environment: peers, the asgiws of this checkout, the programs in C.

Everything lives in benchmarks/.work and is made again only when what it is made
from has changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
WORK = HERE / ".work"
BIN = WORK / "venv" / "bin"
LOAD = WORK / "load"
C_EPOLL = WORK / "c-epoll"

# fmt: off
VERSIONS = (
    "asgiws", "uvicorn", "uvloop", "httptools", "websockets", "wsproto", "h11", "hypercorn",
    "granian", "gunicorn", "daphne", "socketify", "picows", "aiohttp", "starlette", "fastapi",
    "zlib-ng", "broadcaster", "channels", "channels_redis", "redis",
)
# fmt: on


class NotReady(Exception):
    """The environment cannot be made; the message says what is missing."""


def fingerprint(paths: Iterable[Path]) -> str:
    """One number for the contents of many files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def unchanged(stamp: Path, value: str) -> bool:
    return stamp.exists() and stamp.read_text() == value


def run(command: Sequence[str | Path], what: str) -> None:
    """Run a step of the installation, its output kept for the case that it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotReady(f"{what} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def install_peers() -> None:
    """Make the virtual environment and install requirements.txt into it."""
    stamp = WORK / "requirements.stamp"
    value = fingerprint([HERE / "requirements.txt"]) + sys.version
    if unchanged(stamp, value):
        return
    print("installing the peers into benchmarks/.work/venv", file=sys.stderr)
    venv.create(WORK / "venv", clear=True, with_pip=True)
    run([BIN / "pip", "install", "-q", "-r", HERE / "requirements.txt"], "installing the peers")
    (WORK / "asgiws.stamp").unlink(missing_ok=True)
    stamp.write_text(value)


def install_asgiws() -> None:
    """Build and install the asgiws of this checkout, from a copy, so that the tree stays clean.

    A build whose extension modules are missing is refused: they are optional at
    build time, and a pure-Python server must never be measured as the compiled one.
    """
    stamp = WORK / "asgiws.stamp"
    package = CHECKOUT / "asgiws"
    files = [
        path
        for pattern in ("*.py", "*.pxd", "*.pyx", "py.typed")
        for path in package.rglob(pattern)
        if "__pycache__" not in path.parts
    ]
    top = [CHECKOUT / name for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE")]
    if not (package / "cli.py").exists():
        raise NotReady("this checkout has no runnable asgiws")
    value = fingerprint(files + [path for path in top if path.exists()])
    if unchanged(stamp, value):
        return
    print("building asgiws", file=sys.stderr)
    source = WORK / "source"
    shutil.rmtree(source, ignore_errors=True)
    for path in files:
        target = source / path.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in top:
        if path.exists():
            shutil.copy(path, source)
        else:
            (source / path.name).write_text("")
    pip: list[str | Path] = [
        BIN / "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
    ]
    run([*pip, source], "building asgiws")
    command: list[str | Path] = [
        BIN / "python",
        "-c",
        "from asgiws._build import build; print(build())",
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=WORK)
    if result.stdout.strip() != "compiled":
        raise NotReady(
            "asgiws is not compiled, and a pure build is not measured as the compiled one: "
            f"{result.stdout.strip()}{result.stderr.strip()}"
        )
    stamp.write_text(value)


def build_load(target: Path = LOAD) -> Path:
    """Compile the load generator; zlib's header is needed."""
    return compile_c(sorted((HERE / "load").glob("*.[ch]")), target, "-lz", "-lpthread")


def build_floor(target: Path = C_EPOLL) -> Path:
    """Compile the floors in C."""
    digest = HERE / "load" / "digest"
    sources = [HERE / "floors.c", digest.with_suffix(".c"), digest.with_suffix(".h")]
    return compile_c(sources, target)


def compile_c(sources: list[Path], target: Path, *libraries: str) -> Path:
    """Make a program with the system's C compiler."""
    stamp = target.with_suffix(".stamp")
    value = fingerprint(sources)
    if unchanged(stamp, value) and target.exists():
        return target
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise NotReady(f"{target.name} needs a C compiler (cc)")
    target.parent.mkdir(parents=True, exist_ok=True)
    flags: list[str | Path] = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", target]
    units = [path for path in sources if path.suffix == ".c"]
    run([compiler, *flags, *units, *libraries], f"compiling {target.name}")
    stamp.write_text(value)
    return target


def versions() -> dict[str, str]:
    """The installed version of everything that is measured."""
    code = (
        "import importlib.metadata as m\n"
        f"for name in {VERSIONS!r}:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass"
    )
    output = subprocess.run([BIN / "python", "-c", code], capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())


def machine() -> dict[str, str]:
    """The facts about the machine on which the figures depend."""
    facts = {"cores": str(os.cpu_count()), "python": platform.python_version()}
    facts["kernel"] = f"{platform.system()} {platform.release().split('-')[0]}"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            facts["processor"] = line.partition(":")[2].strip()
        elif line.startswith("flags") and " hypervisor" in line:
            facts["virtual"] = "virtual machine"
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")  # it takes CPU time
    if congestion.exists():
        facts["TCP congestion control"] = congestion.read_text().strip()
    commit = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
    facts["commit"] = subprocess.run(commit, capture_output=True, text=True).stdout.strip()
    return facts
