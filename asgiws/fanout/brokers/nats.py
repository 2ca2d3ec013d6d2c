"""NATS, one server or a cluster; history needs JetStream.

A topic is a subject, whose last word is the name in base64. What has no history is published
under ``PREFIX.t.NAME``. What has goes to ``PREFIX.h.NAME``, where one stream keeps it, and the
server publishes what the stream has taken under ``PREFIX.t.NAME``, with two sequence numbers: its
own, and that of the message before it in the same subject. So one subscription hears both, and
a position is the number in the stream, which all topics share.

The stream keeps of each topic as many messages as the topic with the longest history, and one
more. The oldest go first. So if a message is there that is not younger than a position, no message
behind that position has gone. It keeps them for PROOF_SECONDS at least, for the same reason.
``read`` gives only the messages that the topic itself keeps.

The epoch is made from the time when the stream was created and, because a server that dies with
its machine may lose what it had confirmed, from the id of the server, which is a new one with
each start. A cluster keeps three copies, and there, or with ``durable=true`` in the URL, the
server does not count. Each message has the epoch in which it was published in a header.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import re
import ssl
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, SlowConsumerError
from nats.errors import TimeoutError as NatsTimeoutError

from ...errors import TopicError
from ...log import error_log
from ..history import Retention
from .client import WAIT_SECONDS, Appended, Backoff, Entry, Page
from .keeping import Keeping, Name

CONNECT_SECONDS: Final = 5
PING_SECONDS: Final = 3.0  # between questions whether the server still answers
NO_PING: Final = 86_400  # seconds: nats-py does not ask, because it might wait without end
LOOK_SECONDS: Final = 1.0  # for JetStream to tell of the stream to who has just connected
PROOF_SECONDS: Final = 86_400.0
REPLICAS: Final = 3  # in a cluster
AT_ONCE: Final = 512  # names that are subscribed to before others run

_EPOCH: Final = "Asgiws-Epoch"
_NO_STREAM: Final = 10_059
_NO_MESSAGE: Final = 10_037
_API: Final = "$JS.API.STREAM"
_FOREVER: Final = 1 << 62


class _Lost(Exception):
    """The connection was lost while something was asked, which may have been done."""


class _Refused(Exception):
    """JetStream does not do it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Stream(NamedTuple):
    """The known facts about the stream: its epoch, its oldest and last number, its limits."""

    epoch: str
    first: int
    last: int
    messages: int
    seconds: float


class _Name(Name):
    def __init__(self, subject: str) -> None:
        super().__init__()
        self.subject = subject
        self.subscription: Any = None
        #: messages that come before it is confirmed
        self.early: list[Any] = []


