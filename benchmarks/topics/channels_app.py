"""The chat as Django Channels has it: a consumer in a group, and channels_redis.

BENCHMARK_LAYER is the class of the layer, BENCHMARK_REDIS the address of the Redis.
"""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": os.environ["BENCHMARK_LAYER"],
            "CONFIG": {"hosts": [os.environ["BENCHMARK_REDIS"]]},
        }
    }
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402


class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("all", self.channel_name)
        await self.accept()
        await self.send(text_data="ready")

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("all", self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("all", {"type": "chat.message", "text": text_data})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


app = ProtocolTypeRouter({"websocket": Chat.as_asgi()})
