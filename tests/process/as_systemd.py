"""Start a program as systemd starts a service that has a socket unit, without systemd.

`python -m tests.process.as_systemd tcp unix:PATH -- MODULE ARGUMENTS` opens these sockets
and executes `python -m MODULE ARGUMENTS` with them.
"""

from __future__ import annotations

import os
import socket
import sys

FIRST = 3


def main() -> None:
    words = sys.argv[1 : sys.argv.index("--")]
    # First away from the numbers where they are to be.
    sockets = [
        os.dup2(_listening(word), 100 + number, inheritable=False)
        for number, word in enumerate(words)
    ]
    for number, fd in enumerate(sockets):
        os.dup2(fd, FIRST + number)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(sockets))
    os.environ["LISTEN_FDNAMES"] = ":".join(["chat.socket"] * len(sockets))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[sys.argv.index("--") + 1 :]])


def _listening(word: str) -> int:
    if word == "tcp":
        sock = socket.create_server(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(word.removeprefix("unix:"))
        sock.listen()
    return sock.detach()


if __name__ == "__main__":
    main()
