"""The application: its environment, its import string, its factory; and its own tracebacks.

Every failure here is an ``AppLoadError`` with one clear message. If the application itself
raised, ``details`` is its traceback without the frames of the import system and of this server.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import AppLoadError, ConfigError
from ..log import TRACE, error_log
from ..options.guess import guesses
from ..text import printable
from .trace import traced

_loading: list[str] = []
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def load_app(
    app: Any, *, app_dir: str = "", factory: bool = False, env_file: str | None = None
) -> Any:
    """The ASGI application that ``app`` is, names or makes. Raises AppLoadError, or ConfigError.

    The arguments are the options of the same names.
    """
    if env_file is not None:
        _load_environment(env_file)
    name = "the application"
    if isinstance(app, str):
        name = printable(app)
        _loading.append(name)
        try:
            app = _import(app, look_first_in(app_dir))
        finally:
            _loading.pop()
    if factory:
        app = _call_factory(app, name)
    elif _is_factory(app):
        error_log.warning("%s is taken for a factory and called: add --factory", name)
        app = _call_factory(app, name)
    _check_application(app, name)
    if not _is_async(app):
        app = _awaiting(app)
    return traced(app) if error_log.isEnabledFor(TRACE) else app


def is_loading() -> bool:
    """Return whether the application is being imported, so that one of its modules calls this."""
    return bool(_loading)


def look_first_in(app_dir: str) -> str:
    """Make ``--app-dir`` the first place of the import path; its absolute path."""
    directory = os.path.abspath(app_dir)
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    return directory


def _load_environment(path: str) -> None:
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError(
            f"--env-file {path}: reading it needs python-dotenv (pip install 'asgiws[dotenv]')"
        ) from None
    try:
        load_dotenv(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--env-file {path}: {printable(str(error))}") from None
    error_log.info("Environment of the application read from %s", path)


def _import(target: str, directory: str) -> Any:
    shown = printable(target)
    module_name, _, path = target.partition(":")
    if not module_name or not path or module_name.endswith(".py") or "/" in module_name:
        raise AppLoadError(
            f'"{shown}" is not an import string: it must be module:attribute, '
            f'as in "{_guess(module_name, path)}"'
        )
    module = _import_module(module_name, shown, directory)
    found: Any = module
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            close = difflib.get_close_matches(attribute, _public(found), n=1)
            hint = f'; did you mean "{close[0]}"?' if close else _elsewhere(directory, module_name)
            raise AppLoadError(
                f'"{shown}": module {printable(module_name)} '
                f'({_file(module)}) has no attribute "{printable(path)}"{hint}'
            ) from None
        except Exception as error:
            raise _raised(f'"{shown}": getting {printable(attribute)} failed', error) from error
    return found


def _import_module(name: str, shown: str, directory: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            modules = [path.stem for path in Path(directory).glob("*.py")]
            close = difflib.get_close_matches(missing, modules, n=1)
            hint = f"; did you mean {close[0]}?" if close else _elsewhere(directory)
            raise AppLoadError(
                f'"{shown}": there is no module {printable(missing)} in {directory}, '
                f"nor is one installed{hint}"
            ) from None
        raise _raised(f'"{shown}": importing it failed', error) from error
    except (Exception, SystemExit) as error:
        raise _raised(f'"{shown}": importing it failed', error) from error


def _guess(module_name: str, path: str) -> str:
    """The import string that the user may have meant instead of the one given."""
    is_file = module_name.endswith(".py")
    name = printable(module_name.removesuffix(".py").strip("./").replace("/", ".") or "main")
    package, _, last = name.rpartition(".")
    if package and not path and not is_file and last in ("app", "application"):
        return f"{package}:{last}"
    return f"{name}:{printable(path) or 'app'}"


def _elsewhere(directory: str, package: str = "") -> str:
    """A hint at an application in another file of the directory, or of a package in it."""
    apps = [guess.app for guess in guesses(directory)]
    found = [app for app in apps if not package or app.startswith(package + ".")]
    return f"; did you mean {printable(found[0])}?" if found else ""


def _public(found: object) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "no file"


def _call_factory(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise AppLoadError(f"{name} is {_a(factory)}: --factory needs something to call")
    signature = _signature(factory)
    if signature is not None and not _takes(signature, 0):
        raise AppLoadError(
            f"{name} cannot be called without arguments: "
            "leave out --factory if it is the application itself"
        )
    try:
        app = factory()
    except (Exception, SystemExit) as error:
        raise _raised(f"{name}: the factory failed", error) from error
    if inspect.iscoroutine(app):
        app.close()
        raise AppLoadError(f"{name} is an async function: a factory must be an ordinary one")
    return app


def _signature(call: Any) -> inspect.Signature | None:
    """The signature of ``call``; None if Python cannot know it."""
    try:
        return inspect.signature(call)
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_async(app: Any) -> bool:
    """True if calling ``app`` gives a coroutine. (A class has its instances' ``__call__``.)"""
    call = None if isinstance(app, type) else app.__call__
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call)


def _is_factory(app: Any) -> bool:
    """Return whether ``app`` must be called without arguments, though ``factory`` is not set.

    An object that takes ``*args`` may be either; it is taken for an application.
    """
    if not callable(app) or _is_async(app) or (signature := _signature(app)) is None:
        return False
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    return _takes(signature, 0) and inspect.Parameter.VAR_POSITIONAL not in kinds


def _check_application(app: Any, name: str) -> None:
    """Refuse what cannot be ``app(scope, receive, send)``, and say what it seems to be."""
    if not callable(app):
        raise AppLoadError(f"{name} is {_a(app)}, not an ASGI application")
    signature = _signature(app)
    if signature is None or _takes(signature, 3):
        return
    if _takes(signature, 0):
        seems = "takes no arguments"
    elif _takes(signature, 2):
        seems = "looks like a WSGI application, which needs an adapter such as a2wsgi"
    elif _takes(signature, 1):
        seems = "looks like an ASGI 2 application, which needs asgiref.compatibility"
    else:
        seems = "takes other arguments"
    raise AppLoadError(f"{name} cannot be called as app(scope, receive, send): it {seems}")


def _a(thing: object) -> str:
    kind = type(thing).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _awaiting(app: Any) -> Any:
    """Wrap ``app`` in a coroutine function: ASGI allows any awaitable, tasks need a coroutine."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


def _raised(message: str, error: BaseException) -> AppLoadError:
    try:
        said = printable(str(error).strip().partition("\n")[0])
    except Exception:  # its own words fail it
        said = ""
    kind = type(error).__name__
    return AppLoadError(
        f"{message}: {kind}: {said}" if said else f"{message}: {kind}", trimmed_traceback(error)
    )


def trimmed_traceback(error: BaseException) -> str:
    """The traceback of ``error`` with the application's frames only, ready to print."""
    whole = traceback.TracebackException.from_exception(error)
    _trim(whole)
    return "".join(whole.format()).rstrip("\n")


def _trim(part: traceback.TracebackException | None) -> None:
    if part is None:
        return
    foreign = [frame for frame in part.stack if not _is_ours(frame.filename)]
    part.stack = traceback.StackSummary.from_list(foreign)
    _trim(part.__cause__)
    _trim(part.__context__)
    for inner in part.exceptions or ():
        _trim(inner)


def _is_ours(filename: str) -> bool:
    """Return whether a frame belongs to the server or to the import system."""
    if filename.startswith("<frozen importlib") or filename == importlib.__file__:
        return True
    return os.path.abspath(filename).startswith(_HERE)
