"""The errors above the wire, each named by who must act and carrying its own answer."""

from __future__ import annotations

import re


class StartupError(Exception):
    """The server cannot start; the user at the terminal must act.

    ``str(error)`` is the one message to print; it names the option, the import or the address.
    """

    exit_code: int = 1
    """The exit status of the process."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details: str = details
        """The traceback of an application that raised, trimmed to the application; or ""."""


class ConfigError(StartupError):
    """An option is unknown, of the wrong type or out of range; the message says where it stood."""

    exit_code = 2


class AppLoadError(StartupError):
    """The application cannot be imported, is not an ASGI application, or its factory raised."""

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
    """A request that the server itself answers with ``status``; then the connection closes.

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


# The names that ASGI uses: websocket.disconnect, http.disconnect; and Django's RequestAborted.
# aiohttp's ServerDisconnectedError is not one of them, because it is about another connection.
_DISCONNECT = re.compile(
    "(web_?socket|client|http|request)?_?disconnect|requestaborted", re.IGNORECASE
)


def tells_of_disconnect(exc: BaseException | None) -> bool:
    """Return whether ``exc`` only tells that the client is gone, and is not an error.

    Ask only if the client is gone, or the application has been told so. These exceptions tell it:

    - our ClientDisconnected, or ApplicationCancelled: the application has cancelled itself;
    - an exception whose class, or a base class of it, is named after ASGI's event. Frameworks
      raise these when ``receive`` returns it: WebSocketDisconnect, ClientDisconnect. Django's
      RequestAborted is one of them;
    - an exception that was raised *from* one of them, or *from None* in its place;
    - a RuntimeError that was raised while one of them was handled, by the same module: a
      framework says in this way that a closed connection was used again;
    - a group that has nothing else in it.

    Any other exception that is raised while one of them is handled is the application's error.
    """
    seen = set()  # an exception can be its own cause: raise error from error
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if isinstance(exc, BaseExceptionGroup):
            return all(tells_of_disconnect(part) for part in exc.exceptions)
        if isinstance(exc, ClientDisconnected | ApplicationCancelled):
            return True
        if any(_DISCONNECT.match(kind.__name__) for kind in type(exc).__mro__):
            return True
        before = exc.__cause__
        if before is None and exc.__suppress_context__:
            before = exc.__context__
        elif before is None and isinstance(exc, RuntimeError):
            before = exc.__context__
            if before is not None and _raised_in(before) != _raised_in(exc):
                return False
        exc = before
    return False


def _raised_in(exc: BaseException) -> str | None:
    """The name of the module that raised ``exc``; None if it was not raised."""
    module = None
    step = exc.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__")
        step = step.tb_next
    return module


class TopicError(ValueError):
    """A call of ``asgiws.topics`` with wrong arguments; the message says which are right."""


class BusUnavailable(OSError):
    """A message was not published, because the other workers, or a broker, do not answer."""
