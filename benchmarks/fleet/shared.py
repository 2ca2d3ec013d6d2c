"""``python shared.py N PORT COMMAND...``: N processes that accept from one socket.

So several workers look without a supervisor: what costs nothing, because whoever wakes up
first accepts. ``--fd`` and the descriptor are put behind the command.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path


def main() -> None:
    count, port, program, *words = sys.argv[1:]
    command = [str(Path(sys.executable).parent / program), *words]
    with socket.create_server(("127.0.0.1", int(port)), backlog=2048) as listener:
        fd = listener.fileno()
        processes = [
            subprocess.Popen([*command, "--fd", str(fd)], pass_fds=[fd]) for _ in range(int(count))
        ]
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main()
