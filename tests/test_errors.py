"""The errors above the wire: who must act, and the status that a process ends with."""

from __future__ import annotations

from types import ModuleType


def test_every_failed_start_has_an_exit_status_of_its_own(package: ModuleType) -> None:
    errors = package.errors
    kinds = errors.StartupError.__subclasses__()
    # That of a worker is the worker's.
    codes = [kind.exit_code for kind in kinds if kind is not errors.WorkerFailed]
    assert len(set(codes)) == len(codes) >= 4
    assert 0 not in codes
    assert errors.StartupError.exit_code not in codes


def test_a_failed_start_has_a_message_and_the_application_s_traceback(package: ModuleType) -> None:
    error = package.errors.AppLoadError("it raised", "Traceback ...")
    assert (str(error), error.details) == ("it raised", "Traceback ...")
    assert package.errors.BindError("port 80").details == ""


def test_a_departure_is_an_oserror_and_a_mistake_in_asgi_is_none(package: ModuleType) -> None:
    """ASGI 2.4: ``send`` raises a subclass of OSError once the client is gone."""
    assert issubclass(package.errors.ClientDisconnected, OSError)
    assert not issubclass(package.errors.ASGIError, OSError)
    assert not issubclass(package.errors.StartupError, OSError)
