"""The objects that the connections of one event loop share: application, registry, limits."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from email.utils import formatdate
from time import time
from types import CoroutineType
from typing import Any, Final, NamedTuple

try:
    import cython
except ImportError:
    from ..wire import _nocython as cython

from ..asgi import ASGIApp, Receive, Scope, Send
from ..errors import ApplicationCancelled
from ..websocket.pulse import Pulse
from ..wire.host import Hosts
from ..wire.origin import Origins
from .admission import Admission
from .calling import call
from .forwarded import Proxies
from .heads import Llhttp
from .notice import DrainNotice
from .scope import Server, server_of

# The phases of the server's end, in this order.
SERVING: Final = 0
RETIRING: Final = 1  # responses say that the connection closes; idle ones end late
DRAINING: Final = 2  # idle connections end; handshakes are still decided, streams go on
STOPPING: Final = 3  # no handshake is begun, streams end


class Limits(NamedTuple):
    """The limits of HTTP: sizes in bytes, times in seconds, None for no limit."""

    max_head: int
    request_head: float
    request_body: float | None
    keep_alive: float
    write: float | None
    concurrency: int | None
    root_path: str
    pathsend: bool


class DefaultHeaders:
    """The header lines that every response gets unless the application gives its own.

    ``headers`` are those of ``--header``; ``date`` and ``server`` say whether these two
    are sent.
    """

    __slots__ = ("_date", "_given", "_joined", "_lines", "_second", "_server")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], date: bool, server: bool) -> None:
        self._given = headers
        self._date = date
        self._server = server
        self._lines: dict[bytes, bytes] = {}
        self._joined = b""
        self._second = -1.0

    def __call__(self, given: Collection[bytes] = ()) -> bytes:
        """The lines, without those whose names are ``given``."""
        now: float = time()
        if not 0.0 <= now - self._second < 1.0:
            self._second = int(now)
            self._lines = self._make(int(now))
            self._joined = b"".join(self._lines.values())
        for name in self._lines:
            if name in given:
                return b"".join([line for n, line in self._lines.items() if n not in given])
        return self._joined

    def _make(self, now: int) -> dict[bytes, bytes]:
        """The lines of one second, by name."""
        lines: dict[bytes, bytes] = {}
        for name, value in self._given:
            lines[name] = lines.get(name, b"") + name + b": " + value + b"\r\n"
        if self._date:
            lines.setdefault(b"date", b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n")
        if self._server:
            lines.setdefault(b"server", b"server: asgiws\r\n")
        return lines


ENDED: Final = object()


class Call:
    """The coroutine of one call of the application: however it ends, nothing else fails with it.

    A coroutine function around the application's would take 200 bytes more for each open
    connection. Tools that show what a task does (``Task.print_stack``, dumps of all tasks)
    find the application's frame here.
    """

    __slots__ = ("_call", "_cancelled", "_coroutine")

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        cancelled: Collection[asyncio.Task[None]],
    ) -> None:
        """``cancelled`` holds the tasks that the server has cancelled itself."""
        self._call: tuple[ASGIApp, Scope, Receive, Send] | None = (app, scope, receive, send)
        self._cancelled = cancelled
        self._coroutine: Any = None

    # The methods of a coroutine (PEP 492).

    def __await__(self) -> Call:
        return self

    def __iter__(self) -> Call:
        return self

    def __next__(self) -> Any:
        """Run the application until it waits; the first time, call it."""
        try:
            if self._coroutine is None:
                self._begin()
            if not cython.compiled:
                return self._coroutine.send(None)
            waits = step(self._coroutine)  # type: ignore[name-defined] # noqa: F821
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as exc:
            return self._fail(exc)
        if waits is ENDED:
            raise StopIteration
        return waits

    def send(self, value: Any) -> Any:
        """The same; ``value`` is what it gets, which is None from a task."""
        try:
            if self._coroutine is None:
                self._begin()
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as exc:
            return self._fail(exc)

    def throw(self, *exception: Any) -> Any:
        """Raise an exception where the application waits."""
        try:
            return self._begun().throw(*exception)
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as exc:
            return self._fail(exc)
        finally:
            exception = ()  # see _fail

    def close(self) -> None:
        """Raise GeneratorExit where the application waits."""
        self._begun().close()

    def __getattr__(self, name: str) -> Any:
        """The name, the frame and what else is read of a coroutine: it is the application's."""
        if self._coroutine is not None:
            return getattr(self._coroutine, name)
        # Task factories and dumps of all tasks look before the first step as well.
        unbegun = call(self)
        try:
            return getattr(unbegun, name)
        finally:
            unbegun.close()

    def _begin(self) -> None:
        # An application need not be a coroutine function: an exception of the call itself must
        # end up in the task as well.
        assert self._call is not None
        app, scope, receive, send = self._call
        self._call = None
        try:
            coroutine = app(scope, receive, send)
        except StopIteration as exc:
            # From here it would say that the coroutine has returned.
            raise RuntimeError("the application raised StopIteration") from exc
        self._coroutine = coroutine if type(coroutine) is CoroutineType else call(coroutine)

    def _begun(self) -> Any:
        """The application's coroutine; one that has ended before its first step if none runs."""
        if self._coroutine is None:
            self._coroutine = call(self)
        return self._coroutine

    def _fail(self, exc: Any) -> Any:
        try:
            if not isinstance(exc, asyncio.CancelledError):
                # A task would let these out of the event loop, which would end the whole server.
                raise RuntimeError(f"the application raised {type(exc).__name__}") from exc
            if asyncio.current_task() in self._cancelled:
                raise exc
            raise ApplicationCancelled(
                "the application was cancelled, and not by the server"
            ) from exc
        finally:
            # Interpreted, its traceback holds this frame, which would hold it: a cycle.
            exc = None


