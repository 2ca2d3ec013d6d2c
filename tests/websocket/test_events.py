"""Events of ASGI: which ones are well formed, and what a malformed one is told."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.fake_transport import (
    Session,
    settle,
)


class TestWellFormed:
    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"text": None, "bytes": None},
            {"text": "a", "bytes": b"b"},
            {"text": "", "bytes": b""},
            {"text": b"a"},
            {"bytes": "a"},
            {"bytes": 5},
            {"bytes": [1, 2]},
            {"text": 5},
            {"text": "\ud800"},
        ],
    )
    @pytest.mark.parametrize("deflate", [False, True])
    async def test_a_malformed_message_says_what_was_expected(
        self, package: ModuleType, event: dict[str, Any], deflate: bool
    ) -> None:
        settings = package.wire.deflate.Settings() if deflate else None
        session = Session(package, deflate=settings)
        await session.accept()
        with pytest.raises(package.errors.ASGIError, match=r"websocket\.send: expected .*, got"):
            await session.send({"type": "websocket.send", **event})
        await session.text("still open")
        await settle()
        assert session.sent() == [(0x81, b"still open")]
        assert session.websocket.messages_out == 1

    @pytest.mark.parametrize(
        "event",
        [
            {"code": 999},
            {"code": 1005},
            {"code": 1006},
            {"code": 1015},
            {"code": 5000},
            {"code": "1000"},
            {"code": 1000.0},
            {"code": True},
            {"reason": b"bytes"},
            {"reason": 5},
            {"reason": "\udfff"},
        ],
    )
    async def test_a_malformed_close_says_what_was_expected(
        self, package: ModuleType, event: dict[str, Any]
    ) -> None:
        session = Session(package)
        await session.accept()
        with pytest.raises(package.errors.ASGIError, match=r"websocket\.close: expected"):
            await session.send({"type": "websocket.close", **event})
        await session.text("still open")
        assert session.sent() == [(0x81, b"still open")]

    @pytest.mark.parametrize("subprotocol", [b"chat", 5, ["chat"]])
    async def test_a_subprotocol_is_text(self, package: ModuleType, subprotocol: Any) -> None:
        session = Session(package)
        with pytest.raises(package.errors.ASGIError, match=r"websocket\.accept: expected"):
            await session.send({"type": "websocket.accept", "subprotocol": subprotocol})
        assert session.opening.calls == []

    async def test_a_reason_too_long_is_cut_with_a_warning(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package)
        await session.accept()
        await session.close(1000, "x" * 122 + "é")
        assert session.sent() == [(0x88, b"\x03\xe8" + b"x" * 122)]
        assert [record.levelname for record in log] == ["WARNING"]

    async def test_a_reason_that_fits_is_sent_without_a_warning(
        self, package: ModuleType, log: list[logging.LogRecord]
    ) -> None:
        session = Session(package)
        await session.accept()
        await session.close(1000, "x" * 123)
        assert session.sent() == [(0x88, b"\x03\xe8" + b"x" * 123)]
        assert log == []

    async def test_any_kind_of_str_and_bytes_is_sent(self, package: ModuleType) -> None:
        class Text(str):
            def __str__(self) -> str:
                return "another"

        class Bytes(bytes):
            pass

        for settings in None, package.wire.deflate.Settings():
            session = Session(package, deflate=settings)
            await session.accept()
            await session.text(Text("safe"))
            view = memoryview(b"-x-x-x")[1::2]
            for data in Bytes(b"bytes"), bytearray(b"array"), memoryview(b"view"), view:
                await session.send({"type": "websocket.send", "bytes": data})
            await settle()
            payloads = [payload for _, payload in session.sent()]
            assert payloads == [b"safe", b"bytes", b"array", b"view", b"xxx"]
