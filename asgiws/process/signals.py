"""The end of the process: signals, the watchdog behind them, threads that are left."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..log import error_log

HINT_SECONDS = 0.2  # a shutdown that takes longer says how to end it at once


@contextmanager
def signals(shutdown: Callable[[], None], patience: float) -> Iterator[None]:
    """SIGINT and SIGTERM begin the shutdown, the second one ends the process.

    ``signal.signal`` and not the loop's handlers: those wait for a loop that the
    application may be blocking. Outside of the main thread there are no signals.
    ``patience`` is how long the end may take before the process is ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    requested = threading.Event()
    finished = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if requested.is_set():
            leave(128 + number)
        requested.set()
        shutdown()

    def watch() -> None:
        requested.wait()
        if not finished.wait(HINT_SECONDS):
            # Not by the handler: it may have interrupted another line of the log.
            error_log.info("Stopping; once more Ctrl-C ends the process at once")
        if not finished.wait(patience):
            error_log.error("The event loop is blocked: ending the process")
            leave(1)

    threading.Thread(target=watch, name="asgiws-watchdog", daemon=True).start()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        finished.set()
        requested.set()
        for number, handler in previous.items():
            if handler is not None:  # one that Python did not install
                signal.signal(number, handler)


def let_threads_go(before: set[threading.Thread], status: int) -> None:
    """See to it that no thread of the application keeps the process alive.

    The interpreter waits for all threads that are not daemons, and the threads of
    executors and AnyIO's workers are none. If one that was not there ``before`` is
    still alive when the main thread ends, the process ends with ``status``.
    """
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not thread.daemon
    ]

    def leave_them() -> None:
        if any(thread.is_alive() for thread in left):
            atexit._run_exitfuncs()
            leave(status)

    if left:
        # What is registered here runs before the interpreter waits for threads, and,
        # as the last, before concurrent.futures waits for its own. atexit runs after.
        threading._register_atexit(leave_them)  # type: ignore[attr-defined]


def leave(status: int) -> None:
    """End the process at once, with what was printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(status)
