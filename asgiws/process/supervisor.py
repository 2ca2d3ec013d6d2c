"""The parent of several workers: it accepts, hands over, and keeps them alive.

It is a plain loop over a selector, in one thread. It does not import the application and reads
nothing that a client sends, so there is little in it that could fail or hang.
"""

from __future__ import annotations

import math
import os
import select
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from .._build import build, remarks
from ..errors import BindError, StartupError
from ..log import configure, error_log
from ..options.config import Config, parser
from ..text import counted
from . import upgrade
from .activation import Passed, take_passed, where_to_listen
from .board import Board
from .child import Child, told
from .descriptors import fill_standard_descriptors
from .dispatch import Dispatcher
from .drain import INTERRUPTED, TERMINATED, Terms, terms
from .fleet import Fleet
from .notify import Notifier
from .output import impatient_output
from .signals import HINT_SECONDS, hint
from .sockets import Bound, StreamSocket, url_of

TICK_SECONDS = 0.1
ACCEPTS_AT_ONCE = 64
WAITING_MOST = 256  # accepted connections that wait for a worker; more wait in the kernel
PAUSE_SECONDS = 0.25  # before accepting is tried again, if there were no descriptors
HANDING_SECONDS = 1.0  # for accepted connections to find a worker, when the program ends
REAP_SECONDS = 1.0  # between looks for processes that have ended without a word of the system
CHECK_SECONDS = 300.0  # for the import of the application, before an upgrade
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
    signal.SIGUSR2,
)


