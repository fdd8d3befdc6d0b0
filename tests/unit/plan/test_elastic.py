"""The scaler's memory between looks: what is handed on, what is written, what a start takes up again."""

from __future__ import annotations

import dataclasses

import pytest

from mlship.plan import elastic, observed, scaling
from mlship.scale import policy as policies
from mlship.scale import readings

NOW = 1_700_000_000.0
METRIC = policies.Metric("concurrency", policies.Kind.CONCURRENCY, 10)
POLICY = policies.Policy(min_replicas=0, max_replicas=5, metrics=(METRIC,))
SCALING = scaling.Scaling(POLICY)


def running(replicas: int = 1, ready: int | None = None, **more: object) -> elastic.Running:
    made = elastic.Running(replicas=replicas, ready=replicas if ready is None else ready, newest="r1", proven="r1")
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def demand(value: float | None, *, waiting: int = 0, whole: bool = True) -> observed.Demand:
    reading = readings.UNKNOWN if value is None else readings.Reading(value, value, 1.0 if whole else 0.5)
    busy = None if value is None or not whole else value > 0
    return observed.Demand({"concurrency": reading}, waiting=waiting, gated=True, busy=busy)


def size(past: elastic.Past | None, value: float | None = 5.0, now: float = NOW, **more: object) -> elastic.Sized:
    return elastic.size(SCALING, running(**more), demand(value), past, now=now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (scaling.Scaling(policies.Policy(min_replicas=3, max_replicas=3)), 3),
        (scaling.Scaling(POLICY, paused=2), 2),
        (scaling.Scaling(POLICY, paused=0), 0),
    ],
)
def test_nobody_is_asked_where_nothing_is_decided(wanted: scaling.Scaling, number: int) -> None:
    made = elastic.size(wanted, running(), demand(100.0, waiting=3), None, now=NOW)
    assert made == elastic.fixed(number)
    assert made.past is None


def test_what_was_measured_for_another_wish_is_not_known() -> None:
    """Of the first look at a changed object: 2 GB of memory are not two thousand million times all of it."""
    share = policies.Metric("memory", policies.Kind.MEMORY, 0.8)
    source = scaling.Source("memory", scaling.Origin.PROCESSES, request=4e9)
    wanted = scaling.Scaling(dataclasses.replace(POLICY, min_replicas=1, metrics=(share,)), (source,))
    past = size(None).past
    share_of = observed.Demand({"memory": readings.Reading(1.6)}, busy=True, gated=True, sources=(source,))
    assert elastic.size(wanted, running(), share_of, past, now=NOW + 1).replicas == 2
    before = (dataclasses.replace(source, request=0.0),)
    bytes_of = dataclasses.replace(share_of, metrics={"memory": readings.Reading(2e9)}, sources=before)
    assert elastic.size(wanted, running(), bytes_of, past, now=NOW + 1).replicas == 1


def test_the_number_comes_with_its_reason_and_the_reason_only_with_a_change() -> None:
    first = size(None)
    assert (first.replicas, first.why) == (1, first.past.said if first.past else "")
    second = size(first.past, 6.0, NOW + 1)
    assert second.why == ""
    assert second.past is not None
    assert (second.past.said, second.past.changed_at) == (first.why, NOW)
    assert "concurrency 6" in second.past.now_said
    third = size(second.past, 30.0, NOW + 2)
    assert third.replicas == 5
    assert third.why.startswith("5 replicas instead of 1: concurrency 30")


def test_the_status_has_the_memory_when_the_number_changes_and_else_only_what_lasts() -> None:
    first = size(None).past
    assert first is not None
    assert first.written is not None
    later = first
    for second in range(1, 60):
        made = size(later, 5.0, NOW + second).past
        assert made is not None
        later = made
        assert later.memory != first.memory
        assert later.written == first.written
    changed = size(later, 30.0, NOW + 61).past
    assert changed is not None
    assert changed.written is not None
    assert changed.written["replicas"] == 5
    assert changed.written["panicAt"] == NOW + 61
    # A panic goes on: its newest moment is written every ten seconds, not at every look.
    writes = 0
    for second in range(62, 82):
        made = size(changed, 60.0, NOW + second, replicas=1).past
        assert made is not None
        writes += made.written != changed.written
        changed = made
    assert writes == 2


def test_a_start_reads_what_was_written_and_watches_anew() -> None:
    last = size(None).past
    assert last is not None
    found = elastic.read(last.written, NOW + 100)
    assert found is not None
    assert (found.memory.replicas, found.memory.since) == (1, NOW + 100)
    assert (found.said, found.changed_at, found.tried) == (last.said, NOW, "r1")
    assert found.written == last.written


