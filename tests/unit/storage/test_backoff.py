from __future__ import annotations

import pytest

from mlship.storage import backoff


def test_delays_double_to_a_cap_and_are_spread() -> None:
    full = [backoff.delay(n, jitter=1.0) for n in range(1, 9)]
    assert full == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]
    assert backoff.delay(3, jitter=0.0) == 1.0
    assert backoff.delay(10_000, jitter=1.0) == backoff.CAP


def test_the_server_may_ask_for_longer_up_to_the_cap() -> None:
    assert backoff.delay(1, jitter=1.0, retry_after=7) == 7
    assert backoff.delay(3, jitter=1.0, retry_after=1) == 2.0
    assert backoff.delay(1, jitter=1.0, retry_after=9999) == backoff.CAP


def test_waiting_can_be_stopped(pace: backoff.Pace) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pace.wait(60.0, check)
    assert pace.clock() < 1.0
    pace.wait(1.0)
    assert pace.clock() == pytest.approx(1.6)
