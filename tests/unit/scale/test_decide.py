"""Whole decisions: beginnings, restarts, bounds, rates, wake-ups, and the sentences that users read."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mlship.scale import decide, memory, policy, readings

NOW = 1_700_000_000.0
LOAD = policy.Metric("concurrency", policy.Kind.CONCURRENCY, 10)
QUERY = policy.Metric("jobs", policy.Kind.EXTERNAL, 100)
ONE = policy.Policy(min_replicas=1, max_replicas=10, metrics=(LOAD,))
ZERO = dataclasses.replace(ONE, min_replicas=0)


def seen(load: float | None, replicas: int = 2, ready: int | None = None, **more: Any) -> readings.Readings:
    panic = more.pop("panic", load)
    reading = readings.Reading(stable=load, panic=panic, coverage=more.pop("coverage", 1.0))
    found = {"concurrency": reading, **more.pop("metrics", {})}
    busy = more.pop("busy", None if load is None else load > 0)
    return readings.Readings(replicas, replicas if ready is None else ready, metrics=found, busy=busy, **more)


def known(replicas: int, **more: Any) -> memory.Memory:
    return dataclasses.replace(memory.begin(replicas, NOW - 1000), **more)


def run(made: policy.Policy, what: readings.Readings, past: memory.Memory | None, now: float = NOW) -> decide.Decision:
    return decide.decide(made, what, past, now)


def test_a_load_is_followed_and_said() -> None:
    grown = run(ONE, seen(30.0), known(2))
    assert (grown.replicas, grown.wake_at) == (5, NOW + 1)
    assert grown.why == "5 replicas instead of 2: concurrency 30, to be 7 for each, asks for 5"
    same = run(ONE, seen(14.0), known(2))
    assert same.why == "2 replicas: concurrency 14, to be 7 for each, asks for 2"
    fewer = run(ONE, seen(3.0), known(2))
    assert fewer.why == "1 replica instead of 2: concurrency 3, to be 7 for each, asks for 1"


def test_a_new_service_begins_with_its_initial_scale() -> None:
    several = dataclasses.replace(ZERO, initial=3)
    begun = run(several, seen(None, 0, coverage=0.0), None)
    assert (begun.replicas, begun.memory.reach) == (3, 3)
    assert begun.why == "3 replicas instead of 0: a new service begins"
    assert run(dataclasses.replace(ONE, min_replicas=4), seen(None, 0), None).replicas == 4
    none = run(dataclasses.replace(ZERO, initial=0), seen(None, 0), None)
    assert (none.replicas, none.wake_at) == (0, None)
    assert run(dataclasses.replace(ONE, initial=99), seen(None, 0), None).replicas == 10


def test_a_beginning_is_not_slowed_down_by_rates() -> None:
    slow = policy.Behavior(up=policy.Rules(window=60, rates=(policy.Rate(policy.Unit.PODS, 1, 60),)))
    made = dataclasses.replace(ONE, initial=4, behavior=slow)
    assert run(made, seen(None, 0), None).replicas == 4
    assert run(made, seen(70.0, 4), known(4)).replicas == 5


def test_the_initial_scale_stays_until_it_was_reached_and_a_window_seen() -> None:
    several = dataclasses.replace(ZERO, initial=3)
    past = run(several, seen(0.0, 0), None).memory
    past = run(several, seen(0.0, 3, ready=2), past, NOW + 100).memory
    assert past.replicas == 3
    done = run(several, seen(1.0, 3, ready=3), past, NOW + 102)
    assert (done.replicas, done.memory.reach) == (1, 0)


def test_a_maximum_that_is_lowered_meanwhile_is_all_that_is_insisted_on() -> None:
    made = policy.Policy(max_replicas=4, initial=8, metrics=(LOAD,))
    past = known(4, reach=8, reach_until=NOW + 600)
    waiting = run(made, seen(1.0, 4, ready=3), past)
    assert waiting.replicas == 4
    assert run(made, seen(1.0, 4, ready=4), waiting.memory, NOW + 1).replicas == 2


def test_what_never_gets_ready_is_not_insisted_on_for_ever() -> None:
    past = run(ZERO, seen(0.0, 0), None).memory
    assert run(ZERO, seen(0.0, 1, ready=0), past, NOW + 599).replicas == 1
    assert run(ZERO, seen(0.0, 1, ready=0), past, NOW + 600).replicas == 0


def test_after_a_restart_nothing_shrinks_before_a_full_window() -> None:
    lost = run(ONE, seen(1.0, 6), None)
    assert (lost.replicas, lost.why) == (
        6,
        "6 replicas: concurrency 1, to be 7 for each, asks for 1; watched for 0 of 60 s, so nothing shrinks",
    )
    assert run(ONE, seen(1.0, 6), lost.memory, NOW + 59).replicas == 6
    assert run(ONE, seen(1.0, 6), lost.memory, NOW + 60).replicas == 3
    kept = memory.read(json.loads(json.dumps(known(6).as_dict())))
    assert kept is not None
    assert run(ONE, seen(1.0, 6, coverage=0.5), kept).replicas == 6
    assert run(ONE, seen(1.0, 6), memory.resumed(kept, NOW), NOW + 59).replicas == 6


def test_after_the_clock_was_set_back_nothing_shrinks_either() -> None:
    held = run(ONE, seen(1.0, 6), known(6, since=NOW + 5000, active_at=NOW + 5000))
    assert (held.replicas, held.memory.since) == (6, NOW)


def test_the_bounds_hold_whatever_is_known() -> None:
    assert run(ONE, seen(1000.0), known(2)).replicas == 10
    assert run(ONE, seen(1000.0), known(2)).why.endswith("asks for 143; at most 10")
    assert run(ONE, seen(None, 20), known(20)).replicas == 10
    assert run(dataclasses.replace(ONE, min_replicas=4), seen(None), known(2)).replicas == 4


def test_down_by_halves_and_to_zero() -> None:
    past, went = known(10), []
    for step in range(6):
        made = run(ZERO, seen(0.0, past.replicas), past, NOW + 2 * step)
        past = made.memory
        went.append(made.replicas)
    assert went == [5, 2, 1, 0, 0, 0]
    assert made.wake_at is None


def test_at_zero_a_caller_wakes_and_the_sentence_says_so() -> None:
    woken = run(ZERO, seen(0.0, 0, waiting=1), known(0))
    assert (woken.replicas, woken.wake_at) == (1, NOW + 1)
    assert woken.why == "1 replica instead of 0: 1 caller waits at the gate"
    burst = run(ZERO, seen(0.0, 0, panic=0.0, waiting=40), known(0))
    assert burst.replicas == 1


def test_what_was_woken_is_not_sent_to_sleep_before_it_answered() -> None:
    past = run(ZERO, seen(0.0, 0, waiting=1), known(0)).memory
    assert run(ZERO, seen(0.0, 1, ready=0), past, NOW + 200).replicas == 1
    assert run(ZERO, seen(0.0, 1, ready=1), past, NOW + 200).replicas == 0


def test_no_answer_for_long_falls_back_also_from_zero() -> None:
    made = policy.Policy(min_replicas=0, max_replicas=9, metrics=(QUERY,), fallback=policy.Fallback(3, 4))
    failing = readings.Readings(0, 0, metrics={"jobs": readings.Reading(coverage=0.0, failures=3)})
    assert run(made, failing, known(0)).replicas == 4
    assert run(made, failing, known(7)).replicas == 7, "what is not known shrinks nothing, a fallback neither"


def test_a_queried_service_looks_again_also_at_zero() -> None:
    made = policy.Policy(min_replicas=0, max_replicas=9, metrics=(QUERY,), interval=30, cooldown=300)
    empty = readings.Readings(0, 0, metrics={"jobs": readings.Reading(stable=0.0)})
    assert run(made, empty, known(0)).wake_at == NOW + 30
    full = readings.Readings(0, 0, metrics={"jobs": readings.Reading(stable=450.0)})
    assert run(made, full, known(0)).replicas == 5


def test_a_schedule_wakes_at_its_time() -> None:
    night = readings.Schedule("office", active=False, replicas=3, changes_at=NOW + 3600)
    day = readings.Schedule("office", active=True, replicas=3, changes_at=NOW + 7200)
    asleep = run(ZERO, seen(0.0, 0, schedules=(night,)), known(0))
    assert (asleep.replicas, asleep.wake_at) == (0, NOW + 3600)
    awake = run(ZERO, seen(0.0, 0, schedules=(day,)), known(0))
    assert (awake.replicas, awake.why) == (3, "3 replicas instead of 0: the schedule office asks for 3")


def test_an_idle_count_above_zero_is_looked_at_since_no_caller_is_held_there() -> None:
    made = policy.Policy(min_replicas=3, idle_replicas=1, max_replicas=9, interval=30.0)
    asleep = run(made, readings.Readings(1, 1, busy=False), known(1))
    assert (asleep.replicas, asleep.wake_at) == (1, NOW + 30)
    used = run(made, readings.Readings(1, 1, busy=True), asleep.memory, NOW + 30)
    assert used.replicas == 3


def test_a_fixed_number_needs_no_look() -> None:
    fixed = policy.Policy(min_replicas=2, max_replicas=2)
    assert run(fixed, seen(None), known(2)) == decide.Decision(
        2, known(2, active_at=NOW, marks=()), "2 replicas: nothing is asked for; at least 2", None
    )


def test_a_window_holds_and_says_so() -> None:
    slow = dataclasses.replace(ONE, behavior=policy.KUBERNETES, down_rate=1000.0)
    past = run(slow, seen(42.0, 6), known(6, marks=())).memory
    held = run(slow, seen(1.0, 6), past, NOW + 100)
    assert held.why == ("6 replicas: concurrency 1, to be 7 for each, asks for 1; more were asked for a short time ago")
    assert run(slow, seen(1.0, 6), held.memory, NOW + 310).replicas == 1


def test_a_rate_holds_and_says_so() -> None:
    one = policy.Behavior(down=policy.Rules(rates=(policy.Rate(policy.Unit.PODS, 1, 60),)))
    slow = dataclasses.replace(ONE, behavior=one)
    first = run(slow, seen(1.0, 6), known(6))
    assert (first.replicas, first.memory.changes) == (5, (memory.Change(NOW, -1),))
    assert first.why.endswith("asks for 1; as fast as behavior.scaleDown lets it")
    assert run(slow, seen(1.0, 5), first.memory, NOW + 59).replicas == 5
    assert run(slow, seen(1.0, 5), first.memory, NOW + 60).replicas == 4


def test_disabled_means_never() -> None:
    never = policy.Behavior(down=policy.Rules(select=policy.Select.DISABLED))
    made = dataclasses.replace(ZERO, behavior=never)
    assert run(made, seen(0.0, 6), known(6)).replicas == 6


@pytest.mark.parametrize("load", [0.0, 10.0, 70.0, None])
def test_a_decision_repeats_itself(load: float | None) -> None:
    assert run(ZERO, seen(load), known(2)) == run(ZERO, seen(load), known(2))
