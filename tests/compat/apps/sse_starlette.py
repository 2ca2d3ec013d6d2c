"""sse-starlette: numbered events that a browser resumes, and a stream with nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

PAGE = """<!doctype html><title>events</title><link rel="icon" href="data:,">
<output id="numbers"></output> <output id="quiet"></output>
<script>
const show = (id, text) => { document.getElementById(id).textContent += text + " "; };
const numbers = new EventSource("/numbers");
numbers.addEventListener("number", event => show("numbers", event.data));
numbers.addEventListener("last", () => { numbers.close(); show("numbers", "end"); });
const quiet = new EventSource("/quiet");
quiet.onopen = () => show("quiet", "open");
</script>
"""

running = 0


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def numbers(request: Request) -> Response:
    """1 to 9, three of them in a response: the browser comes again for what is next."""
    last = int(request.headers.get("last-event-id", "0"))

    async def events() -> AsyncIterator[dict[str, str | int]]:
        for number in range(last + 1, last + 4):
            yield {"event": "number", "data": str(number), "id": str(number), "retry": 10}
        if number == 9:
            yield {"event": "last", "data": ""}

    return EventSourceResponse(events())


async def quiet(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        global running
        running += 1
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            running -= 1

    return EventSourceResponse(events(), ping=3600)


async def how_many(request: Request) -> Response:
    return JSONResponse(running)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/numbers", numbers),
        Route("/quiet", quiet),
        Route("/running", how_many),
    ]
)
