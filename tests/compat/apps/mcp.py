"""MCP's Python SDK: one server with a tool that reports its progress, over both transports.

``/mcp`` is streamable HTTP, ``/sse`` with ``/messages/`` the older pair.
"""

from __future__ import annotations

import asyncio

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("calculator")


@server.tool()
async def add(numbers: list[int], context: Context) -> int:
    """The sum, with a report after each number."""
    total = 0
    for done, number in enumerate(numbers, 1):
        total += number
        await context.report_progress(done, len(numbers))
    return total


@server.tool()
async def wait_for_ever(context: Context) -> None:
    """Reports that it has begun, and never ends."""
    await context.report_progress(0, 1)
    await asyncio.Event().wait()


@server.resource("greeting://{name}")
def greeting(name: str) -> str:
    return f"Hello, {name}!"


app = server.streamable_http_app()
app.router.routes.extend(server.sse_app().routes)
