"""The end of the process: signals, the watchdog behind them, threads that are left.

Between the decision to end and the end nothing may block, even if the application blocks the
event loop, the main thread sits in C code, or the log is not read any more. So a thread also does
what a signal asks for: the interpreter writes the number of each signal to a "wake-up" descriptor,
whatever the main thread does. And a step that may block (a line of the log, a flush) is done in
another thread, and waited for with a limit.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

from ..log import error_log

HINT_SECONDS = 0.2  # a shutdown that takes longer says how to end it at once
ASIDE_SECONDS = 0.5  # for a line of the log, and for what was printed
THREADS_SECONDS = 1.0  # for executors, to send their idle threads home
NUMBERS = (signal.SIGINT, signal.SIGTERM)
LOOK = b"\0"  # no signal has this number


class Signals:
    """SIGINT and SIGTERM begin the shutdown, the second one ends the process.

    A context manager. ``signal.signal`` and not the loop's handlers: those wait for a
    loop that the application may be blocking. Outside of the main thread it does
    nothing. ``shutdown`` is called with the signal's number, perhaps twice, in any thread;
    ``patience`` says by number how long the end may take before the process is ended,
    ``stops`` whether its last part has begun, in which nothing may run on.
    """

    def __init__(
        self,
        shutdown: Callable[[int], object],
        patience: Mapping[int, float],
        stops: Callable[[], bool],
    ) -> None:
        self._shutdown = shutdown
        self._stops = stops
        self._patience = patience
        self._begun_at: float | None = None
        self._ends_at = 0.0
        self._over = False
        # The first to count two acts: either may miss a signal, and none counts one twice.
        self._handled = 0
        self._seen = 0
        self._previous: dict[int, Any] = {}
        self._wakeup_before = -1
        self._forward = -1

    @property
    def should_exit(self) -> bool:
        """True if streams are to end; sse-starlette looks for it behind the handler."""
        return self._begun_at is not None and self._stops()

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            self._over = True
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        threading.Thread(target=self._watch, name="asgiws-watchdog", daemon=True).start()
        self._previous = {number: signal.signal(number, self.handle) for number in NUMBERS}
        self._wakeup_before = self._take_wakeup()
        _forking.signals = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._over:
            return
        self._over = True
        _forking.signals = None
        self.give_back()
        self._look()

    def follow(self) -> None:
        """Listen again, in a loop that has begun to run: uvloop takes the wake-up for itself.

        It still gets what it asked for.
        """
        if self._over:
            return
        taken = self._take_wakeup()
        if taken not in (-1, self._write.fileno()):
            before, self._forward = self._forward, os.dup(taken)
            if before != -1:
                os.close(before)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler that Python calls in the main thread, as soon as that runs."""
        self._handled += 1
        if self._handled > 1:
            leave(128 + number)
        self._begin(number)
        self._look()

    def give_back(self) -> None:
        """Restore the former handlers of the signals."""
        for number, handler in self._previous.items():
            # One that Python did not install is None.
            if handler is not None and signal.getsignal(number) == self.handle:
                signal.signal(number, handler)
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(self._wakeup_before, warn_on_full_buffer=False)

    def _take_wakeup(self) -> int:
        return signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            self._write.send(LOOK)

    def _begin(self, number: int) -> None:
        if self._begun_at is None:
            now = time.monotonic()
            self._ends_at = now + self._patience[number]
            self._begun_at = now
        self._shutdown(number)

    def _watch(self) -> None:
        """The thread that does what the main thread may be unable to do."""
        hinted = False
        while True:
            now = time.monotonic()
            wait = None
            if self._begun_at is not None:
                hint_in = self._begun_at + HINT_SECONDS - now
                end_in = self._ends_at - now
                if end_in <= 0:
                    self._end_it()
                elif hint_in <= 0 and not hinted:
                    hinted = True
                    aside(hint, 0)
                wait = max(0.001, end_in if hinted else min(hint_in, end_in))
            self._read.settimeout(wait)
            try:
                received = self._read.recv(512)
            except TimeoutError:
                continue
            if self._over:
                self._read.close()
                self._write.close()
                if self._forward != -1:
                    os.close(self._forward)
                return
            self._meet(received)

    def _meet(self, received: bytes) -> None:
        """Obey the signals that have come, if any is for us."""
        for number in received:
            # An application may have handlers of its own instead of ours.
            if number in NUMBERS and signal.getsignal(number) == self.handle:
                self._seen += 1
                if self._seen > 1:
                    leave(128 + number)
                self._begin(number)
        if self._forward != -1 and (rest := received.replace(LOOK, b"")):
            with contextlib.suppress(OSError):  # full, or its loop has ended
                os.write(self._forward, rest)

    def _end_it(self) -> None:
        aside(lambda: error_log.error("The event loop is blocked: ending the process"))
        leave(1)


