"""What all clients share."""

from __future__ import annotations

from asgiws.fanout.brokers.client import Backoff


def test_attempts_get_rarer_and_no_two_workers_make_them_together() -> None:
    backoff = Backoff()
    delays = [backoff.next() for _ in range(12)]
    assert 0.05 <= delays[0] <= 0.1
    for number, delay in enumerate(delays):
        most = min(0.1 * 2**number, 10.0)
        assert most / 2 <= delay <= most
    backoff.reset()
    assert backoff.next() <= 0.1
    assert len({Backoff().next() for _ in range(20)}) > 15
