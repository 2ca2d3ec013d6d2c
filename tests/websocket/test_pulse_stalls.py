"""Deadlines and pings on an event loop that stalls."""

from __future__ import annotations

import logging
from types import ModuleType

from ..toolkit.client_frames import BINARY, CONT, PING, PONG, TEXT, client_frame
from ..toolkit.fake_transport import Clock, Session


def stall(session: Session, times: int, seconds: float) -> None:
    """So often ``seconds`` of work, and a breath."""
    for _ in range(times):
        session.clock.block(seconds)
        session.clock.advance(0.02)


def closes(session: Session) -> list[bytes]:
    return [payload for first, payload in session.sent() if first == 0x88]


async def test_pings_are_sent_whatever_the_load(package: ModuleType) -> None:
    session = Session(package, ping_interval=20.0, ping_timeout=None)
    await session.accept()
    stall(session, 200, 0.6)
    assert len([first for first, _ in session.sent() if first == 0x89]) >= 5
    stall(session, 20, 30)
    assert len([first for first, _ in session.sent() if first == 0x89]) >= 19


async def test_a_deadline_ends_within_the_stated_bound(package: ModuleType) -> None:
    for seconds in 0.6, 3.0:
        session = Session(package, ping_interval=20.0, ping_timeout=20.0)
        await session.accept()
        began = session.clock.time()
        while not closes(session):
            stall(session, 1, seconds)
            assert session.clock.time() - began <= 20 + 20 * (1 + 2 * seconds) + 2 * seconds + 1


async def test_the_close_deadline_ends_on_a_loop_that_stalls(package: ModuleType) -> None:
    session = Session(package, close_timeout=10.0)
    await session.accept()
    await session.close()
    stall(session, 40, 0.6)
    assert session.transport.calls == ["abort"]


async def test_a_pause_of_ours_counts_a_second_at_most(package: ModuleType) -> None:
    session = Session(package, close_timeout=10.0)
    await session.accept()
    await session.close()
    stall(session, 5, 60)
    assert session.transport.calls == []


async def test_what_waits_in_the_kernel_is_read_before_anybody_is_judged(
    package: ModuleType,
) -> None:
    session = Session(package, ping_interval=1.0, ping_timeout=1.0)
    await session.accept()
    for _ in range(100):
        session.clock.block(5)
        assert closes(session) == []
        session.feed(client_frame(PONG))
        session.clock.advance(0.02)
        assert closes(session) == []


async def test_a_shorter_option_does_not_shrink_the_tolerance(package: ModuleType) -> None:
    session = Session(package, close_timeout=0.1, ping_interval=10.0, ping_timeout=10.0)
    await session.accept()
    while not session.transport.writes:
        session.clock.advance(0.1)
    session.sent()
    stall(session, 8, 60)  # eight pauses count eight seconds
    assert closes(session) == []


async def test_one_that_raises_does_not_take_the_others_with_it(
    package: ModuleType, log: list[logging.LogRecord]
) -> None:
    class Broken:
        aborted = False

        def on_tick(self) -> None:
            raise ValueError

        def abort(self) -> None:
            self.aborted = True

    clock = Clock()
    broken = [Broken() for _ in range(5)]
    sessions = [Session(package, clock=clock, ping_interval=10.0) for _ in range(5)]
    pulse = sessions[0].pulse
    for one in broken:
        pulse.add(one)
    for session in sessions:
        session.websocket = package.websocket.session.Session(pulse, session.opening, None)
        await session.accept()
    clock.advance(15)
    assert all(one.aborted for one in broken)
    assert all(session.sent() for session in sessions)
    assert len(log) == 5


async def test_a_flush_that_raises_does_not_take_the_others_with_it(
    package: ModuleType, log: list[logging.LogRecord]
) -> None:
    flush = Session(package).pulse.flush
    clock = Clock()
    bad, good = Session(package, clock=clock), Session(package, clock=clock)

    def fail() -> None:
        raise ValueError

    boxes = []
    for session in bad, good:
        outbox = package.transport.outbox.Outbox(flush)
        outbox.transport = session.transport
        outbox.wrote = True
        outbox.write(b"x", False)
        boxes.append(outbox)
    bad.transport.on_write = fail
    flush._run()
    assert bad.transport.calls == ["abort"]
    assert good.transport.writes == [b"x"]
    assert len(log) == 1


async def test_keepalive_goes_on_behind_a_full_queue(package: ModuleType) -> None:
    session = Session(package, max_queue=2, ping_interval=5.0, ping_timeout=5.0)
    await session.accept()
    session.feed(client_frame(TEXT, b"x") * 3)
    for _ in range(10):
        if session.websocket.link == package.websocket.states.OPEN:
            await session.text("an application that only sends")
            session.clock.advance(3)
    assert session.websocket.close_code == 1011


async def test_an_unfinished_empty_fragment_and_pings_are_idle(package: ModuleType) -> None:
    session = Session(package, idle_timeout=60.0, ping_interval=None)
    await session.accept()
    session.feed(client_frame(BINARY, b"", fin=False))
    for _ in range(63):
        session.feed(client_frame(PING) + client_frame(CONT, b"", fin=False))
        session.clock.advance(1)
    assert closes(session) == [b"\x03\xe9idle"]


async def test_a_message_that_trickles_in_is_not_idle(package: ModuleType) -> None:
    session = Session(package, idle_timeout=10.0, ping_interval=None)
    await session.accept()
    session.feed(client_frame(BINARY, bytes(50_000))[:20])
    for _ in range(50):
        session.clock.advance(5)
        session.feed(b"x")
    assert closes(session) == []


async def test_pings_over_tls_are_no_progress(
    package: ModuleType, log: list[logging.LogRecord]
) -> None:
    session = Session(package, tls=True, write_timeout=60.0, ping_interval=10.0, ping_timeout=None)
    await session.accept()
    session.transport.on_write = lambda: setattr(
        session.transport, "unwritten", session.transport.unwritten + 28
    )
    session.transport.unwritten = 1000
    session.clock.advance(80)
    assert session.transport.calls == ["abort"]
    assert session.websocket.close_code == 1006
    assert len(log) == 1