def hint() -> None:
    """Say how to end a shutdown that takes long."""
    error_log.info("Stopping; once more Ctrl-C ends the process at once")


class Forking:
    """Gives a process that is forked from this one the signals as they were before.

    With our handlers it would not end by SIGTERM. It also shares the wake-up's socket, and would
    report its signals to us. So no signal may come before they are given back.
    """

    def __init__(self) -> None:
        self.signals: Signals | None = None
        self._blocked: set[int] | None = None

    def before(self) -> None:
        if self.signals is not None:
            self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)

    def in_child(self) -> None:
        if self.signals is not None:
            self.signals.give_back()
        self.after()

    def after(self) -> None:
        if self._blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
            self._blocked = None


_forking = Forking()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forking.before,
        after_in_parent=_forking.after,
        after_in_child=_forking.in_child,
    )


def aside(call: Callable[[], object], seconds: float = ASIDE_SECONDS) -> bool:
    """Call it in another thread; return whether it ended within ``seconds``.

    The locks of ``threading`` are not used: a signal's handler may have interrupted their owner.
    """
    done = _thread.allocate_lock()
    done.acquire()

    def calling() -> None:
        try:
            call()
        except Exception:
            pass  # a stream that is closed, or not read
        finally:
            done.release()

    try:
        _thread.start_new_thread(calling, ())
    except RuntimeError:
        return False
    return done.acquire(timeout=seconds)


def leave(status: int) -> None:
    """End the process at once; printed output is written first if a reader takes it."""
    aside(_flush)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


class ThreadsLeft(Exception):
    """Keeps the interpreter from waiting for threads."""


def let_threads_go(before: set[threading.Thread], status: int) -> None:
    """Make sure that no thread keeps the process alive once the main thread is done.

    The interpreter waits for all threads that are not daemons, as those of executors
    and AnyIO's workers. If one that was not there ``before`` is still alive at the
    end, it does not wait; atexit and the exit code are as usual. Only if no reader takes
    the printed output, the process ends at once, with ``status``.
    """
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not thread.daemon
    ]

    def alive() -> bool:
        return any(thread.is_alive() for thread in left)

    def last_call() -> None:
        if not aside(_flush):
            os._exit(status)
        if alive():
            # Executors end their threads here, and then wait for those that work.
            for call in reversed(earlier):
                aside(call, THREADS_SECONDS)
        if alive():
            # An exception here only ends the waiting, and would be printed.
            print_it = sys.unraisablehook
            sys.unraisablehook = lambda what: (
                None if what.exc_type is ThreadsLeft else print_it(what)
            )
            raise ThreadsLeft

    earlier = tuple(threading._threading_atexits)  # type: ignore[attr-defined]
    # Functions registered here run before the interpreter waits for threads, and,
    # as the last, before concurrent.futures waits for its own. atexit runs after.
    threading._register_atexit(last_call)  # type: ignore[attr-defined]
