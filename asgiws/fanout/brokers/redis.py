"""Redis and Valkey, one of them or a cluster.

On a cluster a name lives on one of PARTS hash slots, and sharded pub/sub is used. So the
names of one slot can be subscribed to together, and each node gets only its own messages.

A topic with history has two keys. The stream has its messages, each under its number and the
time. The other key is a hash with the epoch and the number of the last message; it outlives the
stream by META_SECONDS, so that a client that has missed nothing can be told so.

Redis may lose what it had confirmed, when it is started anew with an old snapshot, or when a
replica takes over. So the epoch is a new one whenever the hash is gone, and whenever the server is
another one than before (its ``master_replid``). Then no client is told that it has missed nothing.
With ``durable=true`` in the URL the operator says that this cannot happen.
"""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import Connection, parse_url
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from ...errors import BusUnavailable
from ...log import error_log
from ..history import Retention
from .client import Appended, Backoff, Entry, Page
from .keeping import Keeping, Name
from .link import Link, LinkLost, NotSent

PARTS: Final = 128
BATCH: Final = 512  # names that are subscribed to in one command
CONNECT_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 0.05  # before a cluster that is being changed is asked again
META_SECONDS: Final = 30 * 86_400
PAGE_BYTES: Final = 1_048_576

_SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss"}

# The body of a publication begins with one of these.
_PLAIN: Final = b"\0"
_NUMBERED: Final = b"\1"  # then the position, a space, the position before it, and a line feed

# The position of a topic; a topic that does not exist is made, before its first message.
# ARGV: the server, an epoch that is not used yet, for how long the epoch outlives the last message.
_TOP: Final = """
local function top(key)
  local meta = redis.call('HMGET', key, 'epoch', 'last', 'server')
  local epoch, last = meta[1], tonumber(meta[2] or 0)
  if not epoch or meta[3] ~= ARGV[1] then
    epoch = ARGV[2]
    redis.call('HSET', key, 'epoch', epoch, 'last', string.format('%.0f', last), 'server', ARGV[1])
    redis.call('PEXPIRE', key, ARGV[3])
  end
  return epoch, last, not meta[1]
end
local function at(epoch, number) return string.format('%s:%.0f', epoch, number) end
local function now(ago)
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000) - (ago or 0)
end
"""

# ARGV[4...]: channel, body, messages, milliseconds, PUBLISH or SPUBLISH.
_APPEND: Final = (
    _TOP
    + r"""
local epoch, last, new = top(KEYS[2])
if new then redis.call('DEL', KEYS[1]) end
local before, position = at(epoch, last), at(epoch, last + 1)
local ms = math.max(now(), tonumber(redis.call('HGET', KEYS[2], 'ms') or 0))
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[6], string.format('%.0f-%.0f', ms, last + 1),
  'p', position, 'b', before, 'd', ARGV[5])
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', now(ARGV[7])))
redis.call('HSET', KEYS[2], 'last', string.format('%.0f', last + 1),
  'ms', string.format('%.0f', ms))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local said = '\1' .. position .. ' ' .. before .. '\n' .. ARGV[5]
return {position, redis.call(ARGV[8], ARGV[4], said)}
"""
)

_TOPS: Final = _TOP + "local epoch, last = top(KEYS[1]) return at(epoch, last)"

# ARGV[4...]: the number to read behind or '', how many at most, from which one on back ('+' or
# '(id'), how many bytes about, milliseconds. Gives the top, from which one to go on or '', and
# what was found, the newest first.
_READ: Final = (
    _TOP
    + """
local epoch, last = top(KEYS[2])
local since, most, upto, bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
if since and upto == '+' then
  if last - since > most then return {at(epoch, last), '', {}} end
  most = last - since
end
local oldest = string.format('%.0f', now(ARGV[8]))
local found, size = {}, 0
while #found < most do
  local some = redis.call('XREVRANGE', KEYS[1], upto, oldest, 'COUNT', math.min(16, most - #found))
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    if size > bytes then return {at(epoch, last), upto, found} end
    found[#found + 1] = {entry[2][2], entry[2][4], entry[2][6]}
    size = size + #entry[2][6]
    upto = '(' .. entry[1]
  end
end
return {at(epoch, last), '', found}
"""
)


class _Name(Name):
    __slots__ = ("channel", "link")

    def __init__(self, channel: bytes) -> None:
        super().__init__()
        self.channel = channel
        #: the link on which we subscribe to it, or have asked to
        self.link: Link | None = None


