from __future__ import annotations

import pytest

from mlship.server import batching

LIMITS = batching.Limits(queue_size=2, slots=2)


JOINING = batching.Limits(queue_size=2, slots=2, max_rows=8)
PATIENT = batching.Limits(queue_size=2, slots=2, max_rows=8, latency=0.5)


def test_without_joining_a_take_is_one_request() -> None:
    assert batching.decide(batching.Group(rows=3, since=0.0), LIMITS, now=0.0) == batching.Take(1)


def test_what_waits_is_taken_at_once_when_nobody_asked_to_wait() -> None:
    assert batching.decide(batching.Group(rows=1, since=5.0), JOINING, now=5.0) == batching.Take(8)


def test_a_budget_waits_until_the_batch_is_full_or_the_oldest_has_waited_enough() -> None:
    assert batching.decide(batching.Group(rows=7, since=5.0), PATIENT, now=5.1) == batching.Wait(5.5)
    assert batching.decide(batching.Group(rows=8, since=5.0), PATIENT, now=5.1) == batching.Take(8)
    assert batching.decide(batching.Group(rows=1, since=5.0), PATIENT, now=5.5) == batching.Take(8)


def test_a_limit_of_requests_is_kept_by_a_take_and_ends_the_wait_for_more() -> None:
    limits = batching.Limits(queue_size=2, slots=2, max_rows=8, latency=0.5, most=3)
    two, three = (batching.Group(rows=3, since=5.0, requests=number) for number in (2, 3))
    assert batching.decide(two, limits, now=5.1) == batching.Wait(5.5)
    assert batching.decide(three, limits, now=5.1) == batching.Take(8, 3)
    assert batching.decide(two, limits, now=5.1, inside=1) == batching.Take(8, 2)
    alone = batching.Limits(queue_size=2, slots=2, most=3)
    assert batching.decide(two, alone, now=5.1, inside=1) == batching.Take(1, 2)


def test_with_a_limit_of_requests_a_slot_may_be_free_in_vain() -> None:
    limits = batching.Limits(queue_size=1, slots=4, most=2)
    assert batching.free(batching.View(waiting=1, running=1, inside=1), limits)
    assert not batching.free(batching.View(waiting=1, running=1, inside=2), limits)
    assert batching.admits(batching.View(waiting=0, running=1, inside=2), limits)
    assert not batching.admits(batching.View(waiting=1, running=1, inside=2), limits)


def test_who_must_run_alone_waits_for_nobody() -> None:
    assert batching.decide(batching.Group(rows=1, since=5.0, alone=True), PATIENT, now=5.0) == batching.Take(1)


def test_a_slot_is_free_below_the_limit() -> None:
    assert batching.free(batching.View(waiting=1, running=1), LIMITS)
    assert not batching.free(batching.View(waiting=1, running=2), LIMITS)


def test_with_a_budget_the_queue_is_a_limit_although_a_slot_is_free() -> None:
    assert batching.admits(batching.View(waiting=1, running=0), PATIENT)
    assert not batching.admits(batching.View(waiting=2, running=0), PATIENT)


def test_those_for_whom_a_slot_is_free_do_not_count_as_waiting() -> None:
    assert batching.admits(batching.View(waiting=3, running=0), LIMITS)
    assert not batching.admits(batching.View(waiting=4, running=0), LIMITS)


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
    with pytest.raises(ValueError, match="most"):
        batching.Limits(queue_size=1, slots=1, most=-1)
    with pytest.raises(ValueError, match="max_rows"):
        batching.Limits(queue_size=1, slots=1, max_rows=0)
    with pytest.raises(ValueError, match="latency"):
        batching.Limits(queue_size=1, slots=1, latency=float("nan"))
