"""A WebSocket client that sends whatever bytes a test wants, and reads frames one by one."""

from __future__ import annotations

import socket
import struct
from typing import Any

from .client_frames import CLOSE, PING
from .raw_http import Client, Reply, request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

FIELDS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def upgrade(
    *more: str,
    target: str = "/",
    method: str = "GET",
    version: str = "1.1",
    **changed: str | None,
) -> bytes:
    """A request to open a WebSocket, with ``more`` header lines.

    ``changed`` gives another value to one of FIELDS, as in ``sec_websocket_key="..."``;
    None leaves it out.
    """
    fields: dict[str, str | None] = {**FIELDS}
    for name, value in changed.items():
        (field,) = [field for field in FIELDS if field.lower().replace("-", "_") == name]
        fields[field] = value
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return request(*lines, *more, target=target, method=method, version=version)


class RawWebSocket(Client):
    """An open WebSocket; ``reply`` is the 101."""

    def __init__(
        self, where: Any, *headers: str, target: str = "/", receive_buffer: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(where, receive_buffer=receive_buffer, **kwargs)
        try:
            self.send(upgrade(*headers, target=target))
            self.reply: Reply = self.read()
            assert self.reply.status == 101, self.reply
        except BaseException:
            self.close()
            raise

    def read_frame(self, *, pings: bool = False) -> tuple[int, bytes]:
        """The next frame, opcode and payload; (-1, b"") at the end of the connection.

        Keepalive begins at a random moment: its pings are passed over unless asked for.
        """
        while True:
            opcode, payload = self._read_frame()
            if pings or opcode != PING:
                return opcode, payload

    def _read_frame(self) -> tuple[int, bytes]:
        head = self.file.read(2)
        if not head:
            return -1, b""
        size = head[1]
        assert size < 128, "a server must not mask (RFC 6455 section 5.1)"
        if size == 126:
            (size,) = struct.unpack("!H", self.file.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.file.read(8))
        payload = self.file.read(size)
        assert len(payload) == size, "a frame is cut"
        return head[0] & 0x0F, payload

    def close_code(self) -> int:
        """The code of the close frame that comes next, behind whatever else; then the FIN.

        1005 stands for a close frame without a code, 1006 for an end without one.
        """
        while True:
            opcode, payload = self.read_frame()
            if opcode == -1:
                return 1006
            if opcode == CLOSE:
                self.finish()
                assert self.rest() == b"", "something came behind the close frame"
                return int.from_bytes(payload[:2], "big") if payload else 1005

    def cut(self) -> None:
        """End both directions at once, whatever is on its way."""
        self.sock.shutdown(socket.SHUT_RDWR)
