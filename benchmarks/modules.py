"""What each compiled module costs and is worth: ``python -m benchmarks.modules``.

Its size in a wheel, and the instructions (in user mode, by callgrind, so they do not drift) that it
takes for a message, a request and so on. A module that no other one takes C declarations from can
be left out (``--without``), and the difference is what compiling it is worth. The modules are those
of this checkout as ``setup.py`` compiles them, or of ``--tree``, which may be another one.
Needs valgrind, and the dependencies of asgiws in the Python that runs it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asgiws._build import COMPILED_MODULES

from .measure import free_port
from .parts import table

Load = Callable[[int, int], None]
HERE = Path(__file__).parent
CHECKOUT = HERE.parent
UNITS = 200
WARM_UP = 50
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
DEFLATE = (
    b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
    b"server_no_context_takeover\r\n"
)


def squeezed(text: bytes) -> bytes:
    """As permessage-deflate sends it (RFC 7692 section 7.2.1)."""
    deflator = zlib.compressobj(wbits=-15)
    return (deflator.compress(text) + deflator.flush(zlib.Z_SYNC_FLUSH)).removesuffix(
        b"\x00\x00\xff\xff"
    )


TEXT = b"x" * 125
CLOSE = b"\x03\xe8"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def exchange(client: socket.socket, sent: bytes, whole: Callable[[bytes], bool]) -> bytes:
    """Send, and read until what came is whole."""
    client.sendall(sent)
    came = b""
    while not whole(came):
        more = client.recv(65536)
        if not more:
            raise RuntimeError(f"the connection ended after {came!r}")
        came += more
    return came


def a_frame(came: bytes) -> bool:
    """A short one, alone."""
    return len(came) > 1 and len(came) == 2 + came[1]


def a_head(came: bytes) -> bool:
    return came.endswith(b"\r\n\r\n")


def an_answer(came: bytes) -> bool:
    head, _, body = came.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(body) == int(length[1])


def frame(opcode: int, payload: bytes) -> bytes:
    """Masked with zeros, a payload is as it was."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def requests(request: bytes) -> Load:
    def load(port: int, count: int) -> None:
        with connected(port) as client:
            for _ in range(count):
                came = exchange(client, request, an_answer)
                assert came.startswith(b"HTTP/1.1 200 "), came

    return load


def echoes(message: bytes, extension: bytes = b"") -> Load:
    def load(port: int, count: int) -> None:
        with connected(port) as client:
            exchange(client, UPGRADE % extension, a_head)
            for _ in range(count):
                came = exchange(client, message, a_frame)
                assert came[0] == message[0], came

    return load


def handshakes(port: int, count: int) -> None:
    for _ in range(count):
        with connected(port) as client:
            exchange(client, UPGRADE % b"", a_head)
            exchange(client, frame(1, TEXT), a_frame)
            exchange(client, frame(8, CLOSE), a_frame)
            while client.recv(65536):
                pass


GET = b"GET /hello HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nUser-Agent: y\r\n"
POST = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n\r\n" + b"b" * 1024
PROXY = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
QUIET = "--no-access-log"
# What is counted, the server's options, the load.
SCENARIOS: dict[str, tuple[str, Load]] = {
    "echo, 125 B": (QUIET, echoes(frame(1, TEXT))),
    "echo, 1 KiB deflated": (QUIET, echoes(frame(0x41, squeezed(b"y" * 1024)), DEFLATE)),
    "handshake, echo, close": (QUIET, handshakes),
    "GET": (QUIET, requests(GET + b"\r\n")),
    "GET, h11": (QUIET + " --http h11", requests(GET + b"\r\n")),
    "POST 1 KiB": (QUIET, requests(POST)),
    "GET by a proxy, logged": ("", requests(GET + PROXY + b"\r\n")),
}


