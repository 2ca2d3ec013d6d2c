"""The end of a connection: the FIN, and the deadline that cuts it off (RFC 6455 section 7)."""

from __future__ import annotations

from types import ModuleType

import pytest

from ..toolkit.client_frames import (
    client_frame,
    close_frame,
)
from ..toolkit.fake_transport import (
    CLOSE_1000,
    Session,
)


class TestClosing:
    async def test_over_tls_there_is_no_half_close(self, package: ModuleType) -> None:
        session = Session(package, tls=True)
        await session.accept()
        session.feed(close_frame(1000))
        assert session.sent() == [CLOSE_1000]
        assert session.transport.calls == ["close"]

    @pytest.mark.parametrize("who", ["we", "the peer", "failed"])
    async def test_a_peer_that_does_not_finish_is_cut_off_at_the_deadline(
        self, package: ModuleType, who: str
    ) -> None:
        session = Session(package, close_timeout=10.0)
        await session.accept()
        if who == "we":
            await session.close()
        else:
            session.feed(close_frame(1000) if who == "the peer" else client_frame(3))
        session.clock.advance(8.9)
        session.feed(b"x" * 1000)  # noise does not extend it
        assert "abort" not in session.transport.calls
        session.clock.advance(2.1)
        assert session.transport.calls[-1] == "abort"
        session.lost()
        calls = list(session.transport.calls)
        session.clock.advance(100)
        assert session.transport.calls == calls

    async def test_a_deadline_that_runs_is_not_set_back(self, package: ModuleType) -> None:
        session = Session(package, close_timeout=10.0)
        await session.accept()
        await session.close()
        session.clock.advance(7)
        session.feed(close_frame(1000))
        assert session.transport.calls == ["write_eof"]
        session.clock.advance(4)
        assert session.transport.calls == ["write_eof", "abort"]

    async def test_abort_cuts_the_connection(self, package: ModuleType) -> None:
        session = Session(package)
        session.websocket.abort()
        await session.accept()
        session.websocket.abort()
        assert session.transport.calls == ["abort"]
        session.lost()
        session.websocket.abort()
        assert session.transport.calls == ["abort"]

    async def test_a_peer_that_has_reset_takes_no_fin(
        self, package: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write_eof() -> None:
            raise OSError("Transport endpoint is not connected")

        session = Session(package)
        await session.accept()
        monkeypatch.setattr(session.transport, "write_eof", write_eof)
        session.feed(close_frame(1000))
        assert session.transport.calls == ["abort"]
