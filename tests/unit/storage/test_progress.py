from __future__ import annotations

import pytest

from mlship import errors
from mlship.storage import progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_reports_are_throttled_but_the_ends_are_always_told() -> None:
    clock, told = Clock(), list[progress.Progress]()
    meter = progress.Meter(told.append, lambda: False, clock=clock, every=1.0)
    meter.start("copy", 1000)
    for _ in range(100):
        clock.now += 0.05
        meter.advance(10)
    meter.finish()
    assert told[0] == progress.Progress(0, 1000, 0.0, "copy")
    assert told[-1] == progress.Progress(1000, 1000, 1000 / (clock.now - 100.0), "copy")
    assert 5 <= len(told) <= 8


def test_rate_leaves_out_what_was_there_before() -> None:
    clock, told = Clock(), list[progress.Progress]()
    meter = progress.Meter(told.append, lambda: False, clock=clock)
    meter.start("download", None, done=900)
    clock.now += 2
    meter.advance(100)
    assert told[-1] == progress.Progress(1000, None, 50.0, "download")


def test_cancellation_is_noticed_at_the_next_chunk() -> None:
    stop = [False]
    meter = progress.Meter(lambda _: None, lambda: stop[0])
    meter.start("copy", 10)
    meter.advance(5)
    stop[0] = True
    with pytest.raises(errors.NotReady) as caught:
        meter.advance(5)
    assert caught.value.reason is errors.Reason.CANCELLED
