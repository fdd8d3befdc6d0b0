"""What the scaler never does, and where it always ends: from any memory, with anything known or not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import hypothesis
from hypothesis import strategies as st

from mlship.scale import decide, memory, policy, readings

NOW = 1_700_000_000.0
Kind, Unit = policy.Kind, policy.Unit
METRICS = (
    policy.Metric("concurrency", Kind.CONCURRENCY, 10),
    policy.Metric("rps", Kind.RPS, 50),
    policy.Metric("queue", Kind.QUEUE, 5),
    policy.Metric("cpu", Kind.CPU, 0.8),
    policy.Metric("p99", Kind.LATENCY, 0.2),
    policy.Metric("query", Kind.EXTERNAL, 100, activation=3),
)
rates = st.builds(policy.Rate, st.sampled_from(Unit), st.integers(1, 200), st.sampled_from([1.0, 15.0, 60.0, 1800.0]))
rules = st.builds(
    policy.Rules,
    window=st.sampled_from([0.0, 0.0, 30.0, 300.0]),
    rates=st.lists(rates, max_size=2).map(tuple),
    select=st.sampled_from(policy.Select),
)


@st.composite
def policies(draw: st.DrawFn, **fixed: Any) -> policy.Policy:
    least = draw(st.integers(0, 5))
    said = {
        "min_replicas": least,
        "max_replicas": draw(st.integers(max(1, least), 30)),
        "idle_replicas": draw(st.none() | st.integers(0, least - 1)) if least else None,
        "metrics": tuple(draw(st.lists(st.sampled_from(METRICS), max_size=3, unique=True))),
        "initial": draw(st.integers(0, 6)),
        "activation": draw(st.integers(1, 6)),
        "up_rate": draw(st.sampled_from([1.5, 2.0, 1000.0])),
        "down_rate": draw(st.sampled_from([1.5, 2.0, 1000.0])),
        "delay": draw(st.sampled_from([0.0, 30.0])),
        "cooldown": draw(st.sampled_from([0.0, 30.0, 300.0])),
        "behavior": draw(st.builds(policy.Behavior, rules, rules)),
        "fallback": draw(st.none() | st.builds(policy.Fallback, st.integers(1, 3), st.integers(0, 40))),
    }
    return policy.Policy(**{**said, **fixed})


values = st.none() | st.just(0.0) | st.floats(0, 1000) | st.sampled_from([math.nan, math.inf, -5.0, 1e300])
some = st.builds(
    readings.Reading,
    stable=values,
    panic=values,
    coverage=st.sampled_from([1.0, 1.0, 0.5, 0.0]),
    active=st.sampled_from([None, None, None, True, False]),
    failures=st.integers(0, 4),
)


@st.composite
def seens(draw: st.DrawFn) -> readings.Readings:
    replicas = draw(st.integers(0, 40))
    schedule = st.builds(
        readings.Schedule,
        st.just("day"),
        active=st.booleans(),
        replicas=st.integers(0, 40),
        changes_at=st.none() | st.floats(NOW - 10, NOW + 10),
    )
    return readings.Readings(
        replicas,
        ready=draw(st.integers(0, replicas)),
        metrics={one.name: draw(some) for one in METRICS if draw(st.integers(0, 9))},
        schedules=tuple(draw(st.lists(schedule, max_size=1))),
        waiting=draw(st.sampled_from([0, 0, 1, 50])),
        busy=draw(st.sampled_from([None, True, False])),
        gated=draw(st.sampled_from([True, True, False])),
    )


times = st.floats(0, 2000).map(lambda ago: NOW - ago)


@st.composite
def memories(draw: st.DrawFn) -> memory.Memory:
    marks = sorted(
        draw(st.lists(st.builds(memory.Mark, times, st.integers(0, 40), st.integers(0, 40)), max_size=4)),
        key=lambda mark: mark.at,
    )
    changes = sorted(
        draw(st.lists(st.builds(memory.Change, times, st.integers(-9, 9)), max_size=4)), key=lambda change: change.at
    )
    return memory.Memory(
        draw(st.integers(0, 40)),
        since=draw(times),
        active_at=draw(times),
        reach=draw(st.integers(0, 6)),
        reach_until=NOW + draw(st.floats(-10, 600)),
        panic_at=draw(st.none() | times),
        marks=tuple(marks),
        changes=tuple(changes),
    )


@hypothesis.given(policies(), seens(), st.none() | memories())
def test_never_above_max_never_below_min_or_idle(
    made: policy.Policy, seen: readings.Readings, past: memory.Memory | None
) -> None:
    decision = decide.decide(made, seen, past, NOW)
    assert made.rest <= decision.replicas <= made.max_replicas
    assert decision.why
    assert decision.wake_at is None or decision.wake_at > NOW
    assert decision.memory.replicas == decision.replicas
    assert memory.read(json.loads(json.dumps(decision.memory.as_dict()))) == decision.memory


@hypothesis.given(policies(), seens(), memories(), st.sampled_from(METRICS), st.booleans())
def test_never_down_on_unknown(
    made: policy.Policy, seen: readings.Readings, past: memory.Memory, lost: policy.Metric, partly: bool
) -> None:
    made = dataclasses.replace(made, metrics=tuple({*made.metrics, lost}))
    gone = readings.Reading(stable=0.0 if partly else None, coverage=0.9 if partly else 0.0, failures=1)
    seen = dataclasses.replace(seen, metrics={**seen.metrics, lost.name: gone})
    assert decide.decide(made, seen, past, NOW).replicas >= min(past.replicas, made.max_replicas)


@hypothesis.given(policies(), seens(), memories(), st.floats(0, 59.9))
def test_never_down_before_a_window_was_seen(
    made: policy.Policy, seen: readings.Readings, past: memory.Memory, watched: float
) -> None:
    past = dataclasses.replace(past, since=NOW - watched)
    assert decide.decide(made, seen, past, NOW).replicas >= min(past.replicas, made.max_replicas)
    lost = decide.decide(made, seen, None, NOW).replicas
    assert lost >= min(seen.replicas, made.max_replicas)


@hypothesis.given(policies(), seens(), memories(), st.floats(0, 59.9))
def test_a_panic_never_shrinks(made: policy.Policy, seen: readings.Readings, past: memory.Memory, ago: float) -> None:
    past = dataclasses.replace(past, panic_at=NOW - ago)
    assert decide.decide(made, seen, past, NOW).replicas >= min(past.replicas, made.max_replicas)


@hypothesis.given(policies(), seens(), memories(), st.sampled_from(METRICS), st.floats(0, 1000), st.floats(0, 1000))
def test_more_load_never_means_fewer(
    made: policy.Policy,
    seen: readings.Readings,
    past: memory.Memory,
    metric: policy.Metric,
    one: float,
    other: float,
) -> None:
    made = dataclasses.replace(made, metrics=tuple({*made.metrics, metric}))
    less, more = (
        decide.decide(
            made,
            dataclasses.replace(seen, metrics={**seen.metrics, metric.name: readings.Reading(stable=load, panic=load)}),
            past,
            NOW,
        ).replicas
        for load in sorted((one, other))
    )
    assert less <= more


@hypothesis.given(
    policies(metrics=METRICS[:1], behavior=policy.Behavior(), fallback=None), st.floats(0, 300), st.integers(0, 40)
)
def test_a_constant_load_settles(made: policy.Policy, load: float, replicas: int) -> None:
    past, history = memory.begin(replicas, NOW), []
    for step in range(400):
        seen = readings.Readings(
            past.replicas,
            past.replicas,
            metrics={"concurrency": readings.Reading(stable=load, panic=load)},
            busy=load > 0,
        )
        past = decide.decide(made, seen, past, NOW + 2 * step).memory
        history.append(past.replicas)
    settled = history[-1]
    assert history[-200:] == [settled] * 200
    if load == 0:
        assert settled == made.rest
    else:
        needed = math.ceil(load / 7 - 1e-9)
        assert min(max(needed, made.floor), made.max_replicas) <= settled
        assert settled <= min(max(math.ceil(load / 6.3), made.floor), made.max_replicas)
    # After the first look it goes one way only.
    steps = [after - before for before, after in itertools.pairwise(history)]
    assert not (any(step > 0 for step in steps) and any(step < 0 for step in steps)) or made.activation > 1


@hypothesis.given(policies(metrics=METRICS[3:4], behavior=policy.Behavior(), fallback=None), st.floats(0.01, 20))
def test_constant_work_of_processors_settles(made: policy.Policy, work: float) -> None:
    past, history = memory.begin(max(1, made.rest), NOW), []
    for step in range(400):
        serving = max(1, past.replicas)
        found = {"cpu": readings.Reading(stable=work / serving)}
        seen = readings.Readings(serving, serving, metrics=found, busy=True)
        past = decide.decide(made, seen, past, NOW + 2 * step).memory
        history.append(past.replicas)
    assert history[-200:] == [history[-1]] * 200
