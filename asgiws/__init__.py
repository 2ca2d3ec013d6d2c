"""An ASGI server whose speciality is WebSocket."""

from ._build import build, select

select()

from .asgi import Application, ASGIApp, Event, Receive, Scope, Send  # noqa: E402
from .http.notice import DrainNotice  # noqa: E402
from .options.config import Config  # noqa: E402
from .options.typed import Options  # noqa: E402
from .process.program import run  # noqa: E402
from .process.server import Server  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "ASGIApp",
    "Application",
    "Config",
    "DrainNotice",
    "Event",
    "Options",
    "Receive",
    "Scope",
    "Send",
    "Server",
    "__version__",
    "build",
    "run",
]
