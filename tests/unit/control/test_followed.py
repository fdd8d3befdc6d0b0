"""What is measured of one service, and what follows: unknown stays unknown, newcomers and the gone do no harm."""

from __future__ import annotations

import dataclasses

import pytest

from mlship.control import followed
from mlship.gateway import stats
from mlship.plan import observed, scaling
from mlship.scale import policy as policies

KEY = observed.ServiceKey("default", "iris")
CPU = policies.Metric("cpu", policies.Kind.CPU, 0.8)
QUEUE = policies.Metric("queue", policies.Kind.QUEUE, 4)
CONCURRENCY = policies.Metric("concurrency", policies.Kind.CONCURRENCY, 10)
QUERY = policies.Metric("query", policies.Kind.EXTERNAL, 5)
LATENCY = policies.Metric("latency", policies.Kind.LATENCY, 0.1)


def replica(number: int, *, ready: bool = True, pid: int | None = None, **more: object) -> observed.Replica:
    made = observed.Replica(
        observed.ReplicaId(KEY, "r1", number), observed.Phase.RUNNING, 0.0, ready=ready,
        endpoint=observed.Endpoint(f"unix:/run/{number}"), pid=pid or 100 + number,
    )  # fmt: skip
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def by(metric: policies.Metric, origin: scaling.Origin, least: int = 1, **more: object) -> scaling.Scaling:
    policy = policies.Policy(min_replicas=least, max_replicas=9, metrics=(metric,))
    return scaling.Scaling(policy, (scaling.Source(metric.name, origin, **more),))  # type: ignore[arg-type]


def seen(*replicas: observed.Replica) -> observed.Observed:
    return observed.Observed(replicas=replicas)


def followed_by(wanted: scaling.Scaling, *replicas: observed.Replica, now: float = 0.0) -> followed.Followed:
    one = followed.Followed()
    one.follow(wanted, seen(*replicas), now)
    return one


def put(one: followed.Followed, kind: policies.Kind, number: int, value: float, *seconds: int) -> None:
    for (key, _), measured in one.live.items():
        if key.ordinal == number:
            for second in seconds:
                measured.add(kind, float(second), value)


def test_shares_are_the_mean_of_the_replicas_and_queues_their_sum() -> None:
    one = followed_by(by(CPU, scaling.Origin.PROCESSES, request=0.5), replica(0), replica(1))
    for number, cores in ((0, 0.1), (1, 0.4)):
        put(one, policies.Kind.CPU, number, cores, *range(60))
    reading = one.demand(59.0).metrics["cpu"]
    assert reading.stable == pytest.approx(0.5)
    assert reading.whole
    one = followed_by(by(QUEUE, scaling.Origin.REPLICAS), replica(0), replica(1))
    for number, depth in ((0, 3.0), (1, 4.0)):
        put(one, policies.Kind.QUEUE, number, depth, *range(60))
    assert one.demand(59.0).metrics["queue"].stable == 7.0


def test_a_newcomer_is_not_counted_before_its_first_sample_and_leaves_the_window_whole() -> None:
    one = followed_by(by(CPU, scaling.Origin.PROCESSES), replica(0))
    put(one, policies.Kind.CPU, 0, 0.6, *range(60))
    one.follow(one.scaling, seen(replica(0), replica(1, ready=False)), 58.0)
    assert len(one.live) == 1
    one.follow(one.scaling, seen(replica(0), replica(1)), 59.0)
    reading = one.demand(59.0).metrics["cpu"]
    assert reading.stable == pytest.approx(0.6)
    assert reading.whole


def test_one_that_is_ready_and_never_answers_makes_the_whole_unknown() -> None:
    one = followed_by(by(QUEUE, scaling.Origin.REPLICAS), replica(0), replica(1))
    put(one, policies.Kind.QUEUE, 0, 3.0, *range(20))
    assert one.demand(3.0).metrics["queue"].stable == 3.0
    assert one.demand(19.0).metrics["queue"].stable is None


def test_one_that_falls_silent_makes_the_newest_seconds_unknown() -> None:
    one = followed_by(by(QUEUE, scaling.Origin.REPLICAS), replica(0), replica(1))
    put(one, policies.Kind.QUEUE, 0, 3.0, *range(60))
    put(one, policies.Kind.QUEUE, 1, 3.0, *range(48))
    reading = one.demand(59.0).metrics["queue"]
    assert not reading.whole
    assert reading.panic is None or reading.coverage < 1


