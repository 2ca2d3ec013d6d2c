"""A pytest plugin: Starlette's TestClient reaches its application through asgiws.

TestClient is an ASGI server in memory. The application it gets here is ``OverASocket``:
it starts asgiws in a thread, opens a connection to it, and translates events to frames
and back. What the real application raises behind the server is raised here, as in memory.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from contextlib import ExitStack, suppress
from typing import Any

import anyio
import httpx
from starlette.testclient import TestClient
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

import asgiws

DEADLINE = 10.0  # seconds for anything that must happen

# Parts of the handshake, which TestClient neither sends nor expects to see.
HANDSHAKE = {"connection", "upgrade", "sec-websocket-accept", "sec-websocket-extensions"} | {
    f"sec-websocket-{name}" for name in ("key", "version", "protocol")
}


def pytest_configure() -> None:
    """The tests' modules find the changed TestClient when they are imported."""
    in_memory = TestClient.__init__

    def __init__(self: TestClient, app: Any, *args: Any, **options: Any) -> None:
        in_memory(self, OverASocket(app), *args, **options)

    TestClient.__init__ = __init__  # type: ignore[method-assign]


class Server:
    """asgiws around one application, in a thread; it serves one connection."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.sent: list[dict[str, Any]] = []  # what the application has sent
        self.error: BaseException | None = None  # what it has raised
        self.ended = threading.Event()
        self._started = threading.Event()
        self._server = asgiws.Server(
            asgiws.Config(
                self._watched,
                port=0,
                http=os.environ.get("PARSER", "auto"),
                lifespan="off",
                access_log=False,
                server_header=False,
                date_header=False,
            )
        )
        # In memory the application sees the context variables of the test.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(asyncio.run, self._serve()))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._started.wait(DEADLINE)
        self.port = self._server.addresses[0][1]
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._server.serve())
        await self._server.wait_started()
        self._started.set()
        await serving

    async def _watched(self, scope: Any, receive: Any, send: Any) -> None:
        async def watched_send(event: Any) -> None:
            self.sent.append(event)
            await send(event)

        try:
            await self._app(scope, receive, watched_send)
        except BaseException as exc:
            self.error = exc
            raise
        finally:
            self.ended.set()

    async def raise_error(self) -> None:
        """Wait for the application's end, and raise what it has raised."""
        assert await asyncio.to_thread(self.ended.wait, DEADLINE), "the application goes on"
        if self.error is not None:
            raise self.error


class OverASocket:
    """The application ``app``, behind a server."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        with ExitStack() as stack:
            server = stack.enter_context(Server(self.app))
            if scope["type"] == "http":
                await self._http(server, scope, receive, send)
            else:
                await Session(server, scope, receive, send).run()

    async def _http(self, server: Server, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        url = httpx.URL(f"http://127.0.0.1:{server.port}", raw_path=target(scope))
        async with httpx.AsyncClient(timeout=DEADLINE) as client:
            request = httpx.Request(scope["method"], url, headers=scope["headers"], content=body)
            response = await client.send(request, stream=True)
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": response.headers.raw})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        await server.raise_error()


def target(scope: Any) -> bytes:
    query = scope["query_string"]
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return path + b"?" + query if query else path


class Session:
    """One WebSocket: TestClient's events on one side, frames on the other."""

    def __init__(self, server: Server, scope: Any, receive: Any, send: Any) -> None:
        self._server = server
        self._scope = scope
        self._receive = receive
        self._send = send
        uri = f"ws://127.0.0.1:{server.port}{target(scope).decode('latin-1')}"
        self._protocol = ClientProtocol(parse_uri(uri), subprotocols=scope["subprotocols"] or None)
        self._left = False  # TestClient has sent websocket.disconnect

    async def run(self) -> None:
        assert (await self._receive())["type"] == "websocket.connect"
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            self._request()
            if await self._accepted():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._take_events)
                    await self._take_frames()
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave()
                await self._server.raise_error()

    def _request(self) -> None:
        request = self._protocol.connect()
        del request.headers["Host"]
        for name, value in self._scope["headers"]:
            if name.decode() not in HANDSHAKE:
                request.headers[name.decode()] = value.decode("latin-1")
        self._protocol.send_request(request)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                self._writer.write_eof()

    async def _read(self) -> list[Any]:
        """The next protocol events; none at the end of the stream."""
        while True:
            try:
                data = await self._reader.read(65536)
            except ConnectionError:
                data = b""
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            with suppress(OSError):
                self._flush()
            events = self._protocol.events_received()
            if events or not data:
                return events

    async def _accepted(self) -> bool:
        """Pass on the answer to the handshake; whether it is a 101."""
        events = await self._read()
        response = events[0]
        assert isinstance(response, Response)
        if response.status_code == 101:
            assert self._protocol.handshake_exc is None, self._protocol.handshake_exc
            headers = [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in response.headers.raw_items()
                if name.lower() not in HANDSHAKE
            ]
            await self._send(
                {
                    "type": "websocket.accept",
                    "subprotocol": self._protocol.subprotocol,
                    "headers": headers,
                }
            )
            for event in events[1:]:
                await self._pass_on(event)
            return True
        sent = self._server.sent[0] if self._server.sent else {"type": "nothing"}
        if sent["type"] == "websocket.close":
            assert response.status_code == 403
            await self._send(sent)
        elif sent["type"] == "websocket.http.response.start" and self._server.error is None:
            headers = [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in response.headers.raw_items()
            ]
            await self._send({**sent, "status": response.status_code, "headers": headers})
            await self._send(
                {"type": "websocket.http.response.body", "body": bytes(response.body or b"")}
            )
        else:
            assert response.status_code == 500
        return False

    async def _take_frames(self) -> None:
        while events := await self._read():
            for event in events:
                await self._pass_on(event)

    async def _pass_on(self, frame: Any) -> None:
        assert isinstance(frame, Frame)
        if frame.opcode is Opcode.TEXT:
            await self._send({"type": "websocket.send", "text": bytes(frame.data).decode()})
        elif frame.opcode is Opcode.BINARY:
            await self._send({"type": "websocket.send", "bytes": bytes(frame.data)})
        elif frame.opcode is Opcode.CLOSE:
            close = self._protocol.close_rcvd
            assert close is not None
            event = {"type": "websocket.close", "code": close.code, "reason": close.reason}
            await self._send(event)

    async def _take_events(self) -> None:
        while not self._left:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._left = True
                if self._protocol.state is State.OPEN:
                    self._protocol.send_close(event["code"], event["reason"] or "")
            elif event.get("text") is not None:
                self._protocol.send_text(event["text"].encode())
            else:
                self._protocol.send_binary(event["bytes"])
            self._flush()

    async def _leave(self) -> None:
        """Say what TestClient still has to say, and read to the end."""
        with anyio.move_on_after(DEADLINE):
            if self._protocol.state is State.OPEN:
                await self._take_events()
            while await self._read():
                pass
        self._writer.close()
