"""The ASGI lifespan: the application's start and end around those of the server."""

from __future__ import annotations

import asyncio
from typing import Any

from ..asgi import ASGIApp, Event
from ..errors import ASGIError, LifespanError
from ..http.notice import EXTENSION, DrainNotice
from ..http.scope import TOPICS
from ..log import error_log
from .importer import trimmed_traceback

STARTUP_ANSWERS = ("lifespan.startup.complete", "lifespan.startup.failed")
LAST_SECONDS = 1.0  # for an application that has failed to start, and has said so


class Lifespan:
    """Runs the application's lifespan (ASGI "Lifespan Protocol", version 2.0).

    ``mode`` is that of ``--lifespan``: with ``auto`` an application that raises an
    ``Exception`` before it has answered lifespan.startup is taken to have none. An application
    that wants to exit (SystemExit) has failed to start. ``state`` is the application's, to be
    copied into every scope; ``notice`` tells of the drain in its scope, too.
    """

    def __init__(self, app: ASGIApp, mode: str, notice: DrainNotice) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._notice = notice
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[Event] | None = None
        self._phase = ""
        self._error: BaseException | None = None
        self._given_up = False

    async def startup(self) -> None:
        """Start the application; raises LifespanError where it fails."""
        if self._mode == "off":
            return
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
            "extensions": {EXTENSION: self._notice, TOPICS: {}},
        }
        loop = asyncio.get_running_loop()
        # Before the call: with an eager task factory it begins here.
        self._tell("startup")
        task = self._task = loop.create_task(self._call(scope))
        answer = await self._answered(task)
        if answer is not None and answer["type"] == "lifespan.startup.complete":
            return
        self._task = None
        if answer is not None:
            # Frameworks raise after this answer, and what they raise is in its message.
            await asyncio.wait([task], timeout=LAST_SECONDS)
            task.cancel()
            raise LifespanError("the application failed to start", _message(answer))
        exc = self._error
        if self._mode == "auto" and (exc is None or isinstance(exc, Exception)):
            error_log.info(
                "The application has no lifespan (%s)",
                "it returned" if exc is None else type(exc).__name__,
            )
        elif exc is not None:
            raise LifespanError("the application's lifespan raised", trimmed_traceback(exc))
        else:
            raise LifespanError("the application's lifespan ended before startup was complete")

    async def shutdown(self, patience: float) -> None:
        """End the application; logs if it fails, or takes longer than ``patience`` seconds."""
        task = self._task
        if task is None:
            return
        try:
            async with asyncio.timeout(patience):
                self._tell("shutdown")
                answer = await self._answered(task)
                if answer is not None:
                    await asyncio.wait([task])
        except TimeoutError:
            error_log.error("The application's lifespan did not end within %g s", patience)
            task.cancel()
            return
        exc = self._error
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            for line in ("The application failed to stop", *_message(answer).split("\n")):
                error_log.error("%s", line)
        elif exc is not None:
            error_log.error("Exception in the application's lifespan", exc_info=exc)

    def cancel(self) -> None:
        """Give up on an application that has not started or ended."""
        self._given_up = True
        if self._task is not None:
            self._task.cancel()

    async def _call(self, scope: dict[str, Any]) -> None:
        try:
            # An exception of a plain function, raised by the call, must end up here as well.
            await self._app(scope, self._events.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            # The exception is kept, because a SystemExit from a task would stop the event loop.
            self._error = exc

    def _tell(self, phase: str) -> None:
        """Send ``lifespan.<phase>``."""
        self._phase = phase
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{phase}"})

    async def _answered(self, task: asyncio.Task[None]) -> Event | None:
        """Return the answer to the event, or None if the application ended without one."""
        answer = self._answer
        assert answer is not None
        waiting: list[asyncio.Future[Any]] = [task, answer]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None

    async def _send(self, event: Event) -> None:
        if self._given_up and event.get("type") in STARTUP_ANSWERS:
            return  # Starlette reports that it was cancelled; nobody waits for the answer
        allowed = [f"lifespan.{self._phase}.complete", f"lifespan.{self._phase}.failed"]
        if self._answer is None or self._answer.done() or event.get("type") not in allowed:
            raise ASGIError(f"expected one of {' or '.join(allowed)}, once, got {event!r:.200}")
        self._answer.set_result(event)


def _message(answer: Event) -> str:
    """The application's own words about its failure, whatever type they have."""
    return str(answer.get("message", ""))