@pytest.mark.parametrize("stored", [None, 3, {}, {"replicas": "x"}, []])
def test_nonsense_is_no_past(stored: object) -> None:
    assert elastic.read(stored, NOW) is None


def test_a_stored_sentence_that_is_none_is_left_out() -> None:
    last = size(None).past
    assert last is not None
    stored = {**(last.written or {}), "why": 3, "at": "x", "revision": None}
    found = elastic.read(stored, NOW)
    assert found is not None
    assert (found.said, found.changed_at, found.tried) == ("", 0.0, "")


def test_as_ready_as_it_shall_be_is_less_than_all_that_a_load_asks_for() -> None:
    made = size(size(None).past, 30.0, NOW + 1)
    assert (made.replicas, made.least) == (5, 1)
    high = scaling.Scaling(dataclasses.replace(POLICY, min_replicas=2))
    made = elastic.size(high, running(2), demand(30.0), None, now=NOW)
    assert made.least == 2


def asleep() -> elastic.Past:
    past = size(None).past
    assert past is not None
    return dataclasses.replace(past, memory=dataclasses.replace(past.memory, replicas=0))


def test_a_sleeper_with_a_revision_that_was_never_tried_begins_once() -> None:
    made = size(asleep(), 0.0, NOW + 1, replicas=0, newest="r2")
    assert made.replicas == 1
    assert made.past is not None
    assert made.past.tried == "r2"
    back = dataclasses.replace(made.past, memory=dataclasses.replace(made.past.memory, replicas=0, reach=0))
    assert size(back, 0.0, NOW + 2, replicas=0, newest="r2").replicas == 0


def test_a_sleeper_whose_newest_revision_is_not_known_or_proven_goes_on_sleeping() -> None:
    assert size(asleep(), 0.0, NOW + 1, replicas=0, newest="").replicas == 0
    assert size(asleep(), 0.0, NOW + 1, replicas=0, newest="r1").replicas == 0


def test_a_service_that_begins_with_none_sleeps_at_once() -> None:
    wanted = scaling.Scaling(dataclasses.replace(POLICY, initial=0))
    nothing = elastic.Running(replicas=0, ready=0, newest="r1")
    made = elastic.size(wanted, nothing, demand(None), None, now=NOW)
    assert (made.replicas, made.sleeps, made.wake_at) == (0, True, None)
    again = elastic.size(wanted, nothing, demand(None), made.past, now=NOW + 1)
    assert again.replicas == 0


def test_while_an_update_is_under_way_nothing_goes_to_sleep() -> None:
    past = size(None).past
    for second in range(1, 200):
        made = size(past, 0.0, NOW + second, updating=True)
        past = made.past
        assert made.replicas == 1
    assert size(past, 0.0, NOW + 200).replicas == 0


def test_a_schedule_turns_the_number_and_wakes_the_plan() -> None:
    cron = scaling.Cron("day", "0 8 * * *", "0 18 * * *", "UTC", 3)
    wanted = scaling.Scaling(dataclasses.replace(POLICY, metrics=()), crons=(cron,))
    # 2023-11-14T22:13:20Z: between an end and the next start.
    made = elastic.size(wanted, elastic.Running(replicas=0, ready=0, newest="r1"), demand(None), asleep(), now=NOW)
    assert made.replicas == 0
    assert made.wake_at is not None
    assert made.wake_at > NOW
    awake = elastic.size(
        wanted, elastic.Running(replicas=0, ready=0, newest="r1"), demand(None), made.past, now=made.wake_at
    )
    assert awake.replicas == 3
    assert "the schedule day asks for 3" in awake.why


def test_what_nobody_uses_is_looked_at_seldom() -> None:
    wanted = scaling.Scaling(dataclasses.replace(POLICY, min_replicas=1))

    def look(past: elastic.Past | None, at: float, **more: object) -> elastic.Sized:
        idle = dataclasses.replace(demand(0.0), **{"busy": False, **more})  # type: ignore[arg-type]
        return elastic.size(wanted, running(), idle, past, now=NOW + at)

    first = look(None, 0.0)
    assert first.wake_at == NOW + 1
    assert look(first.past, 30.0).wake_at == NOW + 31
    assert look(first.past, 61.0).wake_at == NOW + 61 + elastic.CALM_EVERY
    assert look(first.past, 61.0, busy=True).wake_at == NOW + 62
    assert look(first.past, 61.0, busy=None).wake_at == NOW + 62
    assert look(first.past, 61.0, waiting=1).wake_at == NOW + 62
