"""What each kind of metric asks for, and what is asked for together."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlship.scale import policy, propose, readings

Kind, Form = policy.Kind, policy.Form
CONCURRENCY = policy.Metric("concurrency", Kind.CONCURRENCY, 10)
CPU = policy.Metric("cpu", Kind.CPU, 0.5)
QUERY = policy.Metric("jobs", Kind.EXTERNAL, 100)
P99 = policy.Metric("p99", Kind.LATENCY, 0.2)


def ask(
    metric: policy.Metric, value: float | None, *, current: int = 2, ready: int | None = None, **more: Any
) -> propose.Proposal:
    made = policy.Policy(max_replicas=50, metrics=(metric,), fallback=more.pop("fallback", None))
    busy = more.pop("busy", None)
    reading = readings.Reading(stable=value, **more)
    serving = current if ready is None else ready
    seen = readings.Readings(replicas=current, ready=serving, metrics={metric.name: reading}, busy=busy)
    return propose.of(made, metric, seen, current)


@pytest.mark.parametrize(
    ("value", "current", "wanted"),
    [
        (0.0, 1, 0),
        (0.1, 0, 1),
        (7.0, 1, 1),
        (7.01, 1, 2),
        (21.0, 3, 3),  # a multiple up to rounding
        (70.0, 1, 10),
        (6.9, 2, 2),  # one would do, without room to spare
        (6.2, 2, 1),
        (-5.0, 2, 0),
    ],
)
def test_a_load_is_shared(value: float, current: int, wanted: int) -> None:
    assert ask(CONCURRENCY, value, current=current).wanted == wanted


@pytest.mark.parametrize(
    ("value", "current", "ready", "wanted"),
    [
        (0.5, 4, 4, 4),
        (0.55, 4, 4, 4),
        (0.45, 4, 4, 4),
        (0.56, 4, 4, 5),
        (1.0, 4, 4, 8),
        (0.25, 4, 4, 2),
        (0.0, 4, 4, 0),
        (1.0, 10, 2, 10),  # eight are still starting: no reason to shrink
        (1.0, 2, 0, None),
    ],
)
def test_a_utilisation_is_held_with_tolerance(value: float, current: int, ready: int, wanted: int | None) -> None:
    assert ask(CPU, value, current=current, ready=ready).wanted == wanted


@pytest.mark.parametrize(
    ("value", "current", "ready", "wanted"),
    [(200, 2, 2, 2), (219, 2, 2, 2), (230, 2, 2, 3), (60, 2, 2, 1), (0, 2, 2, 0), (950, 0, 0, 10), (-1, 2, 2, 0)],
)
def test_a_query_is_shared_with_tolerance(value: float, current: int, ready: int, wanted: int) -> None:
    assert ask(QUERY, value, current=current, ready=ready).wanted == wanted


def test_a_query_may_be_held_as_a_value() -> None:
    held = policy.Metric("lag", Kind.EXTERNAL, 10, form=Form.VALUE)
    assert ask(held, 20, current=3).wanted == 6


def test_absurd_values_stay_numbers() -> None:
    assert ask(CONCURRENCY, 1e308).wanted == 10**9
    assert ask(CPU, 1e308).wanted == 10**9
    assert ask(CPU, math.inf).wanted is None
    assert ask(CPU, math.nan).wanted is None


def test_the_panic_window_asks_by_itself_and_only_of_loads() -> None:
    jump = ask(CONCURRENCY, 7.0, panic=70.0)
    assert (jump.wanted, jump.panic) == (2, 10)
    assert "70 over the last 6 s asks for 10" in jump.panic_words
    assert ask(CPU, 0.5, panic=5.0).panic is None
    assert ask(CONCURRENCY, 7.0, panic=math.nan).panic is None


def test_unknown_asks_for_nothing_and_is_not_whole() -> None:
    none = ask(CONCURRENCY, None)
    assert (none.wanted, none.whole, none.active, none.tells) == (None, False, None, True)
    assert none.words == "concurrency is not known"


def test_a_part_of_the_window_can_show_use_and_not_deny_it() -> None:
    assert ask(CONCURRENCY, 0.0).active is False
    assert ask(CONCURRENCY, 0.0, coverage=0.5).active is None
    part = ask(CONCURRENCY, 30.0, coverage=0.1)
    assert (part.wanted, part.active, part.whole) == (5, True, False)


def test_activation_is_a_threshold_and_a_source_may_say_it_itself() -> None:
    slow = policy.Metric("jobs", Kind.EXTERNAL, 100, activation=5)
    assert ask(slow, 5.0).active is False
    assert ask(slow, 6.0).active is True
    assert ask(slow, 0.0, active=True).active is True
    pushed = ask(slow, None, active=False)
    assert (pushed.tells, pushed.active, pushed.whole) == (True, False, False)


def test_latency_without_requests_has_nothing_to_measure() -> None:
    quiet = ask(P99, None, busy=False)
    assert (quiet.wanted, quiet.whole) == (0, True)
    assert not ask(P99, None, busy=None).whole
    assert not ask(P99, None, busy=False, failures=1).whole


def test_a_metric_that_fails_for_long_falls_back() -> None:
    fallback = policy.Fallback(failures=3, replicas=6)
    assert ask(QUERY, None, failures=2, fallback=fallback).wanted is None
    fallen = ask(QUERY, None, failures=3, fallback=fallback)
    assert (fallen.wanted, fallen.whole, fallen.active) == (6, False, True)
    assert fallen.words == "jobs could not be read 3 times, the fallback is 6"


def together(seen: readings.Readings, *metrics: policy.Metric) -> propose.Asked:
    return propose.together(policy.Policy(max_replicas=50, metrics=metrics), seen, 2)


def test_the_largest_wins_and_one_that_does_not_know_is_named() -> None:
    found = {"concurrency": readings.Reading(stable=30.0), "jobs": readings.Reading(stable=950.0)}
    seen = readings.Readings(replicas=2, ready=2, metrics=found)
    both = together(seen, CONCURRENCY, QUERY)
    assert (both.wanted, both.whole, both.active) == (10, True, True)
    assert both.words == "jobs 950, to be 100 for each, asks for 10"
    three = together(seen, CONCURRENCY, QUERY, CPU)
    assert (three.wanted, three.unknown) == (10, ("cpu is not known",))


def test_a_schedule_asks_while_it_is_on() -> None:
    on, off = (readings.Schedule("morning", active=active, replicas=4) for active in (True, False))
    asked = together(readings.Readings(2, 2, schedules=(on,), busy=False))
    assert (asked.wanted, asked.active, asked.words) == (4, True, "the schedule morning asks for 4")
    asked = together(readings.Readings(2, 2, schedules=(off,), busy=False))
    assert (asked.wanted, asked.active, asked.whole) == (0, False, True)
    assert together(readings.Readings(2, 2, schedules=(off,))).active is None, "there may be requests"


@pytest.mark.parametrize(
    ("busy", "waiting", "active"), [(None, 0, None), (False, 0, False), (True, 0, True), (False, 1, True)]
)
def test_use_is_also_what_the_gateway_saw(busy: bool | None, waiting: int, active: bool | None) -> None:
    seen = readings.Readings(2, 2, metrics={"cpu": readings.Reading(stable=0.1)}, busy=busy, waiting=waiting)
    assert together(seen, CPU).active is active


def test_one_that_does_not_know_outweighs_denials() -> None:
    seen = readings.Readings(2, 2, metrics={"concurrency": readings.Reading(stable=0.0)}, busy=False)
    assert together(seen, CONCURRENCY).active is False
    assert together(seen, CONCURRENCY, QUERY).active is None
