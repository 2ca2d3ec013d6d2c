"""The errors above the wire, each named by who must act and carrying its own answer."""

from __future__ import annotations

import re


class StartupError(Exception):
    """The server cannot start; the user at the terminal must act.

    ``str(error)`` is the one message to print (it names the option, the import
    or the address), ``details`` the application's own traceback where it raised,
    trimmed to the application, and ``exit_code`` the process's exit status.
    """

    exit_code = 1

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class ConfigError(StartupError):
    """An option is unknown, of the wrong type or out of range; the message says where it stood."""

    exit_code = 2


class AppLoadError(StartupError):
    """The application cannot be imported, is no ASGI application, or its factory raised."""

    exit_code = 3


class BindError(StartupError):
    """An address cannot be listened on."""

    exit_code = 4


class LifespanError(StartupError):
    """The application's lifespan failed at startup."""

    exit_code = 5


class WorkerFailed(StartupError):
    """No worker process could start; ``exit_code`` is that of the one that tried."""

    def __init__(self, message: str, details: str, exit_code: int) -> None:
        super().__init__(message, details)
        self.exit_code = exit_code


class RequestRefused(Exception):
    """A request that is answered ``status`` by the server itself; then the connection closes.

    ``reason`` is a short sentence for the response's body.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class ClientDisconnected(OSError):
    """Raised by ``send`` once the client is gone (ASGI 2.4, "Send"). Never logged as an error."""


class ASGIError(RuntimeError):
    """The application broke ASGI; the message says what was expected and what came."""


class ApplicationCancelled(RuntimeError):
    """A call of the application was cancelled, and not by the server."""


# As ASGI calls it: websocket.disconnect, http.disconnect. aiohttp's ServerDisconnectedError
# is not among them: it tells of another connection.
_DISCONNECT = re.compile("(web_?socket|client|http|request)?_?disconnect", re.IGNORECASE)


def tells_of_disconnect(exc: BaseException | None) -> bool:
    """Whether ``exc`` only tells that the client is gone, and is not an error.

    To be asked where the application has been told so. It may come back as:

    - our ClientDisconnected, or a cancellation: the application has ended itself;
    - an exception of a class, or a base class, that is named after ASGI's event, as those
      that frameworks raise when ``receive`` brings it: WebSocketDisconnect, ClientDisconnect;
    - what was raised *from* one of them;
    - a RuntimeError that a module raised while one that it had raised itself was handled:
      what a framework says of the next use of a connection that is over;
    - a group of nothing else.

    What is otherwise raised while one is handled is an error of the application's.
    """
    seen = set()  # raise error from error
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if isinstance(exc, BaseExceptionGroup):
            return all(tells_of_disconnect(part) for part in exc.exceptions)
        if isinstance(exc, ClientDisconnected | ApplicationCancelled):
            return True
        if any(_DISCONNECT.match(kind.__name__) for kind in type(exc).__mro__):
            return True
        before = exc.__cause__
        if before is None and isinstance(exc, RuntimeError):
            before = exc.__context__
            if before is not None and _raised_in(before) != _raised_in(exc):
                return False
        exc = before
    return False


def _raised_in(exc: BaseException) -> str | None:
    """The name of the module that raised ``exc``; None if nobody did."""
    module = None
    step = exc.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__")
        step = step.tb_next
    return module


class TopicError(ValueError):
    """A call of ``asgiws.topics`` that asks for what cannot be; the message says what could."""


class BusUnavailable(OSError):
    """A publication was not taken: the broker, or who shares the memory, does not answer."""