def test_one_that_is_gone_is_no_longer_unknown_but_over() -> None:
    one = followed_by(by(CPU, scaling.Origin.PROCESSES), replica(0), replica(1))
    for number in (0, 1):
        put(one, policies.Kind.CPU, number, 1.0, *range(30))
    one.follow(one.scaling, seen(replica(0)), 30.0)
    put(one, policies.Kind.CPU, 0, 1.0, *range(30, 60))
    assert one.demand(59.0).metrics["cpu"].whole
    one.follow(one.scaling, seen(replica(0)), 120.0)
    assert one.gone == []


def test_one_that_was_started_anew_under_its_name_is_another() -> None:
    one = followed_by(by(CPU, scaling.Origin.PROCESSES), replica(0))
    put(one, policies.Kind.CPU, 0, 1.0, 0, 1)
    one.follow(one.scaling, seen(replica(0, pid=999)), 2.0)
    put(one, policies.Kind.CPU, 0, 3.0, 3, 4)
    assert one.recent(policies.Kind.CPU, 4.0) == 3.0


def test_a_probe_that_fails_for_a_moment_ends_no_replica() -> None:
    one = followed_by(by(CPU, scaling.Origin.PROCESSES), replica(0))
    one.follow(one.scaling, seen(replica(0, ready=False)), 1.0)
    assert len(one.live) == 1
    one.follow(one.scaling, seen(replica(0, phase=observed.Phase.TERMINATING, ready=False)), 2.0)
    assert not one.live


def test_answers_of_queries_are_taken_as_they_are_and_failures_are_counted() -> None:
    one = followed_by(by(QUERY, scaling.Origin.PROMETHEUS))
    assert one.demand(0.0).metrics["query"].stable is None
    one.answers["query"] = followed.Answer(12.0)
    assert one.demand(0.0).metrics["query"].whole
    one.answers["query"] = followed.Answer(failures=3)
    reading = one.demand(0.0).metrics["query"]
    assert (reading.stable, reading.failures, reading.whole) == (None, 3, False)


def test_the_answer_to_another_question_is_no_answer() -> None:
    one = followed_by(by(QUERY, scaling.Origin.PROMETHEUS, query="up"))
    one.answers["query"] = followed.Answer(12.0)
    same = by(QUERY, scaling.Origin.PROMETHEUS, least=2, query="up")
    one.follow(same, seen(replica(0)), 1.0)
    assert one.demand(1.0).metrics["query"].stable == 12.0
    assert one.demand(1.0).sources == same.sources
    one.follow(by(QUERY, scaling.Origin.PROMETHEUS, query="down"), seen(replica(0)), 2.0)
    assert one.demand(2.0).metrics["query"].stable is None


def test_a_scaler_also_says_whether_there_is_work() -> None:
    one = followed_by(by(QUERY, scaling.Origin.SCALER))
    reading = one.demand(0.0).metrics["query"]
    assert (reading.stable, reading.active, reading.whole) == (None, None, False)
    one.answers["query"] = followed.Answer(0.5, active=False)
    reading = one.demand(0.0).metrics["query"]
    assert (reading.stable, reading.active, reading.whole) == (0.5, False, True)
    one.answers["query"] = followed.Answer(failures=2, active=True)
    reading = one.demand(0.0).metrics["query"]
    assert (reading.active, reading.failures, reading.whole) == (True, 2, False)


def test_what_nobody_follows_is_unknown() -> None:
    assert followed.Followed().demand(0.0) == observed.Demand()


def read(one: followed.Followed, *counts: int, active: int = 0, start: float = 0.0) -> None:
    for step, total in enumerate(counts):
        cluster = stats.Cluster(active=active, total=total, bins={(10.0, 1.0): total} if total else {})
        one.traffic().add(start + step, {"default/iris/r1/http": cluster})


