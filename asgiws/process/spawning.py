"""Starting a worker: a fresh interpreter that inherits what it needs, and no more.

It is not a fork, because a forked child would have the memory, the locks and the event loop of its
parent as they happened to be, and new options or new code would not reach it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import ConfigError
from .descriptors import memory_file

PROBE = signal.SIGURG  # asks a worker whether it is debugged; other processes ignore it


class Spec(NamedTuple):
    """The instructions for a worker: descriptors, by their numbers, and plain values."""

    number: int  # its number in the log
    seat: int
    board: int
    channel: int
    inbox: int
    log: int  # the history of topics
    options: dict[str, Any]  # the fields of its Config
    addresses: list[Any]
    path: list[str]
    argv: list[str]
    held: bool = False  # it waits for a word before it loads the application


def spawn(spec: Spec) -> int:
    """Start a worker; its process id. Raises ConfigError if an option cannot be handed over."""
    data = to_json(spec)
    with os.fdopen(memory_file(), "wb") as file:
        file.write(data)
        file.flush()
        return start(
            f"from {__package__}.worker import main; main({file.fileno()})",
            (file.fileno(), spec.board, spec.channel, spec.inbox, spec.log),
        )


def read_spec(fd: int) -> Spec:
    """Read the instructions that ``spawn`` has written."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return from_json(file.read())


def to_json(spec: Spec) -> bytes:
    """Return the text that ``from_json`` reads; raises ConfigError."""
    options = dict(spec.options)
    if "headers" in options:
        options["headers"] = [[part.decode("latin-1") for part in h] for h in options["headers"]]
    try:
        return json.dumps(spec._replace(options=options)).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "--workers: log_config may have only text, numbers, lists and tables; name other "
            f"objects by their import paths ({error})"
        ) from None


def from_json(data: bytes) -> Spec:
    """The Spec that was made to JSON, with the types that it had."""
    spec = Spec(*json.loads(data))
    options = spec.options
    if "headers" in options:
        options["headers"] = tuple(
            tuple(part.encode("latin-1") for part in header) for header in options["headers"]
        )
    addresses = [tuple(name) if isinstance(name, list) else name for name in spec.addresses]
    return spec._replace(addresses=addresses)


def start(statement: str, fds: Iterable[int]) -> int:
    """Start an interpreter that runs ``statement`` and inherits ``fds``; its process id.

    It has our import path from its first import on. SIGINT is blocked in it: Ctrl-C in
    a terminal reaches it too, and it is for the parent to decide what that means.
    """
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    program = f"import sys; sys.path[:] = {sys.path!r}; {statement}"
    inherited = tuple(fds)
    for fd in inherited:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *flags, "-c", program],
            os.environ,
            setsigmask=[signal.SIGINT],
        )
    finally:
        for fd in inherited:
            os.set_inheritable(fd, False)
