"""The lingering close: numbers go in, a verdict comes out."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest


class Transport:
    """What an ending asks of a transport, noted down; ``unwritten`` waits in it."""

    def __init__(self, tls: bool = False) -> None:
        self.tls = tls
        self.unwritten = 0
        self.calls: list[str] = []

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def get_extra_info(self, _name: str) -> Any:
        return None

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.calls))

    def close(self) -> None:
        assert not self.is_closing(), "asyncio's TLS transport does not survive a second close()"
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


def test_a_fin_that_is_sent_is_not_sent_again(package: ModuleType) -> None:
    transport = Transport()
    ending = begin(package, transport, fin=True)
    assert transport.calls == []
    assert ending.look(2.5) == 0.0
    assert transport.calls == ["abort"]


def begin(package: ModuleType, transport: Transport, **options: Any) -> Any:
    return package.transport.ending.Ending(transport, 0.0, 2.0, 60.0, **options)


@pytest.mark.parametrize(("tls", "how"), [(False, "write_eof"), (True, "close")])
def test_a_peer_that_does_nothing_is_cut_off(tls: bool, how: str, package: ModuleType) -> None:
    transport = Transport(tls)
    ending = begin(package, transport)
    assert transport.calls == [how]
    assert ending.interval == package.transport.ending.FIRST_LOOK_SECONDS
    assert ending.look(ending.interval) == 2.0 - ending.interval
    assert ending.look(1.5) == 0.5
    assert ending.look(2.0) == 0.0
    assert transport.calls == [how, "abort"]
    assert ending.look(3.0) == 0.0


@pytest.mark.parametrize("tls", [False, True])
def test_a_peer_that_reads_is_waited_for_and_one_that_stops_is_not(
    tls: bool, package: ModuleType
) -> None:
    transport = Transport(tls)
    transport.unwritten = 1_000_000
    ending = begin(package, transport)
    now = 0.0
    for _ in range(100):
        now += 2.0
        transport.unwritten -= 1000
        assert ending.look(now) == 2.0
    while ending.look(now):
        now += 2.0
    assert now == 200.0 + 60.0
    assert transport.calls[-1] == "abort"


def test_a_peer_that_speaks_is_waited_for_but_not_without_end(package: ModuleType) -> None:
    ending_module = package.transport.ending
    transport = Transport()
    ending = begin(package, transport)
    now = 0.0
    while True:
        now += 1.0
        ending.heard()
        if not ending.look(now):
            break
    assert ending_module.SPEAKING_SECONDS <= now <= ending_module.SPEAKING_SECONDS + 3.0


def test_tls_is_held_open_while_the_peer_speaks(package: ModuleType) -> None:
    transport = Transport(tls=True)
    ending = begin(package, transport, speaking=True)
    assert transport.calls == []
    ending.heard()
    assert ending.look(2.0) == 2.0
    assert transport.calls == []
    assert ending.look(4.0) == 2.0
    assert transport.calls == ["close"]
    assert ending.look(6.0) == 0.0
    assert transport.calls == ["close", "abort"]


def test_tls_that_the_peer_has_closed_meanwhile_is_not_closed_again(package: ModuleType) -> None:
    transport = Transport(tls=True)
    ending = begin(package, transport, speaking=True)
    transport.calls.append("close")  # asyncio does, when the peer's close_notify comes
    assert ending.look(2.0) == 2.0
    assert transport.calls == ["close"]


def test_a_silent_peer_is_closed_at_once(package: ModuleType) -> None:
    transport = Transport()
    begin(package, transport, silent=True)
    assert transport.calls == ["close"]


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_connection_that_is_reset_already_is_cut(
    error: type[Exception], package: ModuleType
) -> None:
    class Reset(Transport):
        def write_eof(self) -> None:
            raise error

    transport = Reset()
    assert begin(package, transport).look(0.0) == 0.0
    assert transport.calls == ["abort"]


def test_without_a_limit_a_peer_that_reads_nothing_is_waited_for(package: ModuleType) -> None:
    transport = Transport()
    transport.unwritten = 1
    ending = package.transport.ending.Ending(transport, 0.0, 2.0, None)
    assert ending.look(1e9) == 2.0
