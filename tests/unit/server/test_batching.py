from __future__ import annotations

import pytest

from mlship.server import batching

LIMITS = batching.Limits(queue_size=2, slots=2)


def test_a_free_slot_takes_the_oldest() -> None:
    assert batching.decide(batching.View(waiting=3, running=1), LIMITS) == batching.Take(1)


@pytest.mark.parametrize(("waiting", "running"), [(0, 0), (0, 2), (2, 2)])
def test_without_work_or_slot_it_waits(waiting: int, running: int) -> None:
    assert batching.decide(batching.View(waiting=waiting, running=running), LIMITS) == batching.Wait()


def test_admission_ends_when_slots_and_queue_are_full() -> None:
    assert batching.admits(batching.View(waiting=1, running=2), LIMITS)
    assert not batching.admits(batching.View(waiting=2, running=2), LIMITS)
    assert batching.admits(batching.View(waiting=0, running=0), batching.Limits(queue_size=0, slots=1))


@pytest.mark.parametrize(("mean", "seconds"), [(0.0, 1.0), (4.0, 6.0), (1000.0, 60.0)])
def test_retry_after_is_the_backlog_within_bounds(mean: float, seconds: float) -> None:
    assert batching.retry_after(batching.View(waiting=2, running=2, mean_seconds=mean), LIMITS) == seconds


def test_limits_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="slots"):
        batching.Limits(queue_size=1, slots=0)
