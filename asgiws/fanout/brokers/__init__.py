"""Brokers: topics between machines, over a service that is there already.

With ``--topics-url`` a broker stands in for the bus and the log of one machine: all workers of
all machines meet there. ``broker.py`` knows what topics promise, ``client.py`` says what is
asked of a client for one kind of broker.
"""

from __future__ import annotations

from ...errors import ConfigError
from .broker import Broker as Broker
from .broker import Hub
from .client import Client


def connected(hub: Hub, url: str) -> Broker:
    """The broker at ``url``, for a hub; it begins to connect. Raises ConfigError."""
    return Broker(hub, client(url))


def client(url: str) -> Client:
    """A client for ``url``, which has not been started. Raises ConfigError.

    The scheme is one that ``--topics-url`` takes.
    """
    # Each is loaded only if it is used.
    try:
        if url.partition(":")[0] in ("nats", "tls"):
            from .nats import Nats

            return Nats(url)
        from .redis import Redis

        return Redis(url)
    except ValueError as error:
        raise ConfigError(f"--topics-url: {error}") from None