class Redis(Keeping[_Name]):
    """The client for Redis."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for an impossible URL."""
        name, self._arguments, prefix, self._is_durable = taken_apart(url)
        super().__init__(name)
        self._prefix = f"{prefix}:{self._arguments.get('db', 0)}"
        self._addresses: list[tuple[str, int]] = []  # of a cluster, as it was lately
        self._make(None)  # raises what is wrong with it
        self._links: dict[tuple[str, int] | None, Link] = {}
        self._routes: list[Link | None] = [None] * PARTS
        self._is_cluster = False
        self._servers: dict[Link, str] = {}
        self._by_channel: dict[bytes, str] = {}
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._routed: asyncio.Future[None] | None = None

    # Called by the broker.

    def unsubscribe(self, name: str) -> None:
        if self._names.pop(name, None) is not None:
            self._change(name)

    async def publish(self, name: str, body: bytes) -> int | None:
        command = "SPUBLISH" if self._is_cluster else "PUBLISH"
        return int(await self._call(name, command, self._channel(name), _PLAIN + body))

    async def append(self, name: str, body: bytes, retention: Retention) -> Appended:
        position, reached = await self._script(
            *(name, _APPEND, self._keys(name), retention),
            *(self._channel(name), body, retention.messages, _milliseconds(retention.seconds)),
            "SPUBLISH" if self._is_cluster else "PUBLISH",
        )
        return Appended(position.decode(), reached)

    async def read(self, name: str, since: str | None, most: int, retention: Retention) -> Page:
        epoch, _, number = (since or "").partition(":")
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            number = ""
        if since is not None:
            most = retention.messages if number else 0
        found: list[Entry] = []  # the newest one first
        top, upto = "", "+"
        while upto:
            answer = await self._script(
                *(name, _READ, self._keys(name), retention, number, most - len(found), upto),
                *(PAGE_BYTES, _milliseconds(retention.seconds)),
            )
            if not top:
                top = answer[0].decode()
                if number:
                    most = min(most, int(top.partition(":")[2]) - int(number))
            upto = answer[1].decode()
            found += [Entry(entry[0].decode(), entry[1].decode(), entry[2]) for entry in answer[2]]
        found.reverse()
        if since is None or since == top:
            return Page(found, True, top)
        # Numbers go on from epoch to epoch, but what came before the last one may be lost.
        is_complete = found and found[0].before == since and top.partition(":")[0] == epoch
        return Page(found, True, top) if is_complete else Page([], False, top)

    async def tops(self, names: Sequence[str]) -> list[str]:
        lasting = Retention(0, 0.0)
        calls = [self._script(name, _TOPS, self._keys(name)[1:], lasting) for name in names]
        return [answer.decode() for answer in await _all(calls)]

    async def close(self) -> None:
        await super().close()
        for link in tuple(self._links.values()):
            link.lose(self._reason)
        self._let_go()

    # Commands.

    def _named(self, name: str) -> _Name:
        known = _Name(self._channel(name))
        self._by_channel[known.channel] = name
        return known

    def _part(self, name: str) -> int:
        return zlib.crc32(name.encode()) % PARTS

    def _tag(self, part: int) -> str:
        return f"{self._prefix}:{{{part}}}"

    def _channel(self, name: str) -> bytes:
        return f"{self._tag(self._part(name))}:{name}".encode()

    def _keys(self, name: str) -> tuple[bytes, bytes]:
        channel = self._channel(name)
        return channel + b":stream", channel + b":top"

    async def _script(
        self, name: str, script: str, keys: Sequence[bytes], retention: Retention, *arguments: Any
    ) -> Any:
        outlives = _milliseconds(max(META_SECONDS, 2 * retention.seconds))
        about = (_Server(), os.urandom(6).hex(), outlives)
        return await self._call(name, "EVAL", script, len(keys), *keys, *about, *arguments)

    async def _call(self, name: str, *command: Any) -> Any:
        """Ask the node that has that name, as soon as there is one. Raises BusUnavailable."""
        part = self._part(name)
        async with self._bounded():
            while True:
                self._check()
                link = self._routes[part]
                if link is None or link.lost is not None:
                    await self._until_routed()
                    continue
                server = self._servers[link]
                sent = [server if isinstance(word, _Server) else word for word in command]
                try:
                    return await link.call(*sent)
                except NotSent:
                    continue
                except LinkLost as exc:
                    self._reason = str(exc)
                    raise self._unavailable() from None
                except (MovedError, AskError, ClusterDownError, TryAgainError):
                    # The command was not done, because the cluster is being changed.
                    self._refresh()
                    await asyncio.sleep(AGAIN_SECONDS)
                except ReadOnlyError as exc:
                    link.lose(str(exc))  # it was a master when we came
                except ResponseError as exc:
                    raise BusUnavailable(f"{self.name}: {exc}") from None

    async def _until_routed(self) -> None:
        if self._routed is None:
            self._routed = self._loop.create_future()
        await asyncio.shield(self._routed)

    def _let_go(self) -> None:
        """Let those that wait for a connection look again."""
        routed, self._routed = self._routed, None
        if routed is not None and not routed.done():
            routed.set_result(None)

    # Subscriptions.

    def _adjust(self) -> None:
        """Subscribe to what is wanted now, and not to what is not wanted any more."""
        changed, self._changed = self._changed, set()
        gone: dict[Link, list[bytes]] = {}
        for name in changed:
            if name not in self._names:
                channel = self._channel(name)
                self._by_channel.pop(channel, None)
                link = self._routes[self._part(name)]
                if link is not None and link.lost is None:
                    gone.setdefault(link, []).append(channel)
        command = "SUNSUBSCRIBE" if self._is_cluster else "UNSUBSCRIBE"
        for link, channels in gone.items():
            for some in self._batches(channels):
                link.confirm(command, some)
        self._subscribe([name for name in changed if name in self._names])

    def _batches(self, channels: list[bytes]) -> Iterable[list[bytes]]:
        """Split the channels by command: on a cluster a command has channels of one slot only."""
        groups: dict[int, list[bytes]] = {}
        for channel in channels:
            groups.setdefault(key_slot(channel) if self._is_cluster else 0, []).append(channel)
        for group in groups.values():
            for first in range(0, len(group), BATCH):
                yield group[first : first + BATCH]

    def _subscribe(self, names: Iterable[str]) -> list[asyncio.Future[Any]]:
        """Subscribe to these at their present nodes, unless we do already."""
        wanted: dict[Link, list[bytes]] = {}
        for name in names:
            known = self._names[name]
            link = self._routes[self._part(name)]
            if link is not None and link.lost is None and known.link is not link:
                if known.link is not None:
                    self._forget([name])
                known.link = link
                wanted.setdefault(link, []).append(known.channel)
        command = "SSUBSCRIBE" if self._is_cluster else "SUBSCRIBE"
        asked = []
        for link, channels in wanted.items():
            for some in self._batches(channels):
                asked.append(link.confirm(command, some, partial(self._subscribed, link, some)))
        return asked

    def _subscribed(self, link: Link, channels: list[bytes], is_confirmed: bool) -> None:
        restored = []
        for channel in channels:
            name = self._by_channel.get(channel)
            known = None if name is None else self._names.get(name)
            if known is None or known.link is not link:
                continue
            assert name is not None
            if not is_confirmed:
                known.link = None
                continue
            if known.was:
                known.was = False
                restored.append(name)
            if not known.confirmed.done():
                known.confirmed.set_result(None)
        if restored:
            self._owner.restored(restored)
        if not is_confirmed:
            self._refresh()

    def _forget(self, names: Iterable[str]) -> None:
        """The link of these names does not subscribe to them any more."""
        for name in names:
            known = self._names[name]
            known.link = None
            known.forget()

    # Called for messages of Redis.

    def _on_push(self, link: Link, values: list[Any]) -> None:
        kind = values[0]
        if kind in (b"message", b"smessage"):
            name = self._by_channel.get(values[1])
            if name is None:
                return
            body = values[2]
            if body[:1] == _PLAIN:
                self._owner.take(name, body[1:], None, None)
            elif body[:1] == _NUMBERED:
                head, _, body = body[1:].partition(b"\n")
                position, _, before = head.decode().partition(" ")
                self._owner.take(name, body, position, before)
        elif kind == b"sunsubscribe":
            # The slot has another node now; or we have unsubscribed ourselves.
            name = self._by_channel.get(values[1])
            known = None if name is None else self._names.get(name)
            if name is not None and known is not None and known.link is link:
                self._forget([name])
                self._refresh()

    def _on_lost(self, link: Link, reason: str) -> None:
        self._forget([name for name, known in self._names.items() if known.link is link])
        self._servers.pop(link, None)
        for address, each in tuple(self._links.items()):
            if each is link:
                del self._links[address]
                self._reason = reason
                self._owner.health(reason)
                self._refresh()

    # Connections.

    def _refresh(self) -> None:
        self._dirty.set()

    async def _keep(self) -> None:
        """Connect, as often as it is necessary."""
        backoff = Backoff()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._connect()
            except Exception as exc:
                if not isinstance(exc, RedisError | OSError | LinkLost | ValueError):
                    error_log.error("Exception in topics", exc_info=exc)  # and go on all the same
                self._reason = str(exc) or type(exc).__name__
                if not isinstance(exc, MovedError):
                    self._owner.health(self._reason)
                self._dirty.set()
                await asyncio.sleep(backoff.next())
            else:
                self._reason = ""
                self._owner.health(None)
                backoff.reset()

    async def _connect(self) -> None:
        """Have all the connections there should be, and subscribe there."""
        seed = await self._seed()
        failure: Exception | None = None
        if self._is_cluster:
            self._routes, failure = await self._shares(seed)
        else:
            self._routes = [seed] * PARTS
        for address, link in tuple(self._links.items()):
            if link not in self._routes:
                del self._links[address]
                link.lose("not needed any more")
        asked = self._subscribe(tuple(self._names))
        self._let_go()
        await _all(asked)
        if failure is not None:
            raise failure

    async def _seed(self) -> Link:
        """A connection to some node."""
        if self._links:
            return random.choice(list(self._links.values()))
        try:
            return await self._link(None)
        except (RedisError, OSError, LinkLost):
            # A cluster goes on without the node that the URL names.
            for address in random.sample(self._addresses, len(self._addresses)):
                with suppress(RedisError, OSError, LinkLost):
                    return await self._link(address)
            raise

    async def _shares(self, seed: Link) -> tuple[list[Link | None], Exception | None]:
        """Return the node of each part of a cluster, and the reason if parts have none."""
        owners: dict[int, tuple[str, int]] = {}
        async with _patience():
            answer = await seed.call("CLUSTER", "SLOTS")
        for first, last, (host, port, *_), *_ in answer:
            address = (host.decode() if host else self._arguments["host"], port)
            owners |= {
                part: address
                for part in range(PARTS)
                if first <= key_slot(self._tag(part).encode()) <= last
            }
        self._addresses = list(set(owners.values()))
        opened = await asyncio.gather(*map(self._link, self._addresses), return_exceptions=True)
        links = dict(zip(self._addresses, opened, strict=True))
        failure: Exception | None = None
        if len(owners) < PARTS:
            failure = RedisError("the cluster is not complete")
        routes: list[Link | None] = []
        for part in range(PARTS):
            link = links.get(owners.get(part))  # type: ignore[arg-type]
            routes.append(link if isinstance(link, Link) else None)
            if isinstance(link, Exception):
                failure = link
        return routes, failure

    async def _link(self, address: tuple[str, int] | None) -> Link:
        """A connection to one node; None is the one of the URL."""
        link = self._links.get(address)
        if link is not None:
            return link
        link = Link(self._make(address), self._on_push, self._on_lost)
        try:
            async with _patience():
                await link.open()
                info = _fields(await link.call("INFO", "replication"))
                info |= _fields(await link.call("INFO", "cluster"))
        except BaseException:
            link.lose("given up")
            raise
        self._is_cluster = info.get("cluster_enabled") == "1"
        if info.get("role") != "master" and not self._is_cluster:
            link.lose("a replica")
            raise RedisError("this is a replica, where nothing can be published")
        self._links[address] = link
        self._servers[link] = "durable" if self._is_durable else info["master_replid"]
        return link

    def _make(self, address: tuple[str, int] | None) -> Any:
        """A connection of redis-py's to one node. Raises ValueError."""
        arguments = dict(self._arguments)
        if address is not None:
            arguments["host"], arguments["port"] = address
        kind = arguments.pop("connection_class")
        try:
            return kind(**arguments)
        except (TypeError, ValueError, RedisError) as exc:
            raise ValueError(f"redis-py does not take it: {exc}") from None


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Limit the time for a step of connecting. Raises OSError."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            yield
    except TimeoutError:
        raise OSError(f"no answer within {CONNECT_SECONDS:g} s") from None


class _Server:
    """Stands in a command for the server that it is sent to."""


def taken_apart(url: str) -> tuple[str, dict[str, Any], str, bool]:
    """A name for people, what redis-py is to be told, the prefix of all names, and whether Redis
    loses nothing.

    Raises ValueError.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("prefix", "asgiws")
    durable = query.pop("durable", "false")
    if durable not in ("true", "false"):
        raise ValueError("durable must be true or false")
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    plain = parts._replace(scheme=scheme, query=urlencode(query))
    arguments: dict[str, Any] = dict(parse_url(urlunsplit(plain)))
    arguments.setdefault("connection_class", Connection)
    arguments |= {"protocol": 3, "health_check_interval": 0}
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}", arguments, prefix, durable == "true"


def _fields(answer: Any) -> dict[str, str]:
    """The answer of INFO."""
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: value for key, _, value in pairs}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


async def _all(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of all, or the first failure once all are over."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
