from __future__ import annotations

from mlship.plan import measures
from mlship.scale import policy as policies


def test_no_two_measures_have_one_name() -> None:
    found = measures.named([measures.amount("cpu", 1), measures.latency(0.1), measures.amount("cpu", 2)], tolerance=0.3)
    assert [one.metric.name for one in found] == ["cpu", "p99 latency", "cpu 2"]
    assert [one.source.metric for one in found] == ["cpu", "p99 latency", "cpu 2"]
    assert {one.metric.tolerance for one in found} == {0.3}


def test_a_name_that_was_chosen_is_not_given_again() -> None:
    chosen = measures.prometheus("http://p", "up", 1, value=False, name="prometheus 2")
    others = [measures.prometheus("http://p", "up", 1, value=False) for _ in range(2)]
    assert len({one.metric.name for one in measures.named([chosen, *others])}) == 3


def test_utilization_is_in_percent() -> None:
    (metric,) = (measures.requests(policies.Kind.RPS, 100, utilization=50).metric,)
    assert metric.aim == 50
    assert measures.requests(policies.Kind.RPS, 100).metric.aim == 70
