"""One publication on its way to all subscribers, and the forms in which they see it."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from ..errors import TopicError
from ..wire.prepared import Prepared

TEXT: Final = 0
BYTES: Final = 1
JSON: Final = 2


def to_json(value: Any) -> bytes:
    """``value`` as compact JSON in UTF-8. Raises TopicError."""
    try:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except UnicodeEncodeError:
        raise TopicError("text must be encodable in UTF-8 (no lone surrogates)") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise TopicError(f"json must be something that json.dumps takes: {error}") from None


class Publication:
    """A message of one topic, the same for all that get it.

    ``payload`` are the bytes on the wire: UTF-8 for TEXT and JSON. ``position`` is
    ``epoch:offset``, or None in a topic without history. Of messages with the same ``key`` a
    slow subscriber may get only the last one. ``exclude`` names the member that does not get it.
    """

    __slots__ = ("_enveloped", "_plain", "exclude", "key", "kind", "payload", "position", "topic")

    def __init__(
        self,
        topic: str,
        kind: int,
        payload: bytes,
        key: str | None = None,
        exclude: Any = None,
        position: str | None = None,
    ) -> None:
        self.topic = topic
        self.kind = kind
        self.payload = payload
        self.key = key
        self.exclude = exclude
        self.position = position
        self._plain: Prepared | None = None
        self._enveloped: Prepared | None = None

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)

    def plain(self) -> Prepared:
        """The message as it was published."""
        if self._plain is None:
            self._plain = Prepared(self.payload, self.kind != BYTES)
        return self._plain

    def enveloped(self) -> Prepared:
        """The message in a JSON object that tells topic and position."""
        if self._enveloped is None:
            if self.kind == JSON:
                data = b'"data":' + self.payload
            elif self.kind == TEXT:
                data = b'"data":' + to_json(self.payload.decode())
            else:
                data = b'"base64":"' + base64.b64encode(self.payload) + b'"'
            head = to_json({"topic": self.topic, "position": self.position})
            self._enveloped = Prepared(head[:-1] + b"," + data + b"}", True)
        return self._enveloped


def notice(topic: str, **values: Any) -> Prepared:
    """A notice for a socket with envelopes, beside messages: an object without ``data``."""
    return Prepared(to_json({"topic": topic, **values}), True)


class Message:
    """A message of a topic, as ``listen`` gives it."""

    __slots__ = ("gap", "publication")

    def __init__(self, publication: Publication, gap: int = 0) -> None:
        self.publication = publication
        self.gap: int = gap
        """The number of messages of the topic that this subscriber has missed just before it."""

    def __repr__(self) -> str:
        return f"<Message {self.topic!r} {self.position or ''} {self.data!r:.100}>"

    @property
    def topic(self) -> str:
        """The name of its topic."""
        return self.publication.topic

    @property
    def position(self) -> str | None:
        """``epoch:offset``, to go on behind it later; None in a topic without history."""
        return self.publication.position

    @property
    def key(self) -> str | None:
        """The ``key`` with which it was published."""
        return self.publication.key

    @property
    def data(self) -> Any:
        """The published value: a str, bytes, or the value of the JSON."""
        publication = self.publication
        if publication.kind == BYTES:
            return publication.payload
        if publication.kind == JSON:
            return json.loads(publication.payload)
        return publication.payload.decode()

    @property
    def text(self) -> str:
        """The text, or the JSON as text. Raises TopicError for bytes."""
        if self.publication.kind == BYTES:
            raise TopicError(f"a message of {self.topic!r} is bytes and not text")
        return self.publication.payload.decode()

    @property
    def bytes(self) -> bytes:
        """The payload as it goes over the wire."""
        return self.publication.payload
