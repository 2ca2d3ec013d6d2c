"""What an install of each server takes: ``python -m benchmarks.installs [SERVER,...]``.

Each goes into a fresh virtual environment, by pip and from the package index that pip is set up
for, without pip's cache; asgiws as a wheel that is built from this checkout before, and what it
depends on from the index. Then the program tells its version, and answers its first request.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from .measure import free_port
from .parts import table

HERE = Path(__file__).parent
STARTS = 5
PATIENCE = 60.0  # seconds for the first answer
APP = "apps:raw"
# What is installed, and the command that serves; {wheel} and {port} are filled in.
SERVERS = {
    "asgiws": ("{wheel}", f"asgiws {APP} --port {{port}}"),
    "asgiws[standard]": ("{wheel}[standard]", f"asgiws {APP} --port {{port}}"),
    "uvicorn": ("uvicorn", f"uvicorn {APP} --port {{port}}"),
    "uvicorn[standard]": ("uvicorn[standard]", f"uvicorn {APP} --port {{port}}"),
    "hypercorn": ("hypercorn", f"hypercorn {APP} -b 127.0.0.1:{{port}}"),
    "granian": ("granian", f"granian --interface asgi {APP} --port {{port}}"),
    "daphne": ("daphne", f"daphne {APP} -p {{port}}"),
}
COLUMNS = [
    "seconds",
    "CPU s",
    "downloaded, MB",
    "installed, MB",
    "packages",
    "`--version`, s",
    "first answer, s",
]


def clean() -> dict[str, str]:
    """The environment without settings for Python or for a server."""
    names = ("HOME", "LANG", "PATH", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return kept | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def built(folder: Path) -> Path:
    """A wheel of this checkout."""
    command = [sys.executable, "-m", "build", "-q", "--wheel", "--outdir", str(folder)]
    subprocess.run([*command, str(HERE.parent)], check=True)
    (wheel,) = folder.glob("asgiws-*.whl")
    return wheel


def first_answer(command: list[str], port: int) -> float:
    """Seconds from the start of the program to the answer of a request."""
    started = time.monotonic()
    server = subprocess.Popen(
        command, cwd=HERE, env=clean(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.monotonic() < started + PATIENCE:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                    client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                    if client.recv(65536).startswith(b"HTTP/1.1 200"):
                        return time.monotonic() - started
            except OSError:
                pass
            time.sleep(0.005)
        raise RuntimeError(f"{command} has not answered")
    finally:
        server.terminate()
        server.wait()


def version(command: list[str]) -> float:
    started = time.monotonic()
    program = Path(command[0]).name
    asked = "--help" if program in ("hypercorn", "daphne") else "--version"  # these tell none
    subprocess.run([command[0], asked], env=clean(), check=True, capture_output=True)
    return time.monotonic() - started


def measured(wanted: str, serve: str, folder: Path) -> list[str]:
    """One line of the table, without the name."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    pip = [str(programs / "python"), "-m", "pip", "-q", "--disable-pip-version-check"]
    fetched = folder / "fetched"
    download = [*pip, "download", "--no-cache-dir", "-d", str(fetched), wanted]
    subprocess.run(download, env=clean(), check=True)
    (packages,) = folder.glob("venv/lib/*/site-packages")
    before = size(packages)
    used = os.times()
    started = time.monotonic()
    subprocess.run([*pip, "install", "--no-cache-dir", wanted], env=clean(), check=True)
    took = time.monotonic() - started
    after = os.times()
    cpu = sum(after[2:4]) - sum(used[2:4])  # that of the children
    starts = []
    versions = []
    for _ in range(STARTS):
        port = free_port()
        command = serve.format(port=port).split()
        command[0] = str(programs / command[0])
        versions.append(version(command))
        starts.append(first_answer(command, port))
    figures = [took, cpu, size(fetched) / 1e6, (size(packages) - before) / 1e6]
    row = [f"{figure:.1f}" for figure in figures]
    return [
        *row,
        f"{len(list(fetched.iterdir()))}",
        f"{median(versions):.2f}",
        f"{median(starts):.2f}",
    ]


def main() -> None:
    names = sys.argv[1].split(",") if len(sys.argv) > 1 else list(SERVERS)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        wheel = built(Path(place)) if any(name.startswith("asgiws") for name in names) else None
        for name in names:
            wanted, serve = SERVERS[name]
            with tempfile.TemporaryDirectory() as folder:
                line = measured(wanted.format(wheel=wheel), serve, Path(folder))
            rows.append([f"`{name}`", *line])
            print(name, *line, file=sys.stderr)
    print(table(["", *COLUMNS], rows))


if __name__ == "__main__":
    main()
