"""WebSockets of another server."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from asgiws.fanout.foreign import pump, tell, warn_of_workers
from asgiws.fanout.listener import Listener
from asgiws.fanout.message import BYTES, JSON, TEXT, Publication
from tests.toolkit.served import Served


async def _told_and_pumped(listener: Listener, send: Any) -> None:
    await tell("a", send, subscribed=True)
    await pump(listener, "a", send, True)


async def test_messages_gaps_and_the_end_are_sent() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    listener = Listener("close", 1_000)
    listener.miss(2)
    for kind, payload in ((TEXT, b"x"), (BYTES, b"y"), (JSON, b"[1]"), (TEXT, b"too much")):
        message = Publication("a", kind, payload)
        listener.take(message, message.plain())
    await asyncio.wait_for(_told_and_pumped(listener, send), 5)
    assert json.loads(sent[0]["text"]) == {"topic": "a", "subscribed": True}
    assert json.loads(sent[1]["text"]) == {"topic": "a", "gap": 2}
    assert [json.loads(event["text"]) for event in sent[2:5]] == [
        {"topic": "a", "position": None, "data": "x"},
        {"topic": "a", "position": None, "base64": "eQ=="},
        {"topic": "a", "position": None, "data": [1]},
    ]
    assert sent[5] == {"type": "websocket.close", "code": 1013, "reason": "too slow"}


async def test_a_loss_ends_who_prefers_that_behind_what_had_come() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    listener = Listener("close", 1_000, ends_on_gap=True)
    before, behind = Publication("a", TEXT, b"before"), Publication("a", TEXT, b"behind")
    assert listener.take(before, before.plain())
    listener.miss(1)
    assert not listener.take(behind, behind.plain())
    listener.miss(1)
    await asyncio.wait_for(pump(listener, "a", send, False), 5)
    assert sent == [
        {"type": "websocket.send", "text": "before"},
        {"type": "websocket.close", "code": 1012, "reason": "messages were lost"},
    ]
    assert listener.dropped == 3


async def test_one_that_was_too_slow_already_is_not_closed_for_a_loss() -> None:
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    listener = Listener("close", 300, ends_on_gap=True)
    for message in (Publication("a", TEXT, b"x"), Publication("a", TEXT, b"x")):
        listener.take(message, message.plain())
    listener.miss(1)
    await asyncio.wait_for(pump(listener, "a", send, False), 5)
    assert [event.get("code") for event in sent] == [None, 1013]


async def test_a_socket_that_cannot_be_written_to_ends_quietly() -> None:
    async def send(event: Any) -> None:
        raise RuntimeError("it is closed")

    listener = Listener("close", 1_000)
    message = Publication("a", TEXT, b"x")
    listener.take(message, message.plain())
    await tell("a", send, subscribed=True)
    await asyncio.wait_for(pump(listener, "a", send, False), 5)


CALLED_BY = [
    ("uvicorn.supervisors.multiprocess", {"self": object()}, "uvicorn"),
    ("uvicorn.main", {"config": SimpleNamespace(workers=1)}, None),
    ("gunicorn.arbiter", {"self": SimpleNamespace(num_workers=2)}, "gunicorn"),
    ("gunicorn.arbiter", {"self": SimpleNamespace(num_workers=1)}, None),
    ("hypercorn.asyncio.run", {"config": SimpleNamespace(workers=2)}, "hypercorn"),
    ("hypercorn.asyncio.run", {"config": SimpleNamespace(workers=1)}, None),
    ("granian.server.mp", {"worker_id": 2}, "granian"),
    ("granian.server.mp", {"worker_id": 1}, None),
    ("pytest", {"workers": 2}, None),
]


@pytest.mark.parametrize(("module", "names", "server"), CALLED_BY)
def test_a_server_with_several_workers_is_known_by_what_has_called_us(
    module: str, names: dict[str, object], server: str | None, log: list[logging.LogRecord]
) -> None:
    calls = f"def run({', '.join(names)}):\n    warn_of_workers()\n"
    space = {"__name__": module, "warn_of_workers": warn_of_workers}
    exec(calls, space)
    space["run"](**names)
    told = [record.getMessage() for record in log if record.levelname == "WARNING"]
    assert len(told) == (server is not None)
    assert all(f"{server} runs several workers" in line for line in told)


def _warnings(server: Served) -> list[str]:
    return [line for line in server.output if "runs several workers" in line]


@pytest.mark.slow  # 4 s
def test_who_uses_topics_in_several_workers_of_uvicorn_is_told_once() -> None:
    for workers in (1, 2):
        words = ("--port", "0", "--workers", str(workers))
        with Served("uvicorn", "tests.fanout.topics_app:app", *words) as server:
            told: set[int] = set()

            def all_have_used_them(
                server: Served = server, told: set[int] = told, workers: int = workers
            ) -> bool:
                with suppress(httpx.HTTPError):  # one may not have begun
                    told.add(httpx.get(f"{server.url}/a").json()["pid"])
                return len(told) == workers

            server.wait_until(all_have_used_them, "an answer of each worker")
            expected = workers if workers > 1 else 0

            def has_warned(server: Served = server, expected: int = expected) -> bool:
                return len(_warnings(server)) == expected

            server.wait_until(has_warned, "one warning of each worker")
