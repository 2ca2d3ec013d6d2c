"""--reload: one worker, and as soon as a file has changed another one with the new code.

The old worker ends at once, whatever is connected, and the new one starts when it is gone, because
both may want the same files and ports of the application's. Connections that come meanwhile
wait. After a worker cannot start, or dies, none is started until a file has changed, because it
would only fail in the same way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import ConfigError, StartupError
from ..log import error_log
from ..options.config import Config
from . import supervisor
from .child import DRAINING, HELD, KILLED, NEVER, SERVING, STARTING, Child, told
from .drain import RELOADED, Terms, terms
from .fleet import Fleet, tell_details, why_not_started
from .spawning import start
from .supervisor import Supervisor
from .watcher import Watched

PATIENCE_SECONDS = 0.1  # for calls of the application, before they are cancelled
BLOCKED_SECONDS = 0.3  # for an event loop that is blocked, when its worker is to end
REST_SECONDS = 0.5  # after a start, before the interpreter of the next one is started
HOLD_AGAIN_SECONDS = 5.0  # between two tries to start it
EXIT_SECONDS = 1.0  # for a process whose event loop is closed
MOST_SECONDS = 3.0  # for a worker to end, though its event loop runs: lifespan.shutdown
SETTLED_SECONDS = 10.0  # a watcher that lives longer is one that works
LONGEST_PAUSE = 30.0
MOST_NAMED = 3
TERMINAL = 0  # standard input


class Watcher:
    """The program that watches files, as its parent sees it."""

    def __init__(self, watched: Watched) -> None:
        self.started = time.monotonic()
        self.over = False
        self._rest = b""
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        statement = f"main({watched.to_json()!r}, {write})"
        try:
            self.pid = start(f"from {__package__}.watcher import main; {statement}", (write,))
        except BaseException:
            os.close(self._read)
            raise
        finally:
            os.close(write)

    def fileno(self) -> int:
        """The descriptor that a selector waits on."""
        return self._read

    def lines(self) -> list[dict[str, Any]]:
        """The lines that it has written since; ``over`` tells whether it has ended."""
        data = self._rest
        while not self.over:
            try:
                more = os.read(self._read, 65_536)
            except BlockingIOError:
                break
            self.over = not more
            data += more
        *whole, self._rest = data.split(b"\n")
        return [json.loads(line) for line in whole]

    def end(self) -> int:
        """End it; its status as waitpid has it."""
        os.close(self._read)
        if not self.over:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return 0  # other code of this program was faster


class OneWorker(Fleet):
    """A fleet of one, whose next worker starts when it is gone, and not after a failure.

    The interpreter of the next one is started before, and waits for its turn. This is most of the
    time that a small application takes to start.
    """

    _hold_at = 0.0

    def replace_all(self, config: Config) -> None:
        """End the worker at once, and start another one, with these options."""
        if config != self.config:
            self._end_held()
        self.config = config
        self._generation += 1
        self._next_start = 0.0

    def dismiss(self, now: float) -> None:
        """End the worker at once, with the program."""
        self.ending = True
        self._generation += 1
        self._end_held()
        self._end_old(now)

    def look(self, now: float) -> None:
        self._end_old(now)
        super().look(now)
        for child in self.children:
            if child.state != DRAINING:
                continue
            if child.is_over:
                child.kill_at = min(child.kill_at, now + EXIT_SECONDS)
            elif now - child.since > BLOCKED_SECONDS and not _runs(child):
                error_log.warning("%s is blocked: killing it", child)
                child.kill(now)
        if not self.ending and not self.count(HELD) and self._is_at_rest(now):
            next_start = self._next_start
            self._start(now, held=True)
            if not self.count(HELD):
                # The next interpreter could not be started, which changes nothing for the worker.
                self._next_start = next_start
                self._hold_at = now + HOLD_AGAIN_SECONDS

    def _end_old(self, now: float) -> None:
        """End the worker with the old code or options."""
        for child in self.children:
            if child.generation == self._generation:
                continue
            if child.state == STARTING:
                child.kill(now)
            elif child.state == SERVING:
                self._retract(child)
                child.drain(now, terms(self.config, RELOADED))
                child.kill_at = now + MOST_SECONDS

    def _end_held(self) -> None:
        for child in self.children:
            if child.state == HELD:
                child.kill(0.0)

    def resize(self, wanted: int) -> None:
        error_log.warning("One worker runs with --reload, not %d", wanted)

    def _is_at_rest(self, now: float) -> bool:
        """True if there is time for the next interpreter: the worker has started, or failed."""
        if now < self._hold_at:
            return False
        if self._next_start == NEVER:
            return not self.children
        return any(c.state == SERVING and now - c.since > REST_SECONDS for c in self.children)

    def _replace(self, now: float) -> None:
        for child in self.children:
            if child.retires and child.generation == self._generation:
                error_log.info("%s is replaced: %s", child, child.retires)
                self.replace_all(self.config)

    def _balance(self, now: float) -> None:
        if self.count(STARTING, SERVING, DRAINING, KILLED) or now < self._next_start:
            return
        for child in self.children:
            if child.state == HELD:
                child.let_go(self._generation, now)
                return
        super()._balance(now)

    def _died(self, child: Child, status: int, now: float) -> None:
        if child.generation == self._generation:
            self._next_start = NEVER
            error_log.error("%s died: %s; waiting for a file to change", child, told(status))

    def _failed(self, child: Child, status: int, now: float) -> None:
        if child.generation == self._generation and child.state != HELD:
            self._next_start = NEVER
            tell_details(child)
            message = why_not_started(child, status)
            error_log.error("%s; waiting for a file to change", message)


def _runs(child: Child) -> bool:
    """Return whether its event loop has run lately."""
    return child.receiver.runs(time.monotonic_ns())


class Reloader(Supervisor):
    """Runs the one worker, with the code as it is now, until SIGINT or SIGTERM.

    ``reread`` gives the options anew, which may come from the file ``options_file``.
    """

    fleet_type = OneWorker
    _fleet: OneWorker

    def __init__(
        self, config: Config, reread: Callable[[], Config] | None = None, options_file: str = ""
    ) -> None:
        super().__init__(config, reread)
        self.config = _of_one_worker(config)
        self._given = config
        self._options_file = os.path.abspath(options_file) if options_file else ""
        self._watched = what_to_watch(config, self._options_file)
        self._watcher: Watcher | None = None
        self._unwatched_since = time.time()
        self._watch_at = 0.0  # when the next watcher is started
        self._pause = 1.0
        self._terminal = _terminal()

    # The loop.

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises StartupError."""
        try:
            super().run()
        finally:
            if self._watcher is not None:
                self._watcher.end()

    def _open_when_ready(self, now: float) -> None:
        self._open()  # connections wait for the worker, should it never be ready

    def _open(self) -> None:
        super()._open()
        if self._given.workers > 1:
            error_log.warning("One worker runs with --reload, not %d", self._given.workers)
        error_log.info("Watching %s for changes", ", ".join(self._watched.directories))

    def _look(self) -> None:
        super()._look()
        if (
            self._watcher is None
            and self._phase != supervisor.ENDING
            and time.monotonic() >= self._watch_at
        ):
            self._watch()

    def _watch(self) -> None:
        watched = dataclasses.replace(self._watched, since=self._unwatched_since)
        try:
            watcher = self._watcher = Watcher(watched)
        except OSError as error:
            self._watch_later()
            error_log.error("Files cannot be watched for now: %s", error.strerror)
            return
        self._selector.register(watcher, selectors.EVENT_READ, lambda: self._heed(watcher))

    def _watch_later(self, lived: float = 0.0) -> None:
        """Start the watcher after a pause, which gets longer as long as it ends early."""
        self._pause = 1.0 if lived > SETTLED_SECONDS else min(2 * self._pause, LONGEST_PAUSE)
        self._watch_at = time.monotonic() + self._pause

    def _unwatch(self) -> int:
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return 0
        self._selector.unregister(watcher)
        self._unwatched_since = time.time()
        return watcher.end()

    def _heed(self, watcher: Watcher) -> None:
        for line in watcher.lines():
            if "problem" in line:
                error_log.warning("%s", line["problem"])
            elif self._phase == supervisor.SERVING:
                self._restart_for(line["changed"], line["count"])
        if watcher.over and watcher is self._watcher:
            self._watch_later(time.monotonic() - watcher.started)
            ended = told(self._unwatch())
            error_log.error("The watcher of files has ended: %s; starting it again", ended)

    def _forget(self, child: Child) -> None:
        """A worker has ended, perhaps in a debugger that had changed the terminal."""
        super()._forget(child)
        with suppress(OSError, termios.error):  # it is closed, or another session's
            # In the background it is not ours, and we would be stopped.
            if self._terminal and os.tcgetpgrp(TERMINAL) == os.getpgrp():
                termios.tcsetattr(TERMINAL, termios.TCSANOW, self._terminal)

    # Orders.

    def _restart_for(self, paths: list[str], count: int) -> None:
        """That number of files have changed, ``paths`` among them."""
        # The change in the file of the options may concern other programs.
        self._restart_anew(f"{_named(paths, count)} changed", paths == [self._options_file])

    def _restart(self) -> None:
        if self._phase == supervisor.SERVING:
            self._restart_anew("SIGHUP")

    def _restart_anew(self, why: str, only_for_options: bool = False) -> None:
        """Read the options and restart; nothing is restarted if they are wrong."""
        self._notifier.reloading()
        try:
            given = self._given if self._reread is None else self._reread()
            if only_for_options and given == self._given:
                error_log.debug("%s, but none of the options in it", why)
            else:
                self._restart_with(given)
                error_log.info("%s: restarting", why)
        except StartupError as error:
            error_log.error("%s: nothing is restarted", error)
        self._notifier.ready(self._status())

    def _restart_with(self, given: Config) -> None:
        config = _of_one_worker(given)
        watched = what_to_watch(given, self._options_file)
        self._listen_anew(config)
        self._given = given
        self.config = config
        self._fleet.replace_all(config)
        if watched != self._watched:
            self._watched = watched
            self._unwatch()

    def _check_upgrade(self) -> None:
        error_log.warning("SIGUSR2 does nothing with --reload")

    def _end(self, ends: Terms) -> None:
        """End the worker at once, with the program."""
        self._notifier.stopping()
        self._phase = supervisor.ENDING
        self._regulate(time.monotonic())
        self._bound.close()
        self._fleet.dismiss(self._now)


