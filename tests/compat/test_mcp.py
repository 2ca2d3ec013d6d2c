"""MCP's Python SDK, client and server: tool calls with progress, over both transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import InUse

pytestmark = pytest.mark.slow

TIMEOUT = 30.0


def streamable_http(url: str) -> Any:
    return f"{url}/mcp"


def sse(url: str) -> Any:
    from mcp.client.sse import sse_client

    return sse_client(f"{url}/sse")


@pytest.mark.parametrize(
    ("transport", "mode"),
    [(streamable_http, "auto"), (streamable_http, "legacy"), (sse, "legacy")],
    ids=["streamable HTTP", "streamable HTTP with sessions", "SSE"],
)
def test_tools_report_progress_and_the_server_ends_in_the_middle_of_a_call(
    transport: Callable[[str], Any], mode: str
) -> None:
    import mcp

    async def use(server: InUse) -> None:
        progress: list[tuple[float, float | None]] = []
        begun = asyncio.Event()

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            progress.append((done, total))

        async def on_begin(done: float, total: float | None, message: str | None) -> None:
            begun.set()

        async with mcp.Client(transport(server.url), mode=mode) as client:
            tools = await client.list_tools()
            assert [tool.name for tool in tools.tools] == ["add", "wait_for_ever"]
            sums = await asyncio.gather(
                *(client.call_tool("add", {"numbers": [number] * 3}) for number in range(10))
            )
            assert [result.structured_content for result in sums] == [
                {"result": 3 * number} for number in range(10)
            ]
            result = await client.call_tool(
                "add", {"numbers": [1, 2, 3]}, progress_callback=on_progress
            )
            assert result.structured_content == {"result": 6}
            assert progress == [(1, 3), (2, 3), (3, 3)]
            greeting = await client.read_resource("greeting://Ada")
            assert greeting.contents[0].text == "Hello, Ada!"

            call = asyncio.create_task(
                client.call_tool("wait_for_ever", progress_callback=on_begin)
            )
            await begun.wait()
            end = asyncio.create_task(asyncio.to_thread(server.end))
            with pytest.raises(mcp.MCPError):
                await call
            await end

    with InUse("mcp") as server:
        asyncio.run(asyncio.wait_for(use(server), TIMEOUT))
