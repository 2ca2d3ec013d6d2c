"""Every event of every call in the log, at the level trace."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from asgiws.log import TRACE, error_log
from asgiws.process.importer import load_app


async def secretive(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.send", "text": "secret"})
    if scope["type"] == "lifespan":
        raise RuntimeError("oh")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(logging.getLogger("asgiws"), "propagate", True)
    caplog.set_level(TRACE, error_log.name)
    return caplog


async def call(app: Any, scope_type: str = "http") -> list[Any]:
    """What the application sends."""
    sent = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"secret"}

    async def send(event: Any) -> None:
        sent.append(event)

    await app({"type": scope_type}, receive, send)
    return sent


async def test_every_event_is_logged_without_its_payload(log: Any) -> None:
    sent = await call(load_app(secretive))
    assert sent == [{"type": "websocket.send", "text": "secret"}]
    assert "starts {'type': 'http'}" in log.text
    assert "receive {'type': 'http.request', 'body': '<6 bytes>'}" in log.text
    assert "send {'type': 'websocket.send', 'text': '<6 characters>'}" in log.text
    assert "returned" in log.text
    assert "secret" not in log.text


async def test_what_the_application_raises_is_logged_and_raised(log: Any) -> None:
    with pytest.raises(RuntimeError):
        await call(load_app(secretive), "lifespan")
    assert "raised RuntimeError('oh')" in log.text


def test_below_that_level_nothing_stands_in_between() -> None:
    assert load_app(secretive) is secretive