def _terminal() -> list[Any]:
    """The settings of the terminal; nothing if there is none."""
    try:
        return termios.tcgetattr(TERMINAL)
    except termios.error:
        return []


def _of_one_worker(config: Config) -> Config:
    """The same options for a worker that is not watched, and that ends without waiting."""
    return dataclasses.replace(
        config,
        workers=1,
        reload=False,
        reload_dirs=(),
        timeout_worker_healthcheck=None,
        timeout_worker_start=None,
        timeout_graceful_shutdown=PATIENCE_SECONDS,
        drain_window=0.0,
    )


def what_to_watch(config: Config, options_file: str) -> Watched:
    """The directories and files that the options name."""
    directories = config.reload_dirs or (os.getcwd(), config.app_dir or ".")
    if not config.reload_dirs and os.sep in map(os.path.abspath, directories):
        raise ConfigError(
            "--reload: / cannot be watched as a whole; name directories with --reload-dir"
        )
    files = (options_file, config.env_file, config.log_config)
    return Watched.of(
        dict.fromkeys(map(os.path.abspath, directories)),
        config.reload_includes,
        config.reload_excludes,
        [file for file in files if file and isinstance(file, str)],
        config.reload_delay,
    )


def _named(paths: list[str], count: int) -> str:
    """Words for the files that have changed; ``paths`` are the first of them."""
    here = os.getcwd() + os.sep
    names = [path.removeprefix(here) for path in paths[:MOST_NAMED]]
    if count > len(names):
        names.append(f"{count - len(names)} more")
    *most, last = names
    return f"{', '.join(most)} and {last} have" if most else f"{last} has"
