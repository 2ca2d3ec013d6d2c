"""The ways to reach many subscribers, each a server with an application and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from ..servers import Server

_QUIET = "--log-level critical --no-access-log"


@dataclass(frozen=True)
class Way:
    """``app`` is served by ``server``; ``layer`` is the class of a channel layer.

    ``greets``: it says "ready" to whoever hears everything from then on. ``redis``: it needs
    one; with ``bus`` the server does, and not the application.
    """

    name: str
    app: str
    server: str = "asgiws"
    path: str = "/chat"
    greets: bool = True
    redis: bool = False
    bus: bool = False
    layer: str = ""

    def command(self, port: int | None, options: str = "") -> Server:
        """How it is started, with a Redis at that port; ``options`` are for the server."""
        if self.server == "c-epoll":
            return Server(
                self.name, "c-epoll {listen} broadcast", "", port="{address}", floor=True, tcp=True
            )
        env = {"BENCHMARK_LAYER": self.layer} if self.layer else {}
        words = [self.server, self.app, "{listen}", _QUIET, options]
        if self.bus:
            words.append(f"--topics-url redis://127.0.0.1:{port}")
        elif port is not None:
            env["BENCHMARK_REDIS"] = f"redis://127.0.0.1:{port}"
        return Server(self.name, " ".join(filter(None, words)), "", env=env)

    def load(self, arguments: str) -> str:
        """The arguments of the load generator for it."""
        if self.server == "c-epoll":
            return arguments
        return f"{arguments} --path {self.path}{' --greeted' if self.greets else ''}"


TOPICS = Way("asgiws.topics", "topics.apps:topics")
LOOP = Way("loop in Starlette, asgiws", "topics.apps:loop")
RAW = Way("loop in plain ASGI, asgiws", "apps:raw", path="/broadcast", greets=False)
UVICORN = Way("loop in Starlette, uvicorn", "topics.apps:loop", server="uvicorn")
FLOOR = Way("write alone, in C", "", server="c-epoll")
OVER_REDIS = (
    Way("asgiws.topics, --topics-url redis://", "topics.apps:topics", redis=True, bus=True),
    Way("a listener and a loop on redis-py", "topics.apps:hand", redis=True),
    Way("broadcaster", "topics.apps:broadcaster", redis=True),
    Way("broadcaster, on uvicorn", "topics.apps:broadcaster", server="uvicorn", redis=True),
    Way(
        "channels_redis, pub/sub",
        "topics.channels_app:app",
        redis=True,
        layer="channels_redis.pubsub.RedisPubSubChannelLayer",
    ),
    Way(
        "channels_redis",
        "topics.channels_app:app",
        redis=True,
        layer="channels_redis.core.RedisChannelLayer",
    ),
    Way(
        "channels_redis, on uvicorn",
        "topics.channels_app:app",
        server="uvicorn",
        redis=True,
        layer="channels_redis.core.RedisChannelLayer",
    ),
)
