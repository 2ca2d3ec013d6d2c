"""Django without Channels: plain views of both kinds, an upload, and streams without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

running: set[str] = set()


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("django")


async def upload(request: HttpRequest) -> HttpResponse:
    return JsonResponse({name: file.size for name, file in request.FILES.items()})


async def ticks(request: HttpRequest) -> HttpResponse:
    async def lines() -> AsyncIterator[str]:
        running.add("ticks")
        try:
            number = 0
            while True:
                number += 1
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.05)
        finally:
            running.discard("ticks")

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


async def quiet(request: HttpRequest) -> HttpResponse:
    async def lines() -> AsyncIterator[str]:
        running.add("quiet")
        try:
            yield "data: begun\n\n"
            await asyncio.Event().wait()
        finally:
            running.discard("quiet")

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


async def how_many(request: HttpRequest) -> HttpResponse:
    return JsonResponse(sorted(running), safe=False)


urlpatterns = [
    path("", plain),
    path("upload", upload),
    path("ticks", ticks),
    path("quiet", quiet),
    path("running", how_many),
]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    LOGGING_CONFIG=None,
)
django.setup()
app = get_asgi_application()