@contextmanager
def serving(
    tree: Path, options: str, folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of the modules in ``tree`` under callgrind, which does not count yet."""
    port = free_port()
    command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
    command += [f"--callgrind-out-file={folder}/callgrind.out", sys.executable, "-m", "asgiws"]
    command += ["apps:raw", "--app-dir", str(HERE), "--port", str(port)]
    environment = {key: os.environ[key] for key in ("HOME", "LANG", "PATH") if key in os.environ}
    environment |= {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *options.split()], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                connected(port).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()) from None
                time.sleep(0.1)
        yield server, port
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def totals(profile: str) -> dict[str, int]:
    """The instructions of each file of code in what callgrind has written."""
    names: dict[str, str] = {}
    found: dict[str, int] = defaultdict(int)
    where = ""
    lines = iter(profile.splitlines())
    for line in lines:
        if match := re.match(r"ob=(\(\d+\))(?: (.+))?", line):
            names.setdefault(match[1], match[2] or "")
            where = names[match[1]]
        elif match := re.match(r"cob=(\(\d+\)) (.+)", line):
            names[match[1]] = match[2]
        elif line.startswith("calls="):
            next(lines)  # what the called one took is counted where it stands
        elif re.match(r"[0-9+*-]", line):
            found[where] += int(line.split()[1])
    return found


def count(tree: Path, name: str) -> dict[str, float]:
    """Instructions per unit of a scenario by compiled module; what is not ours as ``other``."""
    options, load = SCENARIOS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with serving(tree, options, folder) as (server, port):
            load(port, WARM_UP)
            control = ["callgrind_control", "-i"]
            subprocess.run([*control, "on", str(server.pid)], check=True, capture_output=True)
            load(port, UNITS)
            subprocess.run([*control, "off", str(server.pid)], check=True, capture_output=True)
            command = ["callgrind_control", "-d", str(server.pid)]
            subprocess.run(command, check=True, capture_output=True)
            found: dict[str, float] = defaultdict(float)
            for path in folder.glob("callgrind.out*"):
                for file, instructions in totals(path.read_text()).items():
                    inside = str(tree / "asgiws") + "/"
                    own = file.removeprefix(inside).partition(".")[0].replace("/", ".")
                    found[own if file.startswith(inside) else "other"] += instructions / UNITS
    return found


@dataclass(frozen=True)
class Built:
    """A compiled module: its file, and what it adds to a wheel."""

    file: Path
    packed: int


def compiled(tree: Path) -> dict[str, Built]:
    found = {}
    with tempfile.TemporaryFile() as scratch, zipfile.ZipFile(scratch, "w") as archive:
        for file in sorted((tree / "asgiws").rglob("*.so")):
            archive.write(file, compress_type=zipfile.ZIP_DEFLATED)
            name = ".".join(file.relative_to(tree / "asgiws").parts).partition(".cpython")[0]
            found[name] = Built(file, archive.infolist()[-1].compress_size)
    return found


def build(tree: Path) -> None:
    """Compile a copy of this checkout there, as for a wheel."""
    shutil.copytree(CHECKOUT / "asgiws", tree / "asgiws", ignore=shutil.ignore_patterns("*.so"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tree)
    environment = {key: value for key, value in os.environ.items() if key != "CFLAGS"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=environment, check=True)


def report(tree: Path, scenarios: list[str], without: list[str]) -> str:
    """A table of modules in the order of their sizes, and one of those that can be left out."""
    modules = compiled(tree)
    counts = {name: count(tree, name) for name in scenarios}

    def row(name: str, packed: str, counted: str) -> list[str]:
        return [name, packed, *(f"{counts[key][counted]:,.0f}" for key in scenarios)]

    rows = [
        row(f"`{name}`", f"{built.packed / 1000:.0f}", name)
        for name, built in sorted(modules.items(), key=lambda item: -item[1].packed)
    ]
    total = sum(built.packed for built in modules.values())
    own = [sum(counts[key].values()) - counts[key]["other"] for key in scenarios]
    rows.append(["together", f"{total / 1000:,.0f}", *(f"{value:,.0f}" for value in own)])
    rows.append(row("CPython, uvloop, the application", "", "other"))
    text = table(["", "kB in the wheel", *scenarios], rows)
    rows = []
    for name in without:
        file = modules[name].file
        away = file.rename(file.with_suffix(".away"))
        try:
            more = [sum(count(tree, key).values()) - sum(counts[key].values()) for key in scenarios]
        finally:
            away.rename(file)
        rows.append([f"`{name}`", *(f"{value:+,.0f}" for value in more)])
    return text + ("\n" + table(["interpreted", *scenarios], rows) if rows else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.modules", description=__doc__)
    parser.add_argument("--tree", type=Path, help="a checkout that is compiled in place")
    parser.add_argument("--only", help="scenarios, semicolons between", default=";".join(SCENARIOS))
    parser.add_argument("--without", help="modules to leave out one by one, commas between")
    options = parser.parse_args()
    without = options.without.split(",") if options.without else []
    if unknown := set(without) - set(COMPILED_MODULES):
        parser.error(f"no such modules: {', '.join(sorted(unknown))}")
    scenarios = options.only.split(";")
    with tempfile.TemporaryDirectory() as folder:
        tree = options.tree
        if tree is None:
            tree = Path(folder)
            build(tree)
        print(report(tree.resolve(), scenarios, without))


if __name__ == "__main__":
    main()
