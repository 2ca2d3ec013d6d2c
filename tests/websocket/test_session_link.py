"""The link of a session: every state meets every event, and what follows our own close."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from ..toolkit.client_frames import BINARY, PING, TEXT, client_frame, close_frame, deflated
from ..toolkit.fake_transport import CLOSE_1000, Session, disconnect_event, settle, text_event

LINKS = ["OPENING", "OPEN", "FAILING", "DEPARTED", "CLOSING", "LINGERING", "OVER"]
BAD = client_frame(3)


async def in_link(package: ModuleType, link: str) -> Session:
    """A session whose link is in that state."""
    session = Session(package, max_queue=1, accept_timeout=30.0)
    if link != "OPENING":
        await session.accept()
    if link == "FAILING":
        session.feed(client_frame(TEXT, b"one"))
        assert await session.receive() == text_event("one")
        session.feed(BAD)
    elif link == "DEPARTED":
        session.feed(client_frame(TEXT, b"one") * 3)
        session.websocket.eof_received()
    elif link == "CLOSING":
        await session.close()
    elif link == "LINGERING":
        session.feed(close_frame(1000))
    elif link == "OVER":
        session.lost()
    assert session.websocket.link == getattr(package.websocket.states, link)
    return session


# What may happen, and the link after it, in the order of LINKS.
EVENTS: dict[str, tuple[Callable[[Session], object], str]] = {
    "data": (
        lambda session: session.feed(client_frame(TEXT, b"x")),
        "- OPEN FAILING - CLOSING LINGERING -",
    ),
    "a bad frame": (
        lambda session: session.feed(BAD),
        "- LINGERING FAILING - LINGERING LINGERING -",
    ),
    "the peer's close": (
        lambda session: session.feed(close_frame(1000)),
        "- LINGERING FAILING - LINGERING LINGERING -",
    ),
    "eof": (
        lambda session: session.websocket.eof_received(),
        "- LINGERING LINGERING - LINGERING LINGERING -",
    ),
    "lost": (
        lambda session: session.lost(),
        "- OVER OVER DEPARTED OVER OVER OVER",
    ),
    "shutdown": (
        lambda session: session.websocket.shutdown(),
        "OVER CLOSING LINGERING LINGERING CLOSING LINGERING OVER",
    ),
    "a minute": (
        lambda session: session.clock.advance(60),
        "OVER LINGERING LINGERING DEPARTED CLOSING LINGERING OVER",
    ),
    "the client leaves": (
        lambda session: session.websocket.client_left(),
        "OVER - - - - - OVER",
    ),
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("event", EVENTS)
async def test_every_state_meets_every_event(package: ModuleType, link: str, event: str) -> None:
    happens, after = EVENTS[event]
    expected = after.split()[LINKS.index(link)]
    if expected == "-":
        return  # the transport, or HTTP, does not do this here
    session = await in_link(package, link)
    settled = session.websocket.close_code if session.websocket.link > 3 else None
    happens(session)
    states = package.websocket.states
    if event == "a minute" and link == "OPEN":
        # It was pinged and did not answer: 1011, and the cut soon after.
        assert session.websocket.link == states.CLOSING
        assert "abort" in session.transport.calls
    else:
        assert session.websocket.link == getattr(states, expected)
    if settled is not None:
        assert session.websocket.close_code == settled  # the first cause counts
    if session.websocket.link > states.FAILING and link != "OPENING":
        with pytest.raises(package.errors.ClientDisconnected):
            await package_send(session, link)
    if session.websocket.link >= states.CLOSING:
        for _ in range(5):
            found = await asyncio.wait_for(session.receive(), 5)
            if found["type"] == "websocket.disconnect":
                break
        assert found["type"] == "websocket.disconnect"


async def package_send(session: Session, link: str) -> None:
    """Send where the application may; it has closed in state CLOSING."""
    if link == "CLOSING":
        raise session.package.errors.ClientDisconnected
    await session.text("late")


def test_the_table_ends_and_never_goes_back(package: ModuleType) -> None:
    states = package.websocket.states
    for link, changes in states.LINKS.items():
        assert all(after > link for after in changes.values())
        if link != states.OVER:
            assert changes[states.LOST] == states.OVER


async def test_a_client_that_vanishes_behind_a_bad_frame_is_1002(package: ModuleType) -> None:
    session = Session(package, max_queue=1)
    await session.accept()
    session.feed(client_frame(TEXT, b"one") + client_frame(TEXT, b"two") + BAD)
    session.lost()
    assert await session.receive() == text_event("one")
    assert await session.receive() == text_event("two")
    assert await session.receive() == disconnect_event(1002, "reserved opcode")
    assert session.websocket.closed_by == "server"


async def test_what_comes_behind_our_close_is_not_inflated(
    package: ModuleType, buffered: bool
) -> None:
    settings = package.wire.deflate.Settings()
    session = Session(package, buffered=buffered, deflate=settings, max_size=1 << 24)
    await session.accept()
    bomb = client_frame(TEXT, deflated(bytes(8 << 20)), rsv=4)
    session.feed(bomb)
    await session.close()
    before = time.thread_time()
    for _ in range(200):
        session.feed(bomb)
    assert session.websocket.messages_in == 1
    # 1.6 GB inflated: seconds at the least.
    assert time.thread_time() - before < 0.5
    session.feed(client_frame(PING, b"?") + close_frame(1000))
    assert session.sent() == [CLOSE_1000, (0x8A, b"?")]
    assert session.transport.calls == ["write_eof"]


async def test_a_shutdown_skips_what_is_queued(package: ModuleType) -> None:
    settings = package.wire.deflate.Settings()
    session = Session(package, deflate=settings, max_size=1 << 24, max_queue=1)
    await session.accept()
    session.feed(
        client_frame(TEXT, b"one") + client_frame(TEXT, deflated(bytes(8 << 20)), rsv=4) * 7
    )
    session.websocket.shutdown()
    assert session.websocket.messages_in == 1


async def test_a_flood_does_not_keep_the_close_deadline_from_firing(package: ModuleType) -> None:
    session = Session(package, close_timeout=10.0)
    await session.accept()
    session.transport.stuck = True
    await session.text("x" * 1000)
    await session.close()
    for _ in range(12):
        session.feed(client_frame(PING, bytes(100)) * 10 + client_frame(BINARY, bytes(1000)))
        session.transport.unwritten = 500  # the pongs, it seems, are being read
        session.clock.advance(1)
        if session.transport.ended:
            break
    assert session.transport.calls == ["abort"]


async def test_a_bounded_backlog_that_is_read_prolongs_the_close(package: ModuleType) -> None:
    session = Session(package, close_timeout=10.0)
    await session.accept()
    session.transport.unwritten = 100_000
    await session.close()
    for _ in range(90):
        session.transport.unwritten -= 1000
        session.clock.advance(1)
    assert session.transport.calls == []
    session.clock.advance(12)
    assert session.transport.calls == ["abort"]


async def test_a_transport_that_is_lost_already_ends_the_session(package: ModuleType) -> None:
    session = Session(package, tls=True)
    session.transport.calls.append("close")
    await session.accept()
    await settle()
    assert ("ended",) in session.opening.calls
    assert session.pulse.members == set()
    session.lost()  # once more is nothing new
    assert session.opening.calls.count(("ended",)) == 1
    assert await session.receive() == disconnect_event(1006)


class Reason(str):
    """A str of a class of its own."""


class OwnEvent(dict[str, Any]):
    """A dict of a class of its own."""


async def test_events_and_reasons_may_be_of_subclasses(package: ModuleType) -> None:
    session = Session(package)
    await session.accept()
    await session.send(OwnEvent(type="websocket.send", text="x"))
    await session.send(OwnEvent(type="websocket.close", code=4000, reason=Reason("bye")))
    await settle()
    assert session.sent() == [(0x81, b"x"), (0x88, b"\x0f\xa0bye")]
    assert await session.receive() == disconnect_event(4000, "bye")


async def test_the_lent_buffer_is_settled_whatever_raises(package: ModuleType) -> None:
    session = Session(package, buffered=True)
    await session.accept()

    def fail() -> None:
        raise ValueError("no")

    session.transport.on_write = fail
    data = client_frame(PING) + client_frame(TEXT, b"whole")
    with pytest.raises(ValueError, match="no"):
        session.feed(data[:-2])
    session.transport.on_write = lambda: None
    view = session.websocket.get_buffer(-1)
    view[:100] = b"\xff" * 100
    session.websocket.data_received(data[-2:])
    assert await session.receive() == text_event("whole")


async def test_a_missing_pong_ends_the_connection_soon(
    package: ModuleType, log: list[logging.LogRecord]
) -> None:
    session = Session(package, ping_interval=20.0, ping_timeout=5.0, close_timeout=100.0)
    await session.accept()
    session.clock.advance(30)
    assert session.transport.calls == ["abort"]
    assert len(log) == 1
