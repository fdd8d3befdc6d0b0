"""What a policy may say, and what holds when it says nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from mlship.scale import policy

Kind, Form, Unit = policy.Kind, policy.Form, policy.Unit


def test_requests_are_aimed_at_below_their_target_and_the_rest_is_taken_as_it_is() -> None:
    assert policy.Metric("c", Kind.CONCURRENCY, 10).aim == pytest.approx(7.0)
    assert policy.Metric("c", Kind.CONCURRENCY, 10, utilization=1.0).aim == 10.0
    assert policy.Metric("cpu", Kind.CPU, 0.8).aim == 0.8


def test_a_metric_may_choose_its_form() -> None:
    assert policy.Metric("m", Kind.MEMORY, 1.0).shape is Form.VALUE
    assert policy.Metric("m", Kind.MEMORY, 1e9, form=Form.AVERAGE).shape is Form.AVERAGE


def test_only_counted_work_tells_that_nobody_asks() -> None:
    told = {kind for kind in Kind if policy.Metric("m", kind, 1.0).activates}
    assert told == {Kind.CONCURRENCY, Kind.RPS, Kind.QUEUE, Kind.EXTERNAL}


def test_the_rest_is_the_minimum_unless_said() -> None:
    plain, zero = policy.Policy(min_replicas=2, max_replicas=5), policy.Policy(min_replicas=0, max_replicas=5)
    idle = policy.Policy(min_replicas=3, max_replicas=5, idle_replicas=0)
    assert (plain.rest, plain.floor) == (2, 2)
    assert (zero.rest, zero.floor) == (0, 1)
    assert (idle.rest, idle.floor) == (0, 3)


def test_the_windows_that_follow() -> None:
    made = policy.Policy(stable=60, delay=30, behavior=policy.KUBERNETES)
    assert made.panic == pytest.approx(6.0)
    assert made.down_window == 300
    assert policy.KUBERNETES.longest == 15
    assert policy.Behavior().longest == 0


@pytest.mark.parametrize(
    "said",
    [
        {"min_replicas": -1},
        {"min_replicas": 3, "max_replicas": 2},
        {"min_replicas": 0, "max_replicas": 0},
        {"min_replicas": 2, "max_replicas": 4, "idle_replicas": 2},
        {"idle_replicas": -1},
        {"initial": -1},
        {"activation": 0},
        {"up_rate": 1.0},
        {"up_rate": math.inf},
        {"down_rate": math.nan},
        {"panic_threshold": 1.0},
        {"panic_share": 0.0},
        {"panic_share": 1.5},
        {"delay": -1},
        {"cooldown": -1},
        {"stable": 0},
        {"interval": 0},
    ],
)
def test_policies_that_cannot_be(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        policy.Policy(**said)


@pytest.mark.parametrize(
    "said", [{"target": 0}, {"target": math.nan}, {"target": math.inf}, {"utilization": 1.1}, {"tolerance": 1.0}]
)
def test_metrics_that_cannot_be(said: dict[str, Any]) -> None:
    good = policy.Metric("c", Kind.CONCURRENCY, 10)
    with pytest.raises(ValueError, match="a metric needs"):
        dataclasses.replace(good, **said)


def test_rules_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="a rate needs"):
        policy.Rate(Unit.PODS, 0, 15)
    with pytest.raises(ValueError, match="a rate needs"):
        policy.Rate(Unit.PERCENT, 10, 1801)
    with pytest.raises(ValueError, match="0 to 3600"):
        policy.Rules(window=3601)
    with pytest.raises(ValueError, match="a fallback needs"):
        policy.Fallback(failures=0, replicas=1)
