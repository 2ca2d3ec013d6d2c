"""Subscribers that come and go, read slowly, break off and come back; publishers over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from .checker import Checker, Rules, Stream
from .topics import is_kept, padding

OPEN_SECONDS: Final = 20.0  # a handshake may wait as long as a stopped worker
SLOW_BUFFER: Final = 8_192  # bytes that the kernel keeps for a slow client
SLOW_BYTES: Final = 65_536  # ``max_bytes`` of a slow subscription
PAUSES: Final = 0.02  # how often a slow client stops reading, of all its messages

GONE = (OSError, ConnectionClosed, InvalidHandshake, EOFError, asyncio.IncompleteReadError)


class Place(Protocol):
    """What clients ask of the soak."""

    port: int
    checker: Checker
    life: float  # seconds that a connection lasts, more or less
    quiet: bool  # nobody publishes any more
    settled: bool  # nobody comes or goes, and all read


class Subscriber:
    """One client after the other under one name; with ``since`` each goes on behind the last."""

    def __init__(self, place: Place, name: str, rules: Rules, since: bool, says: bool) -> None:
        self.place = place
        self.name = name
        self.rules = rules
        self.says = says
        self._goes_on = since
        self._random = random.Random(name)
        self._lives = 0
        self._position: tuple[str, float] | None = None  # the last one, and when it was published
        self._stream: Stream | None = None

    async def run(self) -> None:
        """Subscribe, read, leave, and again; until cancelled."""
        while True:
            stream = self._stream
            # One that begins with old messages would see some twice.
            if stream is None or self.rules.replay:
                name = f"{self.name}+{self._lives}" if self.rules.replay else self.name
                stream = self._stream = self.place.checker.stream(name, self.rules)
            self._lives += 1
            how = "refused"
            try:
                how = await self.live(stream, f"{self.name}.{self._lives}")
            except ConnectionClosed as exc:
                how = str(exc.rcvd.code if exc.rcvd else 1006)
            except TimeoutError:
                how = "timed out"
            except GONE:
                how = "cut"
            finally:
                if stream.is_open or how != "refused":
                    stream.add("end", time.monotonic(), how)
            await asyncio.sleep(self._random.uniform(0.0, self.place.life / 10))

    async def live(self, stream: Stream, connection: str) -> str:
        """One connection; how it has ended."""
        raise NotImplementedError

    def begin(self) -> tuple[str, float] | None:
        """Where it goes on."""
        return self._position if self._goes_on else None

    def heard(self, stream: Stream, value: dict[str, Any], position: str | None) -> None:
        """A message or a notice has come."""
        now = time.monotonic()
        if "p" in value:
            if position is not None:
                self._position = position, value["t"]
            stream.add("message", now, value["p"], value["n"], value["t"], position)
        elif "gap" in value:
            stream.add("gap", now, value["gap"])

    def life(self) -> float:
        """Seconds until it leaves by itself."""
        life = self.place.life * (4 if self.rules.slow else 1)
        return self._random.expovariate(1 / life)


class WebSocketClient(Subscriber):
    """One that is subscribed by a WebSocket."""

    async def live(self, stream: Stream, connection: str) -> str:
        rules = self.rules
        began = time.monotonic()
        since = self.begin() if rules.told else None
        query = {"name": connection, "policy": rules.policy}
        query |= {"envelope": "true"} if rules.told else {}
        query |= {"since": since[0]} if since else {}
        query |= {"replay": "1"} if rules.replay else {}
        query |= {"max_bytes": str(SLOW_BYTES)} if rules.slow else {}
        sock = socket.socket()
        if rules.slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                address = ("127.0.0.1", self.place.port)
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        client = await connect(
            f"ws://127.0.0.1:{self.place.port}/ws/{rules.topic}?{urlencode(query)}",
            sock=sock,
            proxy=None,
            open_timeout=OPEN_SECONDS,
            ping_interval=None,
            close_timeout=5,
            max_queue=2 if rules.slow else 64,
            compression=None if rules.slow else self._random.choice(("deflate", None)),
        )
        if not rules.told:
            stream.add("open", began, connection, None, None)
        talking: asyncio.Task[None] | None = None
        try:
            # While it does not read, or others are still busy, it may leave at any time.
            async with asyncio.timeout(None if self.place.settled else self.life()) as patience:
                async for text in client:
                    if self.place.settled and patience.when() is not None:
                        patience.reschedule(None)
                    value, position = self._parsed(text)
                    if "subscribed" in value:
                        if since is None or value.get("recovered") is not True:
                            self._position = None
                        if self._position is None and value["position"]:
                            self._position = value["position"], began
                        stream.add("open", began, connection, since, value.get("recovered"))
                    elif "hello" in value:
                        stream.add("hello", time.monotonic(), value["hello"])
                        if self.says:
                            talk = self._talk(client, f"ws-{connection}", value["hello"], stream)
                            talking = asyncio.create_task(talk)
                    else:
                        self.heard(stream, value, position)
                    if rules.slow and not self.place.settled and self._random.random() < PAUSES:
                        await asyncio.sleep(self._random.uniform(3.0, 8.0))
        except TimeoutError:
            if self._random.random() < 0.5:
                client.transport.abort()
                return "aborted"
            return "left"
        finally:
            if talking is not None:
                talking.cancel()
                await asyncio.wait([talking])
            if client.transport.is_closing() or rules.slow:
                client.transport.abort()
            await client.close()
        raise ConnectionClosed(client.protocol.close_rcvd, client.protocol.close_sent)

    def _parsed(self, text: str | bytes) -> tuple[dict[str, Any], str | None]:
        value = json.loads(text)
        if "topic" not in value:
            if "said" in value or "failed" in value:
                self._answer(value)
            return value, None
        if "base64" in value:
            return json.loads(base64.b64decode(value["base64"])), value["position"]
        if "data" in value:
            data = value["data"]
            return (json.loads(data) if isinstance(data, str) else data), value["position"]
        return value, None

    def _answer(self, value: dict[str, Any]) -> None:
        self._answered.set_result(value)

    async def _talk(
        self, client: ClientConnection, publisher: str, pid: int, stream: Stream
    ) -> None:
        """Publish by this connection, now and then, until cancelled."""
        ledger = self.place.checker.ledger
        topic = self.rules.topic
        number = 0
        with suppress(ConnectionClosed):
            while not self.place.quiet:
                await asyncio.sleep(self._random.expovariate(1.0))
                now = time.monotonic()
                exclude = self._random.random() < 0.5
                message = {"p": publisher, "n": number, "t": now, "exclude": exclude}
                message["x"] = padding(topic, self._random)
                self._answered: asyncio.Future[dict[str, Any]] = asyncio.Future()
                ledger.begin(topic, publisher, number, now, exclude)
                await client.send(json.dumps(message))
                answer = await self._answered
                now = time.monotonic()
                if "failed" in answer:
                    ledger.fail(topic, publisher, number)
                    return
                ledger.done(topic, publisher, number, now, pid)
                if not exclude:
                    stream.add("said", now, publisher, number)
                number += 1


class EventsClient(Subscriber):
    """One that listens to server-sent events."""

    async def live(self, stream: Stream, connection: str) -> str:
        began = time.monotonic()
        since = self.begin()
        async with asyncio.timeout(OPEN_SECONDS):
            http = await Http.open(self.place.port)
        try:
            headers = f"Last-Event-ID: {since[0]}\r\n" if since else ""
            async with asyncio.timeout(None if self.place.settled else self.life()) as patience:
                async for data, position in http.events(f"/events/{self.rules.topic}", headers):
                    if self.place.settled and patience.when() is not None:
                        patience.reschedule(None)
                    value = json.loads(data)
                    if "hello" in value:
                        if value["recovered"] is not True:
                            self._position = (position, began) if position else None
                        stream.add("open", began, connection, since, value["recovered"])
                        stream.add("hello", time.monotonic(), value["hello"])
                    else:
                        self.heard(stream, value, position)
        except TimeoutError:
            return "left"
        finally:
            http.close()
        return "events ended"


class Http:
    """One connection of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Http:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Status and JSON of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        status, headers = await self._head()
        content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return status, json.loads(content) if status in (200, 503) and content else None

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def events(self, path: str, headers: str) -> AsyncIterator[tuple[str, str | None]]:
        """Data and id of server-sent events, until the stream ends."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: soak\r\n{headers}\r\n".encode())
        status, _ = await self._head()
        if status != 200:
            raise ConnectionError(f"status {status}")
        text = ""
        while size := int((await self._reader.readuntil(b"\r\n")), 16):
            text += (await self._reader.readexactly(size + 2))[:-2].decode()
            *whole, text = text.split("\n\n")
            for event in whole:
                fields = dict(line.split(": ", 1) for line in event.split("\n"))
                yield fields["data"], fields.get("id")

    def close(self) -> None:
        self._writer.transport.abort()


async def publish_over_http(place: Place, kind: str, topics: tuple[str, ...], rate: float) -> None:
    """Publish by requests, until cancelled.

    Where a topic has a history all workers have one order, and each request may come to
    another one. Without it there is an order within a worker only, that of one connection.
    """
    randomly = random.Random(kind)
    ledger = place.checker.ledger
    lives = 0
    while True:
        lives += 1
        publisher = f"{kind}-{lives}"
        numbers: dict[str, int] = {}
        http: Http | None = None
        try:
            while not place.quiet:
                await asyncio.sleep(randomly.expovariate(rate))
                topic = randomly.choice(topics)
                if http is None:
                    async with asyncio.timeout(OPEN_SECONDS):
                        http = await Http.open(place.port)
                number = numbers[topic] = numbers.get(topic, -1) + 1
                now = time.monotonic()
                body = {"p": publisher, "n": number, "t": now, "x": padding(topic, randomly)}
                ledger.begin(topic, publisher, number, now)
                status = 0
                answer: Any = None
                try:
                    async with asyncio.timeout(OPEN_SECONDS):
                        path = f"/publish/{topic}"
                        status, answer = await http.request("POST", path, json.dumps(body).encode())
                finally:
                    if status == 200:
                        ledger.done(topic, publisher, number, time.monotonic(), answer["pid"])
                    else:
                        ledger.fail(topic, publisher, number)
                if status != 200:
                    break  # nobody knows when that one comes, if it does: go on as another one
                if is_kept(topic):
                    http.close()
                    http = None
        except GONE:
            pass
        finally:
            if http is not None:
                http.close()
        await asyncio.sleep(0.1)


def subscribers(place: Place) -> list[Subscriber]:
    """All kinds, several of each."""
    found: list[Subscriber] = []

    def add(kind: type[Subscriber], rules: Rules, since: bool = False, says: bool = False) -> None:
        found.append(kind(place, f"{rules.topic}/{len(found)}", rules, since, says))

    for topic in ("plain:0", "plain:1", "heavy:0", "kept:0", "kept:1", "heavy-kept:0", "latest:0"):
        kept = is_kept(topic) and not topic.startswith("latest")
        add(WebSocketClient, Rules(topic), kept)
        add(WebSocketClient, Rules(topic), kept, says=True)
        add(WebSocketClient, Rules(topic, told=False), says=True)
        add(EventsClient, Rules(topic, "drop_oldest"), kept)
        add(WebSocketClient, Rules(topic, "drop_oldest", slow=True), kept)
    for topic in ("heavy:0", "heavy-kept:0"):
        for policy in ("close", "drop_newest", "latest"):
            add(WebSocketClient, Rules(topic, policy, slow=True), is_kept(topic))
        add(WebSocketClient, Rules(topic, "drop_newest", told=False, slow=True))
    for _ in range(2):
        add(WebSocketClient, Rules("latest:0", replay=True))
    return found