class Link:
    """One connection, from its opening to its loss."""

    def __init__(self) -> None:
        self.connection = Connection()
        #: done with the reason when it is lost
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: the known facts about the stream there
        self.stream: _Stream | None = None
        #: messages that came before the epoch was known; None if none wait for it
        self.held: list[tuple[str, Any]] | None = None
        #: the server's words about a missing permission; empty if there are none
        self.refusal = ""
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._number = 0
        self._confirming: dict[bytes, asyncio.Future[None]] = {}

    async def begin(self) -> None:
        """Be ready for ``confirm``."""
        await self.connection.subscribe(self._inbox, cb=self._on_confirmed)

    async def _on_confirmed(self, message: Any) -> None:
        future = self._confirming.get(message.data)
        if future is not None and not future.done():
            future.set_result(None)

    async def confirm(self) -> None:
        """Wait until the server has done all that it was told before. Raises _Lost and NatsError.

        A message to ourselves says so. ``flush`` of nats-py does not: its PING may leave before
        what was written earlier.
        """
        self._number += 1
        number = str(self._number).encode()
        future = self._confirming[number] = asyncio.get_running_loop().create_future()
        try:
            await self.connection.publish(self._inbox, number)
            await self.ask(future)
        finally:
            del self._confirming[number]

    def lose(self, reason: str) -> None:
        """Give it up."""
        if not self.lost.done():
            self.lost.set_result(reason)

    async def ask(self, call: Awaitable[Any]) -> Any:
        """The result of a call. Raises _Lost, and what nats-py raises."""
        task = asyncio.ensure_future(call)
        try:
            await asyncio.wait([task, self.lost], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _Lost(self.lost.result())
            return await task
        finally:
            task.cancel()

    async def api(self, what: str, seconds: float = WAIT_SECONDS, **values: Any) -> dict[str, Any]:
        """Ask JetStream. Raises _Refused, _Lost, and what nats-py raises."""
        body = json.dumps(values).encode() if values else b""
        call = self.connection.request(f"{_API}.{what}", body, timeout=seconds)
        answer: dict[str, Any] = json.loads((await self.ask(call)).data)
        _check(answer)
        return answer


def _check(answer: dict[str, Any]) -> None:
    """Raises _Refused for an answer of JetStream that is an error."""
    if "error" in answer:
        error = answer["error"]
        raise _Refused(error.get("err_code", 0), error.get("description", "an error"))


class Nats(Keeping[_Name]):
    """The client for NATS."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for an impossible URL."""
        name, self._arguments, options = taken_apart(url)
        super().__init__(name)
        self._servers = [self.name]  # and the others of its cluster, once they are known
        self._untried: list[str] = []  # those of them that are still to be tried
        self._prefix = options["prefix"]
        self._is_durable = options["durable"] == "true"
        self._max_bytes = int(options["max_bytes"])
        self._link: Link | None = None
        self._linked = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    # Called by the broker.

    def unsubscribe(self, name: str) -> None:
        known = self._names.pop(name, None)
        if known is not None and known.subscription is not None:
            self._spawn(self._leave(known.subscription))

    async def publish(self, name: str, body: bytes) -> int | None:
        async with self._bounded():
            link = await self._there(body)
            await self._did(self._publish(link, self._subject("t", name), body))
        return None

    async def _publish(self, link: Link, subject: str, body: bytes) -> None:
        await link.connection.publish(subject, body)
        await link.confirm()
        if f'"{subject}"'.lower() in link.refusal.lower():
            raise _Refused(0, link.refusal)

    async def append(self, name: str, body: bytes, retention: Retention) -> Appended:
        async with self._bounded():
            link = await self._there(body)
            stream = await self._did(self._stream(link, retention))
            subject = self._subject("h", name)
            # Without the stream there is no answer, and for a moment after another worker has made
            # it: the server tells that it is there before it listens for it.
            pause = 0.0
            while True:
                call = link.connection.request(
                    subject, body, timeout=WAIT_SECONDS, headers={_EPOCH: stream.epoch}
                )
                try:
                    answer = json.loads((await link.ask(call)).data)
                    _check(answer)
                    break
                except NoRespondersError:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause + 0.01, 0.2)
                    stream = await self._did(self._stream(link, retention, anew=True))
                except (_Lost, _Refused, NatsError, OSError) as exc:
                    raise self._unavailable(_words(exc)) from None
        return Appended(f"{stream.epoch}:{answer['seq']}", None)

    async def read(self, name: str, since: str | None, most: int, retention: Retention) -> Page:
        async with self._bounded():
            link = await self._there()
            page: Page = await self._did(self._read(link, name, since, most, retention))
            return page

    async def tops(self, names: Sequence[str]) -> list[str]:
        async with self._bounded():
            link = await self._there()
            stream = await self._did(self._stream(link, None, anew=True))
            found = []
            for name in names:
                last = await self._did(self._message(link, last_by_subj=self._subject("h", name)))
                # In a topic without history no message is known to be missing.
                found.append(f"{stream.epoch}:{last['seq'] if last else 0}")
            return found

    async def close(self) -> None:
        await super().close()
        self._linked.set()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The history.

    async def _read(
        self, link: Link, name: str, since: str | None, most: int, retention: Retention
    ) -> Page:
        subject = self._subject("h", name)
        # In this order, so that a message published meanwhile is behind the top, or found.
        stream = await self._stream(link, retention, anew=True)
        newest = await self._message(link, last_by_subj=subject)
        last = stream.last if newest is None else newest["seq"]
        top = f"{stream.epoch}:{last}"
        behind = 0
        if since is not None:
            epoch, _, offset = since.partition(":")
            if epoch != stream.epoch or not (offset.isascii() and offset.isdigit()):
                return Page([], False, top)
            behind = int(offset) if len(offset) < 20 else _FOREVER
            if since == top:
                return Page([], True, top)
            if behind > max(last, stream.last):
                return Page([], False, top)
        elif not most:
            return Page([], True, top)
        oldest = time.time() - retention.seconds
        found: list[dict[str, Any]] = []
        at = behind + 1
        while newest is not None and at <= last:
            message = await self._message(link, seq=at, next_by_subj=subject)
            if message is None or message["seq"] > last:
                break
            at = message["seq"] + 1
            if since is None and _seconds(message["time"]) < oldest:
                continue
            found.append(message)
        if since is None:
            found = found[max(0, len(found) - most) :]
        else:
            is_kept = len(found) <= retention.messages and (
                not found or _seconds(found[0]["time"]) >= oldest
            )
            if not is_kept or not await self._is_whole(link, subject, behind, len(found)):
                return Page([], False, top)
        return Page(_entries(stream.epoch, found, behind), True, top)

    async def _is_whole(self, link: Link, subject: str, behind: int, found: int) -> bool:
        """True if no message behind that number had gone when the messages were read."""
        first = await self._message(link, seq=1, next_by_subj=subject)
        if first is not None and first["seq"] <= behind:
            return True
        stream = await self._stream(link, None, anew=True)
        return stream.first <= behind + 1 and found < stream.messages

    async def _message(self, link: Link, **which: Any) -> dict[str, Any] | None:
        """A message that the stream has."""
        try:
            answer = await link.api(f"MSG.GET.{self._prefix}", **which)
        except _Refused as exc:
            if exc.code == _NO_MESSAGE:
                return None
            raise
        found: dict[str, Any] = answer["message"]
        return found

    async def _stream(self, link: Link, retention: Retention | None, anew: bool = False) -> _Stream:
        """The stream, which keeps that much at least; it is made if it is not there."""
        wanted = retention or Retention(0, 0.0)
        while True:
            known = link.stream
            if (
                known is not None
                and not anew
                and known.messages > wanted.messages
                and known.seconds >= wanted.seconds
            ):
                return known
            anew = False
            try:
                found = await link.api(f"INFO.{self._prefix}")
            except _Refused as exc:
                if exc.code != _NO_STREAM:
                    raise
                found = await self._made(link, wanted)
            link.stream = known = self._understood(link, found)
            if known.messages <= wanted.messages or known.seconds < wanted.seconds:
                config = self._config(
                    link,
                    max(known.messages, wanted.messages + 1),
                    max(known.seconds, wanted.seconds),
                )
                await link.api(f"UPDATE.{self._prefix}", **(found["config"] | config))

    async def _made(self, link: Link, wanted: Retention) -> dict[str, Any]:
        """Make the stream; what is said of it then. Raises why it cannot be made."""
        config = self._config(link, wanted.messages + 1, wanted.seconds)
        refusal: _Refused | None = None
        try:
            await link.api(f"CREATE.{self._prefix}", **config)
        except _Refused as exc:
            refusal = exc  # another worker may have been faster, and want more or less
        try:
            return await link.api(f"INFO.{self._prefix}")
        except _Refused as exc:
            raise (refusal or exc) from None

    def _config(self, link: Link, messages: int, seconds: float) -> dict[str, Any]:
        return {
            "name": self._prefix,
            "subjects": [f"{self._prefix}.h.>"],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": REPLICAS if _is_cluster(link) else 1,
            "max_msgs_per_subject": messages,
            "max_age": int(max(seconds, PROOF_SECONDS) * 1e9),
            "max_bytes": self._max_bytes,
            "republish": {"src": f"{self._prefix}.h.>", "dest": f"{self._prefix}.t.>"},
        }

    def _understood(self, link: Link, info: dict[str, Any]) -> _Stream:
        config, state = info["config"], info["state"]
        if "republish" not in config:
            raise _Refused(0, f"the stream {self._prefix} is not one of asgiws")
        about = info["created"]
        if not self._is_durable and not _is_cluster(link):
            about += link.connection._server_info["server_id"]
        epoch = hashlib.blake2b(about.encode(), digest_size=6).hexdigest()
        return _Stream(
            epoch,
            state["first_seq"],
            state["last_seq"],
            config["max_msgs_per_subject"],
            config["max_age"] / 1e9 or float(_FOREVER),
        )

    # The connection.

    async def _keep(self) -> None:
        backoff = Backoff()
        while True:
            link = Link()
            try:
                await self._connect(link)
                self._reason = ""
                self._owner.health(None)
                backoff.reset()
                self._reason = await self._until_lost(link)
            except Exception as exc:
                if not isinstance(exc, NatsError | OSError | _Lost | _Refused | ValueError):
                    error_log.error("Exception in topics", exc_info=exc)  # and go on all the same
                self._reason = _words(exc)
            finally:
                self._link = None
                self._linked.clear()
                self._forget()
                link.lose(self._reason or "closed")
                await self._end(link)
            self._owner.health(self._reason)
            if not self._untried:
                await asyncio.sleep(backoff.next())

    async def _until_lost(self, link: Link) -> str:
        """Return the reason of its loss; a server that does not answer any more is given up."""
        while True:
            await asyncio.wait([link.lost], timeout=PING_SECONDS)
            if link.lost.done():
                return link.lost.result()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await link.confirm()
            except TimeoutError:
                return f"no answer for {CONNECT_SECONDS} s"
            except _Lost as exc:
                return str(exc)

    async def _end(self, link: Link) -> None:
        """Close the connection, without waiting for what is still to be written."""
        with suppress(Exception):
            async with asyncio.timeout(1):
                await link.connection.close()
        transport: Any = link.connection._transport
        if transport is not None and transport._io_writer is not None:
            # Bytes that the server does not take would keep a closed connection for minutes.
            transport._io_writer.transport.abort()
        reading = link.connection._reading_task
        if reading is not None and reading.done() and not reading.cancelled():
            reading.exception()  # nats-py writes once more to a connection that is lost

    async def _connect(self, link: Link) -> None:
        is_connecting = True

        async def on_error(exc: Exception) -> None:
            self._reason = link.refusal = _words(exc)
            if isinstance(exc, SlowConsumerError):
                link.lose("messages were lost in this process")
            if is_connecting:
                raise exc  # nats-py would try the same server again, every two seconds

        async def on_end() -> None:
            link.lose(self._reason or "the connection was lost")

        if not self._untried:
            self._untried = random.sample(self._servers, len(self._servers))
        async with asyncio.timeout(CONNECT_SECONDS + 1):
            await link.connection.connect(
                servers=[self._untried.pop()],
                allow_reconnect=False,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=NO_PING,
                error_cb=on_error,
                disconnected_cb=on_end,
                closed_cb=on_end,
                **self._arguments,
            )
        is_connecting = False
        scheme = self.name.partition(":")[0]
        others = [f"{scheme}://{each.netloc}" for each in link.connection.discovered_servers]
        self._servers = [self.name, *others]
        await link.begin()
        # There is none yet, or no JetStream, or its servers are electing: others need not wait.
        with suppress(_Refused, NoRespondersError, NatsTimeoutError):
            found = await link.api(f"INFO.{self._prefix}", LOOK_SECONDS)
            link.stream = self._understood(link, found)
        self._untried = []
        self._link = link
        await self._subscribe(link, list(self._names))
        self._linked.set()

    def _adjust(self) -> None:
        """Subscribe to what is wanted now."""
        changed, self._changed = self._changed, set()
        link = self._link
        if link is not None and not link.lost.done():
            self._spawn(self._subscribe_or_lose(link, [n for n in changed if n in self._names]))

    async def _subscribe_or_lose(self, link: Link, names: Sequence[str]) -> None:
        try:
            await self._subscribe(link, names)
        except (NatsError, OSError, _Lost) as exc:
            link.lose(_words(exc))

    async def _subscribe(self, link: Link, names: Sequence[str]) -> None:
        """Subscribe to these and wait until the server has confirmed it."""
        asked: list[tuple[str, _Name]] = []
        for name in names:
            known = self._names.get(name)
            if known is None or known.subscription is not None:
                continue

            async def take(message: Any, name: str = name, known: _Name = known) -> None:
                self._take(link, name, known, message)

            known.subscription = await link.connection.subscribe(known.subject, cb=take)
            asked.append((name, known))
            if not len(asked) % AT_ONCE:
                await link.confirm()
        if not asked:
            return
        await link.confirm()
        if "subscription" in link.refusal.lower():
            raise _Lost(link.refusal)
        asked = [(name, known) for name, known in asked if self._names.get(name) is known]
        restored = [name for name, known in asked if known.was]
        for _, known in asked:
            known.was = False
            if not known.confirmed.done():
                known.confirmed.set_result(None)
        if restored:
            self._owner.restored(restored)
        for name, known in asked:
            early, known.early = known.early, []
            for message in early:
                self._give(link, name, message)

    def _take(self, link: Link, name: str, known: _Name, message: Any) -> None:
        if link is not self._link or self._names.get(name) is not known:
            return
        if known.confirmed.done():
            self._give(link, name, message)
        else:
            known.early.append(message)

    def _give(self, link: Link, name: str, message: Any) -> None:
        """Give a message to the owner, once its position can be told."""
        headers = message.headers or {}
        if link.held is not None:
            link.held.append((name, message))
        elif "Nats-Sequence" not in headers:
            self._owner.take(name, message.data, None, None)
        elif link.stream is None:
            link.held = [(name, message)]
            self._spawn(self._learn(link))
        else:
            epoch = headers.get(_EPOCH) or link.stream.epoch
            # No message of the topic was kept any more, so it cannot be told.
            last = headers.get("Nats-Last-Sequence", "0")
            before = None if last == "0" else f"{epoch}:{last}"
            position = f"{epoch}:{headers['Nats-Sequence']}"
            self._owner.take(name, message.data, position, before)

    async def _learn(self, link: Link) -> None:
        """Find out about the stream, and give what has waited for it."""
        try:
            await self._stream(link, None)
        except (_Refused, _Lost, NatsError, OSError) as exc:
            link.lose(_words(exc))
        held, link.held = link.held or [], None
        for name, message in held:
            if link is self._link and name in self._names:
                self._give(link, name, message)

    def _forget(self) -> None:
        """Forget all subscriptions, because the connection is lost."""
        for known in self._names.values():
            known.subscription = None
            known.early = []
            known.forget()

    async def _leave(self, subscription: Any) -> None:
        with suppress(NatsError, OSError):
            await subscription.unsubscribe()

    def _spawn(self, call: Any) -> None:
        task = self._loop.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Inside.

    def _named(self, name: str) -> _Name:
        return _Name(self._subject("t", name))

    def _subject(self, kind: str, name: str) -> str:
        word = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"{self._prefix}.{kind}.{word}"

    async def _there(self, body: bytes = b"") -> Link:
        """The connection, as soon as there is one. Raises TopicError for a body it cannot take."""
        while True:
            self._check()
            link = self._link
            if link is not None and self._linked.is_set() and not link.lost.done():
                break
            await self._linked.wait()
            if link is self._link:
                await asyncio.sleep(0)
        largest = link.connection.max_payload
        if len(body) > largest:
            raise TopicError(
                f"publish: this NATS takes messages of {largest} bytes (max_payload), "
                f"not {len(body)}"
            )
        return link

    async def _did(self, call: Awaitable[Any]) -> Any:
        """Its result. Raises BusUnavailable for whatever goes wrong at the server."""
        try:
            return await call
        except NoRespondersError:
            raise self._unavailable("JetStream is not enabled there") from None
        except (_Lost, _Refused, NatsError, OSError) as exc:
            raise self._unavailable(_words(exc)) from None


