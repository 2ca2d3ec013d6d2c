"""Clients that talk until they are killed: `python -m tests.load.clients ws://... 100`."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect


async def talk(url: str) -> None:
    async with connect(f"{url}/echo") as client:
        while True:
            await client.send("x" * 1000)
            await client.recv()


async def main(url: str, count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(talk(url))
        print(f"http{url[2:]} is talked to", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
