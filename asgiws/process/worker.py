"""One worker of a fleet: a server that gets its connections, and the order to end, from outside.

Its supervisor decides. The worker passes a SIGTERM from another process on to it, and leaves Ctrl-C
in the terminal to it. If the supervisor is gone, the worker drains and ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ..errors import StartupError
from ..fanout.current import Place
from ..http.serving import Serving
from ..log import error_log
from ..options.config import Config
from . import inbox
from .arrivals import Arrivals
from .board import DEBUGGED, Board
from .channel import LARGEST_TEXT, Channel
from .drain import TERMINATED, Terms, terms
from .intake import Intake
from .output import impatient_output
from .server import WATCHDOG_SECONDS, Server
from .signals import aside, leave
from .spawning import PROBE, Spec, read_spec


def main(fd: int) -> None:
    """Run the worker whose Spec is in the file with that descriptor; the program of a worker."""
    signal.signal(signal.SIGINT, _leave_to_the_supervisor)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if sys.stderr is not None:
        faulthandler.enable()  # for the supervisor's SIGABRT: what did it hang in?
    spec = read_spec(fd)
    sys.path[:] = spec.path
    sys.argv[:] = spec.argv
    channel = Channel.adopt(spec.channel)
    if spec.held and not _may_go(channel):
        return
    try:
        worker = Worker(spec, channel)
        # Before the application is imported: that may take long, or never end.
        threading.Thread(target=worker.guard, name="asgiws-guard", daemon=True).start()
        with impatient_output(terminals=False):
            worker.run()
        channel.send("over")
    except StartupError as error:
        channel.send(
            "failed",
            message=str(error)[-LARGEST_TEXT:],
            details=error.details[-LARGEST_TEXT:],
            status=error.exit_code,
        )
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # the application raised it: no Ctrl-C reaches us


def _may_go(channel: Channel) -> bool:
    """Wait for the word to load the application; return whether it came."""
    with suppress(ImportError):
        import uvloop  # noqa: F401  # while there is time
    select.select([channel], [], [])
    order = channel.receive()
    return order is not None and order["kind"] == "go"


def _leave_to_the_supervisor(_number: int, _frame: FrameType | None) -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal."""


class Worker(Server):
    """A server with an inbox in place of listeners, and orders in place of signals."""

    def __init__(self, spec: Spec, channel: Channel) -> None:
        super().__init__(Config(**spec.options))
        self._addresses = spec.addresses
        self._channel = channel
        self._hears = False  # whether the event loop reads the channel
        self._box = inbox.adopt(spec.inbox)
        self._number = spec.number
        self._log = spec.log
        self._topics: Place | None = None
        board = Board(spec.board)
        self._seat = board.seat(spec.seat)
        board.close()

    def _ask_the_manager(self) -> None:
        """Do nothing, because the supervisor speaks with the service manager."""

    def _signals(self) -> Any:
        return _Orders(self._channel)

    @contextmanager
    def _entrance(
        self, loop: asyncio.AbstractEventLoop, serving: Serving, arrivals: Arrivals
    ) -> Iterator[Intake]:
        loop.add_reader(self._channel.fileno(), self._on_order)
        self._hears = True
        signal.signal(PROBE, self._tell_of_debugger)
        yield Intake(loop, self._box, self._seat, serving, arrivals)

    def _announce_end(self) -> None:
        error_log.info("Worker %d (pid %d) has stopped", self._number, os.getpid())

    @property
    def _last_terms(self) -> Terms:
        """The terms by which it ends without a supervisor."""
        return terms(self.config, TERMINATED)._replace(delay=0.0)

    def _place(self, loop: asyncio.AbstractEventLoop) -> Place:
        def mesh(hub: Any) -> Any:
            from ..fanout.mesh import Mesh  # loaded only if topics are used

            def join(known: list[int]) -> None:
                self._channel.send("topics", known=known)

            return Mesh(loop, self._number, join, hub)

        meets = self.config.topics_url is None  # otherwise all workers meet at the broker
        self._topics = Place(self._wanted_topics(self._log), mesh if meets else None)
        return self._topics

    @property
    def _mesh(self) -> Any:
        """The other workers. The hub exists once we have asked for them."""
        assert self._topics is not None
        return self._topics.hub().mesh

    def guard(self) -> None:
        """The thread that ends the process if the supervisor is gone, and the event loop is
        blocked or does not run yet.
        """
        channel = select.poll()
        channel.register(self._channel.fileno(), 0)  # its end comes unasked
        channel.poll()
        if self._hears:
            time.sleep(self._last_terms.most_seconds + WATCHDOG_SECONDS)
            aside(lambda: error_log.error("The event loop is blocked: ending the process"))
        else:
            aside(lambda: error_log.error("The supervisor is gone: this worker ends"))
        leave(1)

    def retire(self, reason: str) -> None:
        self._channel.send("retire", reason=reason)

    def _announce(self) -> None:
        self._channel.send("ready")

    def _tell_of_debugger(self, _number: int, frame: FrameType | None) -> None:
        """The supervisor misses our beat: tell it if we stand in a debugger."""
        while frame is not None:
            if frame.f_globals.get("__name__") == "bdb":
                self._seat.beat = DEBUGGED
                return
            frame = frame.f_back

    def _on_order(self) -> None:
        order = self._channel.receive()
        if self._channel.over:
            assert self._loop is not None
            self._loop.remove_reader(self._channel.fileno())
            error_log.error("The supervisor is gone: this worker drains and ends")
            self.drain(self._last_terms)
        elif order is None:
            pass
        elif order["kind"] == "drain":
            self.drain(Terms(**order["terms"]))
        elif order["kind"] == "joined":
            self._mesh.joined(order["complete"])
        elif "fd" in order:
            self._mesh.meet(order["number"], socket.socket(fileno=order["fd"]))
        else:
            # The other one sees that, and asks again.
            error_log.error(
                "Cannot connect to another worker for now: no file descriptors are left"
            )


class _Orders:
    """In Signals' place: SIGTERM asks the supervisor for a replacement, a second one ends us."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked = False

    def __enter__(self) -> _Orders:
        signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def follow(self) -> None:
        """Do nothing: without a wake-up descriptor the supervisor watches that the end comes."""

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            leave(128 + number)
        self._asked = True
        self._channel.send("retire", reason="SIGTERM")
