"""The errors above the wire, each named by who must act and carrying its own answer."""

from __future__ import annotations


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


class TopicError(ValueError):
    """A call of ``asgiws.topics`` that asks for what cannot be; the message says what could."""


class BusUnavailable(OSError):
    """A publication was not taken: the broker, or who shares the memory, does not answer."""