class Supervisor:
    """Runs the workers that ``config`` asks for, until SIGINT or SIGTERM.

    ``reread`` gives the options anew, for SIGHUP; it raises ConfigError.
    """

    fleet_type = Fleet

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        self.config = config
        self._reread = reread
        self._selector = selectors.DefaultSelector()
        self._dispatcher = Dispatcher()
        self._fleet: Fleet
        self._bound: Bound
        self._notifier: Notifier
        self._passed: Passed
        self._phase = OPENING
        self._now = 0.0  # the fair clock: it stands still while we do
        self._looked_at = time.monotonic()
        self._first_ready = 0.0
        self._paused_until = 0.0
        self._is_listening = False
        self._is_restarting = False
        self._gave_up = False  # the last restart
        self._accepts: list[Callable[[], None]] = []  # callbacks of the selector, while we accept
        self._exhausted = False
        self._leave_at = 0.0
        self._terms: Terms
        self._check: int | None = None  # the process that looks whether we can be upgraded
        self._check_until = 0.0
        self._reap_at = 0.0
        self._stops = 0  # the number of times that we were told to end
        self._hint_at = math.inf  # when to say how a second Ctrl-C ends it
        self._interrupted = False  # by SIGINT, before anything was served

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises StartupError.

        SIGINT before any worker has served raises KeyboardInterrupt.
        """
        fill_standard_descriptors()
        with impatient_output(terminals=True):
            self._run()

    def _run(self) -> None:
        config = self.config
        configure(config.log_level, config.log_config, config.access_log, config.use_colors)
        passed = self._passed = take_passed(os.environ)
        wanted = where_to_listen(config.addresses, config.listens_by_default, passed)
        self._notifier = Notifier(os.environ)
        before = upgrade.taken_over()
        held = before["bound"] if before else ()
        with Bound(wanted, config.uds_permissions, held) as self._bound, self._signals():
            board = Board(before["board"]) if before else None
            log = before["log"] if before else None
            fleet = self.fleet_type(config, self._bound.names, self._dispatcher, board, log)
            self._fleet = fleet
            fleet.on_start = self._follow
            fleet.on_end = self._forget
            if before:
                self._take_over(before)
            try:
                while not self._is_over():
                    self._look()
                    beat = self._notifier.beat()
                    self._wait(TICK_SECONDS if beat is None else min(TICK_SECONDS, beat))
            finally:
                fleet.kill_all()
                self._end_check()
                self._reap()
        if fleet.failed is not None:
            raise fleet.failed
        if self._interrupted:
            raise KeyboardInterrupt
        error_log.info("Stopped")

    def _is_over(self) -> bool:
        return self._phase == ENDING and not self._fleet.children

    # The loop.

    def _meet(self, key: selectors.SelectorKey) -> None:
        """Read what has come."""
        # An earlier event may have closed it, and its number may belong to another file by now.
        if self._selector.get_map().get(key.fd) is key:
            key.data()

    def _look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        self._now += min(now - self._looked_at, 2 * TICK_SECONDS)
        self._looked_at = now
        fleet = self._fleet
        fleet.look(self._now)
        if self._now > self._check_until:
            self._end_check()
        if self._now >= self._reap_at:
            self._reap_at = self._now + REAP_SECONDS
            self._reap()
        if fleet.failed is not None and self._phase in (OPENING, SERVING):
            self._end(terms(self.config, INTERRUPTED))
        if self._phase == OPENING:
            self._open_when_ready(now)
        elif self._phase == LEAVING and now >= self._leave_at:
            self._leave(now)
        if now >= self._hint_at:
            self._hint_at = math.inf
            hint()
        if self._is_restarting and not fleet.is_replacing:
            self._is_restarting = False
            self._gave_up = fleet.gave_up
            self._settle_config()
            self._notifier.ready(self._status())
        self._dispatcher.recover()
        self._dispatcher.flush()
        self._regulate(now)

    def _wait(self, seconds: float) -> None:
        """Accept, until that time is over or another event has come."""
        until = time.monotonic() + seconds
        while seconds > 0.0:
            for key, _ in self._selector.select(seconds):
                self._meet(key)
                if key.data not in self._accepts:
                    seconds = 0.0
            seconds = min(seconds, until - time.monotonic())

    def _open_when_ready(self, now: float) -> None:
        """Begin to accept: with all workers, or without those that take longer."""
        ready = self._fleet.count("serving")
        if not ready:
            return
        if not self._first_ready:
            self._first_ready = now
        if ready < self._fleet.wanted and now < self._first_ready + TOGETHER_SECONDS:
            return
        self._open()

    def _open(self) -> None:
        """Accept from now on, and say so."""
        self._listen(self.config.backlog)
        self._is_listening = True
        self._phase = SERVING
        workers = counted(self._fleet.wanted, "worker")
        remarked = remarks()  # reads files, and so comes before the word that all is well
        for url in self._urls():
            error_log.info(
                "Serving on %s with asgiws, %s, %s, %s (Ctrl-C to stop)",
                url,
                build(),
                parser(self.config.http),
                workers,
            )
        for remark in remarked:
            error_log.warning(remark)
        self._notifier.ready(self._status())

    def _listen(self, backlog: int) -> None:
        for sock in self._bound.sockets:
            sock.setblocking(False)
            try:
                sock.listen(backlog)
            except OSError as exc:
                raise BindError(f"cannot listen on {sock.getsockname()}: {exc.strerror}") from None

    def _urls(self) -> list[str]:
        return [url_of(name, bool(self.config.ssl_certfile)) for name in self._bound.names]

    def _status(self) -> str:
        """The status that a service manager shows."""
        workers = counted(self._fleet.wanted, "worker")
        status = f"Serving on {', '.join(self._urls())} with {workers}"
        # A signal has no answer, and the manager's command for it succeeds in any case.
        return f"{status}; the last restart was given up, see the log" if self._gave_up else status

    def _regulate(self, now: float) -> None:
        """Accept, unless too many wait for a worker or there were no descriptors."""
        accepting = (
            self._is_listening
            and self._phase in (SERVING, LEAVING)
            and now >= self._paused_until
            and len(self._dispatcher.waiting) < WAITING_MOST
        )
        if not accepting:
            self._accept_no_more()
        elif not self._accepts:
            for sock in self._bound.sockets:
                call = partial(self._accept, sock, ACCEPTS_AT_ONCE)
                self._accepts.append(call)
                self._selector.register(sock, selectors.EVENT_READ, call)

    def _accept_no_more(self) -> None:
        """Leave new connections in the backlogs, until it is regulated anew."""
        if self._accepts:
            self._accepts.clear()
            for sock in self._bound.sockets:
                self._selector.unregister(sock)

    def _accept(self, listening: socket.socket, most: int) -> None:
        """Accept the connections in a backlog, and hand them over."""
        accepted = []
        # Asking whether one more waits costs a quarter of an accept that fails.
        backlog = select.poll()
        backlog.register(listening.fileno(), select.POLLIN)
        for _ in range(most):
            try:
                accepted.append(listening.accept()[0])
                waits = bool(backlog.poll(0))
            except (BlockingIOError, InterruptedError):
                waits = False
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                if not self._exhausted:
                    self._exhausted = True
                    error_log.error("Cannot accept connections for now: %s", exc.strerror)
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                break
            if not waits:
                if self._exhausted:
                    self._exhausted = False
                    error_log.info("All connections that waited are accepted")
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
            # The system tells that its process has ended.
            self._forget(child)

    def _forget(self, child: Child) -> None:
        if child.channel in self._selector.get_map():
            self._selector.unregister(child.channel)

    def _reap(self) -> None:
        """Reap processes that have ended; as process 1 also those of others."""
        if os.getpid() == 1:
            with suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    self._ended(*found)
            return
        own = [child.pid for child in self._fleet.children]
        for pid in own if self._check is None else [*own, self._check]:
            try:
                found = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                found = pid, 0  # other code of this program was faster
            if found[0]:
                self._ended(*found)

    def _ended(self, pid: int, status: int) -> None:
        """A process has ended, which may not be ours."""
        if pid == self._check:
            self._check = None
            self._upgrade_if(status)
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
        # The program before this one has let them wait.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
            elif number == signal.SIGUSR2:
                self._check_upgrade()
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
        self._interrupted = number == signal.SIGINT and not self._fleet.has_served
        if number == signal.SIGINT:
            self._hint_at = time.monotonic() + HINT_SECONDS
        why = INTERRUPTED if number == signal.SIGINT else TERMINATED
        self._end(terms(self.config, why))

    def _end(self, ends: Terms) -> None:
        """Begin the end: accepting goes on for the delay, then every worker drains."""
        now = time.monotonic()
        self._notifier.stopping()
        self._terms = ends
        self._leave_at = now
        if self._phase == SERVING and ends.delay:
            self._leave_at += ends.delay
            # With a longer delay than needed, because a second message ends it.
            self._fleet.warn_all(ends._replace(delay=ends.delay + HANDING_SECONDS))
        self._fleet.ending = True
        self._phase = LEAVING

    def _leave(self, now: float) -> None:
        """Accept the connections in the backlogs, then no more, and let every worker drain."""
        for sock in self._bound.sockets if self._accepts else ():
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
        self._notifier.reloading()
        try:
            config = self.config if self._reread is None else self._reread()
            self._listen_anew(config)
        except StartupError as error:
            error_log.error("%s: nothing is restarted", error)
            self._gave_up = True
            self._notifier.ready(self._status())
            return
        error_log.info("Replacing all workers, one after the other")
        self.config = config
        self._fleet.replace_all(config)
        self._is_restarting = True

    def _settle_config(self) -> None:
        """All workers are replaced; or they are not, and the old options are kept."""
        if self._fleet.config is not self.config:
            self.config = self._fleet.config
            try:
                self._listen_anew(self.config)
            except StartupError as error:
                error_log.error("%s", error)

    def _listen_anew(self, config: Config) -> None:
        """Listen where ``config`` says; sockets that stay keep their backlog. Raises BindError."""
        wanted = where_to_listen(config.addresses, config.listens_by_default, self._passed)
        self._accept_no_more()
        self._bound.change(wanted, config.uds_permissions)
        self._fleet.addresses = self._bound.names
        self._listen(config.backlog)

    def _check_upgrade(self) -> None:
        """Have a child look whether the program would start anew."""
        if self._phase == SERVING and self._check is None:
            error_log.info("Checking whether the program can be executed anew")
            try:
                self._check = upgrade.begin_check()
            except OSError as error:
                error_log.error("The check of the program cannot be started: %s", error.strerror)
            self._check_until = self._now + CHECK_SECONDS

    def _end_check(self) -> None:
        """End the check: it has taken too long, or is not needed any more."""
        if self._check is not None:
            with suppress(ProcessLookupError):
                os.kill(self._check, signal.SIGKILL)

    def _upgrade_if(self, status: int) -> None:
        """The child has ended; execute the program anew if it found no mistake."""
        if status:
            error_log.error("The program would not start (%s): nothing is changed", told(status))
            self._gave_up = True
            self._notifier.status(self._status())
        if status or self._phase != SERVING:
            return
        error_log.info("Executing the program anew, as the same process")
        fleet = self._fleet
        waiting = [sock.fileno() for sock in self._dispatcher.waiting]
        with self._bound.handed_over() as bound:
            state = {"bound": bound, "waiting": waiting, **fleet.handed_over(self._now)}
            try:
                with upgrade.inheritable([*fleet.descriptors, *waiting]):
                    upgrade.execute(state, {**os.environ, **self._passed.variables}, SIGNALS)
            except OSError as error:
                error_log.error(
                    "The program cannot be executed: %s; nothing is changed", error.strerror
                )

    def _take_over(self, state: dict[str, Any]) -> None:
        """Go on where the program before this one has stopped, with new workers."""
        self._fleet.take_over(state, self._now)
        for fd in state["waiting"]:
            sock = StreamSocket(fileno=fd)
            os.set_inheritable(fd, False)
            self._dispatcher.waiting.append(sock)
        os.set_inheritable(state["board"], False)
        os.set_inheritable(state["log"], False)
        self._is_restarting = True
        self._open()
        self._reap()  # those that ended meanwhile


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number in the wake-up descriptor counts."""
