"""Workers that serve topics_app, and clients that have subscribed there."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.toolkit.certificates import NO_TLS
from tests.toolkit.served import Served

WORKERS = 4
DEADLINE = 10.0


class Fleet(Served):
    """Workers, and the clients that have subscribed to them."""

    def __init__(self, *options: str, workers: int = WORKERS, **environment: str) -> None:
        super().__init__(
            *("asgiws", "tests.fanout.topics_app:app", "--port", "0"),
            *("--workers", str(workers), "--ws-ping-interval", "none", *options),
            **environment,
        )
        self.stack = ExitStack()  # of one test

    def subscribe(self, path: str) -> Client:
        return Client(self, path)

    def publish(self, topic: str, text: str) -> int:
        url = f"{self.url}/{topic}"
        return int(httpx.post(url, content=text, timeout=DEADLINE, verify=NO_TLS).text)

    def count(self, topic: str) -> dict[str, int]:
        url = f"{self.url}/{topic}"
        found: dict[str, int] = httpx.get(url, timeout=DEADLINE, verify=NO_TLS).json()
        return found


class Client:
    """One that subscribes, and has seen that it has: ``pid`` is its worker's."""

    def __init__(self, fleet: Fleet, path: str) -> None:
        self.socket: ClientConnection = fleet.stack.enter_context(
            connect(f"{fleet.ws_url}/{path}", proxy=None, close_timeout=1)
        )
        self.notices: list[Any] = []
        self.recovered: list[Any] = []
        while True:
            message = self.socket.recv(timeout=DEADLINE)
            if str(message).startswith("pid"):
                self.pid = int(str(message).split()[1])
                return
            parsed = json.loads(message)
            (self.recovered if "data" in parsed else self.notices).append(parsed)

    def next(self) -> Any:
        message = self.socket.recv(timeout=DEADLINE)
        return json.loads(message) if str(message).startswith("{") else message

    def is_closed(self) -> bool:
        with suppress(TimeoutError):
            try:
                self.socket.recv(timeout=0.01)
            except ConnectionClosed:
                return True
        return False
