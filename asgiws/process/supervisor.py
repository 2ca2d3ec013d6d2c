"""The parent of several workers: it accepts, hands over, and sees to it that they live.

A plain loop over a selector, in one thread. It imports no application and reads nothing
that a client sends. So there is little in it that could fail or hang.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import BindError, StartupError
from ..log import configure, error_log
from ..options.config import Config
from .child import Child
from .descriptors import fill_standard_descriptors
from .dispatch import Dispatcher
from .drain import INTERRUPTED, TERMINATED, Terms, terms
from .fleet import Fleet
from .server import urls_of, what_runs
from .sockets import Bound

TICK_SECONDS = 0.1
ACCEPTS_AT_ONCE = 64
WAITING_MOST = 256  # accepted connections that wait for a worker; more wait in the kernel
PAUSE_SECONDS = 0.25  # before accepting is tried again, if there were no descriptors
HANDING_SECONDS = 1.0  # for accepted connections to find a worker, when the program ends
TOGETHER_SECONDS = 2.0  # how long the first workers wait for the others before they serve

# The phases of the program.
OPENING = "opening"  # nothing is accepted yet
SERVING = "serving"
LEAVING = "leaving"  # every worker knows that it will drain, and connections are accepted still
ENDING = "ending"  # every worker drains

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGTTIN,
    signal.SIGTTOU,
)


class Supervisor:
    """Runs the workers that ``config`` asks for, until SIGINT or SIGTERM.

    ``reread`` gives the options anew, for SIGHUP; it raises ConfigError.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        self.config = config
        self._reread = reread
        self._selector = selectors.DefaultSelector()
        self._dispatcher = Dispatcher()
        self._fleet: Fleet
        self._bound: Bound
        self._phase = OPENING
        self._now = 0.0  # the fair clock: it stands still while we do
        self._looked_at = time.monotonic()
        self._first_ready = 0.0
        self._paused_until = 0.0
        self._is_listening = False
        self._accepting = False
        self._exhausted = False
        self._leave_at = 0.0
        self._terms: Terms
        self._stops = 0  # how often we were told to end

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises StartupError."""
        fill_standard_descriptors()
        config = self.config
        configure(config.log_level, config.log_config, config.access_log, config.use_colors)
        with Bound(config.addresses, config.uds_permissions) as self._bound, self._signals():
            addresses = [sock.getsockname() for sock in self._bound.sockets]
            fleet = self._fleet = Fleet(config, addresses, self._dispatcher)
            fleet.on_start = self._follow
            fleet.on_end = self._forget
            try:
                while not self._is_over():
                    self._look()
                    for key, _ in self._selector.select(TICK_SECONDS):
                        key.data()
            finally:
                fleet.kill_all()
                self._reap()
        if fleet.failed is not None:
            raise fleet.failed
        error_log.info("Stopped")

    def _is_over(self) -> bool:
        return self._phase == ENDING and not self._fleet.children

    # The loop.

    def _look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._now += min(now - self._looked_at, 2 * TICK_SECONDS)
        self._looked_at = now
        fleet = self._fleet
        fleet.look(self._now)
        if fleet.failed is not None and self._phase in (OPENING, SERVING):
            self._end(terms(self.config, INTERRUPTED))
        if self._phase == OPENING:
            self._open_when_ready(now)
        elif self._phase == LEAVING and now >= self._leave_at:
            self._leave(now)
        self._dispatcher.recover()
        self._dispatcher.flush()
        self._regulate(now)

    def _open_when_ready(self, now: float) -> None:
        """Begin to accept: with all workers, or without those that take longer."""
        ready = self._fleet.count("serving")
        if not ready:
            return
        if not self._first_ready:
            self._first_ready = now
        if ready < self._fleet.wanted and now < self._first_ready + TOGETHER_SECONDS:
            return
        for sock in self._bound.sockets:
            sock.setblocking(False)
            try:
                sock.listen(self.config.backlog)
            except OSError as exc:
                raise BindError(f"cannot listen on {sock.getsockname()}: {exc.strerror}") from None
        self._is_listening = True
        self._phase = SERVING
        workers = self._fleet.wanted
        for url in urls_of(self._fleet.addresses, self.config.ssl_certfile is not None):
            error_log.info(
                "Serving on %s with asgiws, %s, %d %s (Ctrl-C to stop)",
                url,
                what_runs(self.config),
                workers,
                "worker" if workers == 1 else "workers",
            )

    def _regulate(self, now: float) -> None:
        """Accept, unless too many wait for a worker or there were no descriptors."""
        accepting = (
            self._is_listening
            and self._phase in (SERVING, LEAVING)
            and now >= self._paused_until
            and len(self._dispatcher.waiting) < WAITING_MOST
        )
        if accepting == self._accepting:
            return
        self._accepting = accepting
        for sock in self._bound.sockets:
            if accepting:
                self._selector.register(
                    sock,
                    selectors.EVENT_READ,
                    lambda sock=sock: self._accept(sock, ACCEPTS_AT_ONCE),
                )
            else:
                self._selector.unregister(sock)

    def _accept(self, listening: socket.socket, most: int) -> None:
        """Accept what waits in a backlog, and hand it over."""
        accepted = []
        for _ in range(most):
            try:
                accepted.append(listening.accept()[0])
            except (BlockingIOError, InterruptedError):
                if self._exhausted:
                    self._exhausted = False
                    error_log.info("All connections that waited are accepted")
                break
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                if not self._exhausted:
                    self._exhausted = True
                    error_log.error("Cannot accept connections for now: %s", exc.strerror)
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                break
        self._dispatcher.give(accepted)
        self._regulate(time.monotonic())

    # Workers.

    def _follow(self, child: Child) -> None:
        """A worker has been started."""
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._hear(child))

    def _hear(self, child: Child) -> None:
        self._fleet.hear(child, self._now)
        if child.channel.over:
            # That its process has ended, the system tells.
            self._selector.unregister(child.channel)

    def _forget(self, child: Child) -> None:
        if not child.channel.over:
            self._selector.unregister(child.channel)

    def _reap(self) -> None:
        """Meet the ends of processes; as process 1 we also have strangers to bury."""
        if os.getpid() == 1:
            self._reap_all()
            return
        for child in tuple(self._fleet.children):
            try:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = child.pid, 0  # somebody else of this program was faster
            if pid:
                self._fleet.ended(child, status, self._now)

    def _reap_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in tuple(self._fleet.children):
                if child.pid == pid:
                    self._fleet.ended(child, status, self._now)

    # Orders.

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals come in through the loop."""
        read, write = socket.socketpair()
        read.setblocking(False)
        write.setblocking(False)
        previous = {number: signal.signal(number, _ignored) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        self._selector.register(read, selectors.EVENT_READ, lambda: self._on_signals(read))
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._selector.close()
            read.close()
            write.close()

    def _on_signals(self, read: socket.socket) -> None:
        numbers = read.recv(4096)
        for number in numbers:
            if number in (signal.SIGINT, signal.SIGTERM):
                self._stop(number)
            elif number == signal.SIGHUP:
                self._restart()
            elif number == signal.SIGTTIN:
                self._fleet.resize(self._fleet.wanted + 1)
            elif number == signal.SIGTTOU:
                self._fleet.resize(self._fleet.wanted - 1)
        self._reap()

    def _stop(self, number: int) -> None:
        """Begin the end, by the terms of that signal; the second one ends the program."""
        self._stops += 1
        if self._stops > 1:
            self._fleet.kill_all()
            os._exit(128 + number)
        why = INTERRUPTED if number == signal.SIGINT else TERMINATED
        self._end(terms(self.config, why))

    def _end(self, ends: Terms) -> None:
        """Begin the end: accepting goes on for the delay, then every worker drains."""
        now = time.monotonic()
        self._terms = ends
        self._leave_at = now
        if self._phase == SERVING and ends.delay:
            self._leave_at += ends.delay
            # With more delay than there will be: it ends by our second word.
            self._fleet.warn_all(ends._replace(delay=ends.delay + HANDING_SECONDS + 5.0))
        self._fleet.ending = True
        self._phase = LEAVING

    def _leave(self, now: float) -> None:
        """Accept what waits in the backlogs, then nothing more, and let every worker drain."""
        for sock in self._bound.sockets if self._accepting else ():
            self._accept(sock, self.config.backlog + 1)
        if self._dispatcher.waiting and now < self._leave_at + HANDING_SECONDS:
            return
        self._phase = ENDING
        self._regulate(now)
        self._bound.close()
        self._fleet.drain_all(self._now, self._terms._replace(delay=0.0))

    def _restart(self) -> None:
        """Read the options anew, and replace every worker."""
        if self._phase != SERVING:
            return
        config = self.config
        if self._reread is not None:
            try:
                config = self._reread()
            except StartupError as error:
                error_log.error("%s: nothing is restarted", error)
                return
        error_log.info("Replacing all workers, one after the other")
        self.config = config
        self._fleet.replace_all(config)


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """What counts is the number in the wake-up descriptor."""