def test_traffic_is_busy_idle_or_not_known() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY), replica(0))
    assert one.demand(0.0).busy is None
    read(one, *[5] * 30)
    assert one.demand(29.0).busy is None
    read(one, *[5] * 40, start=30.0)
    assert one.demand(69.0).busy is False
    assert one.demand(69.0).metrics["concurrency"].stable == 0.0
    read(one, 6, start=70.0)
    assert one.demand(70.0).busy is True


def test_a_latency_without_requests_is_watched_and_has_no_value() -> None:
    one = followed_by(by(LATENCY, scaling.Origin.GATEWAY), replica(0))
    read(one, *[0] * 70)
    reading = one.demand(69.0).metrics["latency"]
    assert (reading.stable, reading.coverage) == (None, 1.0)
    read(one, 10, start=70.0)
    assert one.demand(70.0).metrics["latency"].stable == pytest.approx(0.011, abs=0.001)


def test_only_what_decides_something_is_read() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY), replica(0))
    assert one.needs(0.0) == followed.Needs(traffic=True, usage=False, queues=False)
    one.follow(by(CPU, scaling.Origin.PROCESSES), seen(replica(0)), 0.0)
    assert one.needs(0.0) == followed.Needs(traffic=False, usage=True, queues=False)
    one.follow(by(CPU, scaling.Origin.PROCESSES, least=0), seen(replica(0)), 0.0)
    assert one.needs(0.0).traffic, "whether it may sleep is seen in its traffic"
    one.follow(by(QUEUE, scaling.Origin.REPLICAS), seen(replica(0)), 0.0)
    assert one.needs(0.0).queues
    one.follow(by(QUEUE, scaling.Origin.REPLICAS, least=0), seen(), 0.0)
    assert not one.needs(0.0).any, "one that sleeps is asked nothing"
    paused = dataclasses.replace(by(CONCURRENCY, scaling.Origin.GATEWAY), paused=2)
    one.follow(paused, seen(replica(0)), 0.0)
    assert not one.needs(0.0).any
    one.glanced_until = 5.0
    assert one.needs(0.0) == followed.Needs(traffic=True, usage=True, queues=False)


def test_a_jump_is_told_and_a_slope_is_not() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY), replica(0))
    read(one, *[0] * 20)
    assert not one.presses()
    read(one, 0, active=5, start=20.0)
    assert one.presses() is False
    read(one, 0, active=10, start=21.0)
    assert one.presses()
    assert not one.jumped(21.0)
    read(one, 0, 0, 0, active=60, start=22.0)
    assert one.jumped(24.0)
    one.follow(one.scaling, seen(*(replica(number) for number in range(9))), 24.0)
    assert not one.jumped(24.0), "more are not allowed"


def test_another_window_begins_anew() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY), replica(0))
    read(one, 5, 6)
    policy = policies.Policy(max_replicas=9, metrics=(CONCURRENCY,), stable=10.0)
    one.follow(dataclasses.replace(one.scaling or by(CPU, scaling.Origin.SCALER), policy=policy), seen(replica(0)), 2.0)
    assert one.flow is None
    assert one.demand(2.0).busy is None


def test_callers_at_the_gate_of_a_sleeper_are_use_and_load() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY, least=0), replica(0))
    read(one, *[0] * 70)
    assert one.demand(69.0).busy is False
    one.follow(one.scaling, seen(), 70.0)
    one.traffic().pause()
    one.held(72.0, 60)
    demand = one.demand(72.0)
    assert demand.busy is True
    assert demand.metrics["concurrency"].panic == 10.0
    one.follow(one.scaling, seen(replica(0)), 72.5)
    read(one, 60, 60, 60, start=73.0)
    assert one.demand(75.0).busy is True


def test_callers_who_come_while_the_first_replica_starts_are_load_too() -> None:
    one = followed_by(by(CONCURRENCY, scaling.Origin.GATEWAY, least=0))
    one.held(0.0, 1)
    one.follow(one.scaling, seen(replica(0, ready=False)), 0.5)
    for second in range(1, 31):
        one.held(float(second), 60)
    assert one.demand(30.0).metrics["concurrency"].panic == 60.0
    one.follow(one.scaling, seen(replica(0)), 30.5)
    one.held(31.0, 7)
    assert one.traffic().concurrency.average(31.0, 1) == 60.0, "whoever reads the traffic counts them now"
