"""``python shared.py WAY N PORT COMMAND...``: N processes that accept themselves.

So several workers look without a supervisor, with one socket for all of them (``one``) or one
for each (``each``, SO_REUSEPORT). ``--fd`` and the descriptor are put behind the command.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path


def main() -> None:
    way, count, port, program, *words = sys.argv[1:]
    command = [str(Path(sys.executable).parent / program), *words]
    with ExitStack() as stack:

        def listening() -> socket.socket:
            listener = socket.create_server(
                ("127.0.0.1", int(port)), backlog=2048, reuse_port=way == "each"
            )
            return stack.enter_context(listener)

        shared = None if way == "each" else listening()
        processes = []
        for _ in range(int(count)):
            fd = (shared or listening()).fileno()
            processes.append(subprocess.Popen([*command, "--fd", str(fd)], pass_fds=[fd]))
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main()