def _is_cluster(link: Link) -> bool:
    return bool(link.connection._server_info.get("cluster"))


def _words(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def _seconds(text: str) -> float:
    """A time of RFC 3339 with up to nine digits of a second."""
    whole = re.sub(r"\.(\d{1,6})\d*", lambda digits: f".{digits[1]:0<6}", text)
    return datetime.fromisoformat(whole).timestamp()


def _entries(epoch: str, found: Iterable[dict[str, Any]], behind: int) -> list[Entry]:
    entries = []
    for message in found:
        number = message["seq"]
        headers = base64.b64decode(message.get("hdrs", "")).decode("latin-1")
        said = re.search(rf"^{_EPOCH}: *([0-9a-f]+)\r$", headers, re.MULTILINE)
        own = said[1] if said else epoch
        body = base64.b64decode(message.get("data", ""))
        entries.append(Entry(f"{own}:{number}", f"{own}:{behind or number - 1}", body))
        behind = number
    return entries


def taken_apart(url: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """The server, without credentials, what nats-py is to be told, and options of ours.

    Raises ValueError.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    options = {
        "prefix": query.pop("prefix", "asgiws"),
        "durable": query.pop("durable", "false"),
        "max_bytes": query.pop("max_bytes", "-1"),
    }
    ca, credentials = query.pop("ca", None), query.pop("credentials", None)
    if query:
        raise ValueError(
            f"{next(iter(query))} is not one of prefix, durable, max_bytes, ca, credentials"
        )
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", options["prefix"]):
        raise ValueError("prefix must be letters, digits, - and _")
    if options["durable"] not in ("true", "false"):
        raise ValueError("durable must be true or false")
    if not re.fullmatch("-1|[1-9][0-9]{0,18}", options["max_bytes"]):
        raise ValueError("max_bytes must be a positive number")
    if parts.path not in ("", "/"):
        raise ValueError("a path has no meaning here")
    secret, _, hosts = parts.netloc.rpartition("@")
    server = f"{parts.scheme}://{hosts}"
    if not urlsplit(server).hostname or urlsplit(server).port == 0:
        raise ValueError("a host is missing")
    arguments: dict[str, Any] = {}
    user, has_password, password = secret.partition(":")
    if has_password:
        arguments |= {"user": unquote(user), "password": unquote(password)}
    elif secret:
        arguments["token"] = unquote(secret)
    if credentials is not None:
        arguments["user_credentials"] = credentials
    if parts.scheme == "tls" or ca is not None:
        try:
            arguments["tls"] = ssl.create_default_context(cafile=ca)
        except OSError as exc:
            raise ValueError(f"ca: {exc}") from None
    return server, arguments, options
