"""What the shell makes of starts: metrics, the newest ones, and whoever wants them as traces."""

from __future__ import annotations

from typing import Any

from mlship.control import metrics, seams, starts
from mlship.plan import actions, coldstart, observed

KEY = observed.ServiceKey("default", "iris")
ID = observed.ReplicaId(KEY, "0a1b2c3d", 0)
END = observed.Endpoint("unix:/h")
START = seams.Decision(
    (actions.StartReplica(ID, actions.ProcessSpec(("x",))),), status={"mlship": {"replicas": {"wanted": 1}}}
)
NOTHING = seams.Decision(status={"mlship": {"replicas": {"wanted": 1}}})


def ready(began: float) -> observed.Replica:
    startup = observed.Startup(observed.How.FORKED, began, (("fork", 0.01), ("load", 0.02)), ready_at=began + 0.1)
    return observed.Replica(ID, observed.Phase.RUNNING, since=began, ready=True, endpoint=END, startup=startup)


def world(*replicas: observed.Replica, waiting: int = 0, **more: Any) -> observed.Observed:
    gateway = observed.Gateway(running=True, applied=frozenset(one.endpoint for one in replicas if one.endpoint))
    return observed.Observed(replicas, gateway=gateway, demand=observed.Demand(waiting=waiting), **more)


def value(meter: metrics.Metrics, name: str, **labels: str) -> float:
    return meter.registry.get_sample_value(name, labels) or 0.0


def test_a_start_is_counted_once_by_phase_and_told_to_whoever_exports() -> None:
    meter, told = metrics.Metrics(), []
    made = starts.Starts(meter, clock=lambda: 90.0, export=told.append)
    made.wished(KEY, at=99.0, traceparent="00-a")
    made.wished(KEY, at=99.5)
    made.look(KEY, world(waiting=1), START, now=100.0)
    made.answered(KEY, at=100.3)
    made.answered(KEY, at=100.9)
    made.look(KEY, world(ready(100.0), waiting=1), NOTHING, now=100.2)
    made.look(KEY, world(ready(100.0)), NOTHING, now=101.0)
    (start,) = told
    assert (start.wished_at, start.traceparent, start.why) == (99.0, "00-a", coldstart.Why.CALLER)
    assert made.newest(KEY) == (start,)
    assert value(meter, "mlship_cold_starts_total", how="forked", why="caller") == 1
    for phase in ("decide", "fork", "load", "endpoint", "answer", "total"):
        assert value(meter, "mlship_cold_start_seconds_count", phase=phase) == 1
    assert round(value(meter, "mlship_cold_start_seconds_sum", phase="total"), 3) == 1.3
    assert value(meter, "mlship_cold_start_seconds_sum", phase="decide") == 1.0


def test_the_rate_of_each_fetch_is_counted_once() -> None:
    meter = metrics.Metrics()
    made = starts.Starts(meter, clock=lambda: 0.0)
    artifact = observed.Artifact("u", observed.ArtifactState.READY, size=2_000_000, fetched_at=50.0, seconds=2.0)
    for now in (51.0, 52.0):
        made.look(KEY, world(artifact=artifact), NOTHING, now=now)
    assert value(meter, "mlship_fetch_bytes_per_second_count") == 1
    assert value(meter, "mlship_fetch_bytes_per_second_sum") == 1_000_000


def test_a_word_of_the_gate_about_nobodys_start_is_nothing_and_a_service_is_forgotten() -> None:
    made = starts.Starts(metrics.Metrics(), clock=lambda: 0.0)
    made.answered(KEY, at=1.0)
    made.look(KEY, world(), START, now=10.0)
    made.look(KEY, world(ready(10.0)), seams.Decision(), now=11.0)
    assert len(made.newest(KEY)) == 1
    made.forget(KEY)
    assert made.newest(KEY) == ()
