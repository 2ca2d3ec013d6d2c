"""Django Channels: an asynchronous consumer, one in threads, and a group they both speak to."""

from __future__ import annotations

import django
from asgiref.sync import async_to_sync
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import (  # noqa: E402
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("channels")


urlpatterns = [path("", home)]


class Echo(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("echo.v1" if "echo.v1" in self.scope["subprotocols"] else None)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "boom":
            raise RuntimeError("boom")
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Close(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.close(4001, "done")


class Deny(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close()


class Room(JsonWebsocketConsumer):
    """Synchronous: every call of a method is in a thread. All in the room hear everything."""

    groups = ("room",)

    def receive_json(self, content: object) -> None:
        send = async_to_sync(self.channel_layer.group_send)
        send("room", {"type": "heard", "content": content})

    def heard(self, event: dict[str, object]) -> None:
        self.send_json(event["content"])


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(
            URLRouter(
                [
                    path("echo", Echo.as_asgi()),
                    path("close", Close.as_asgi()),
                    path("deny", Deny.as_asgi()),
                    path("room", Room.as_asgi()),
                ]
            )
        ),
    }
)
