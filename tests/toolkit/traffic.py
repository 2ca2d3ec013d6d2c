"""Clients that ask all the time, and notice whatever is not answered as it should be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from .raw_http import Client
from .raw_websocket import RawWebSocket


class Traffic:
    """Constant requests and opening handshakes, as long as the block runs.

    The application answers ``GET /`` with the id of its process, and sends it as the first
    message of a WebSocket. ``answers`` counts the answers of each process, ``failures``
    says what went wrong.
    """

    def __init__(self, where: Any, requests: int = 1, handshakes: int = 1) -> None:
        """So many clients of each kind, at ``where``."""
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self._where = where
        self._over = threading.Event()
        calls = [self._ask] * requests + [self._shake_hands] * handshakes
        self._threads = [threading.Thread(target=self._run, args=(call,)) for call in calls]

    def _ask(self) -> None:
        """Requests over connections that are kept as long as the server keeps them."""
        client = Client(self._where)
        try:
            while not self._over.is_set():
                reply = client.get("/")
                assert reply.status == 200, reply
                self.answers[int(reply.body)] += 1
                if reply.headers.get("connection") == "close":
                    client.close()
                    client = Client(self._where)
        finally:
            client.close()

    def _shake_hands(self) -> None:
        while not self._over.is_set():
            with RawWebSocket(self._where) as websocket:
                self.answers[int(websocket.read_frame()[1])] += 1

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.failures.append(repr(error))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
