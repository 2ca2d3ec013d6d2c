"""A proxy that splits what a client sends at random places, the same ones for the same seed.

TCP may deliver a byte stream in any pieces. A parser that relies on the usual ones
works until a packet is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

PAUSE = 0.001  # seconds between two pieces: the server has read the first one by then
DENSE = 2_000  # bytes of a connection that go in small pieces; then large ones are mixed in
READ = 2**16


class Cutter:
    """Splits one byte stream. Where it does depends on the seed, not on how the bytes arrive."""

    def __init__(self, seed: str) -> None:
        self._choice = random.Random(seed)
        self._position = 0
        self._left = self._length()

    def _length(self) -> int:
        return int(2 ** self._choice.uniform(0, 5 if self._position < DENSE else 16))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The next bytes of the stream, split at the cuts among them."""
        while data:
            piece, data = data[: self._left], data[self._left :]
            self._position += len(piece)
            self._left -= len(piece)
            if not self._left:
                self._left = self._length()
            yield piece


class CuttingProxy:
    """Listens on a free port of the loopback and passes everything on to ``target``.

    It runs in a thread of its own. Its n-th connection has the seed ``f"{seed}/{n}"``.
    """

    def __init__(self, target: int, seed: str) -> None:
        self._target = target
        self._seed = seed
        self._numbers = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            server = runner.run(asyncio.start_server(self._connect, sock=self._listener))
            self._loop.run_forever()
            server.close()

    async def _connect(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        seed = f"{self._seed}/{next(self._numbers)}"
        try:
            server, onward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            back.transport.abort()
            return
        answers = asyncio.create_task(_pass_on(server, back))
        try:
            await _pass_on(client, onward, Cutter(seed))
            await answers
        finally:
            answers.cancel()
            for writer in (onward, back):
                writer.close()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutter: Cutter | None = None
) -> None:
    """Copy until the end of the stream, and pass on the end too."""
    # A reset on one side becomes the end of the stream on the other.
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(READ):
            if cutter is None:
                writer.write(data)
                await writer.drain()
                continue
            for piece in cutter.pieces(data):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(PAUSE)
    with contextlib.suppress(OSError):
        writer.write_eof()