class Serving:
    """One application on one event loop, and everything that is alive in it.

    ``connections`` holds every open connection, HTTP and WebSocket alike (anything
    with a ``shutdown(code, reason)``, an ``abort()`` and a ``standing``, one of
    websocket.states), ``tasks`` every running call of the application, with who has
    called it. An object leaves when it ends, never earlier: when both are empty the server is
    drained.
    ``phase`` is one of SERVING, RETIRING, DRAINING and STOPPING.
    """

    __slots__ = (
        "_cancelled",
        "_first",
        "_first_timer",
        "_on_done",
        "_server",
        "_sockname",
        "_writers",
        "admission",
        "app",
        "connections",
        "default_headers",
        "ended",
        "heads",
        "hosts",
        "limits",
        "loop",
        "notice",
        "origins",
        "phase",
        "proxies",
        "state",
        "tasks",
        "websockets",
    )

    def __init__(
        self,
        app: ASGIApp,
        loop: asyncio.AbstractEventLoop,
        state: dict[str, Any],
        limits: Limits,
        websockets: Pulse,
        hosts: Hosts | None,
        origins: Origins,
        proxies: Proxies | None,
        default_headers: DefaultHeaders,
        notice: DrainNotice,
        admission: Admission | None = None,
        heads: Llhttp | None = None,
    ) -> None:
        """``state`` is the lifespan's, ``notice`` what all scopes tell of the drain.

        ``hosts`` is None if every host is allowed, ``proxies`` is None if none is believed,
        ``admission`` is None if handshakes begin as they come. ``heads`` reads the heads of
        requests before h11 does.
        """
        self.app = app
        self.loop = loop
        self.state = state
        self.limits = limits
        self.websockets = websockets
        self.hosts = hosts
        self.origins = origins
        self.proxies = proxies
        self.default_headers = default_headers
        self.notice = notice
        self.admission = admission
        self.heads = heads
        self.connections: set[Any] = set()
        #: called when a connection has ended, if they are counted
        self.ended: Callable[[], object] | None = None
        # One callback for all calls takes less memory than one for each.
        self.tasks: dict[asyncio.Task[None], Any] = {}
        self.phase = SERVING
        self._cancelled: set[asyncio.Task[None]] = set()
        self._on_done = self._ended
        self._writers: list[Any] = []
        # A dict takes long to find its first entry if many in front of it were deleted.
        self._first: OrderedDict[Any, float] = OrderedDict()
        self._first_timer: asyncio.TimerHandle | None = None
        self._sockname: Any = None
        self._server: Server | None = None

    def address(self, sockname: Any) -> Server | None:
        """Our own address in a scope: one object for all connections that follow on each other."""
        if sockname != self._sockname:
            self._sockname = sockname
            self._server = server_of(sockname)
        return self._server

    def await_first(self, connection: Any) -> float:
        """Call the ``first_is_due`` of a new connection in time; return the time.

        One timer serves all connections whose first request has not come. Most requests come at
        once, and a timer for each connection would cost more than what it waits for.
        """
        when: float = self.loop.time() + self.limits.request_head
        self._first[connection] = when
        if self._first_timer is None:
            self._first_timer = self.loop.call_at(when, self._look_at_first)
        return when

    def first_came(self, connection: Any) -> None:
        """The first request of the connection has come, or will not come."""
        self._first.pop(connection, None)

    def _look_at_first(self) -> None:
        self._first_timer = None
        now: float = self.loop.time()
        while self._first:
            connection, when = next(iter(self._first.items()))  # the one that came first
            if when > now:
                self._first_timer = self.loop.call_at(when, self._look_at_first)
                return
            del self._first[connection]
            connection.first_is_due()

    def full(self) -> bool:
        """Return whether ``--limit-concurrency`` is exceeded: the next request is answered 503."""
        limit = self.limits.concurrency
        return limit is not None and (len(self.connections) > limit or len(self.tasks) >= limit)

    def start(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        context: Context,
        caller: Any,
    ) -> asyncio.Task[None]:
        """Call the application in ``context``; ``caller.app_done(task)`` is called when it ends.

        With an eager task factory the application runs before this returns.
        """
        coroutine: Any = Call(self.app, scope, receive, send, self._cancelled)
        task = self.loop.create_task(coroutine, context=context)
        self.tasks[task] = caller
        task.add_done_callback(self._on_done, context=context)
        return task

    def forget(self, connection: Any) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        if self.ended is not None:
            self.ended()

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a call of the application, for the server's own reasons."""
        self._cancelled.add(task)
        task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._cancelled.discard(task)
        self.tasks.pop(task).app_done(task)

    def flush_soon(self, writer: Any) -> None:
        """Call its ``flush`` when the event loop has come round."""
        if not self._writers:
            self.loop.call_soon(self._flush)
        self._writers.append(writer)

    def _flush(self) -> None:
        writers = self._writers
        self._writers = []
        for writer in writers:
            writer.flush()


class Counting(Serving):
    """The same, with every call of the application counted."""

    count: Callable[[], object]

    def start(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        context: Context,
        caller: Any,
    ) -> asyncio.Task[None]:
        """Call ``count`` and then the application."""
        self.count()
        return super().start(scope, receive, send, context, caller)
