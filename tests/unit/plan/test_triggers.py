"""From a ScaledObject to a policy."""

from __future__ import annotations

from typing import Any

import pytest

from mlship.api import load, scaledobject
from mlship.api import service as services
from mlship.plan import autoscale, scaling
from mlship.scale import decide, memory, readings
from mlship.scale import policy as policies

PROMETHEUS = {"serverAddress": "http://p:9090", "query": "up", "threshold": "5"}
Form, Origin = policies.Form, scaling.Origin


def trigger(kind: str, told: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"type": kind, "metadata": told, **more}


def scaled(*triggers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> scaling.Scaling:
    found = triggers or (trigger("prometheus", PROMETHEUS),)
    made = load.parse(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "night", **({"annotations": annotations} if annotations else {})},
            "spec": {"scaleTargetRef": {"name": "iris-predictor"}, "triggers": list(found), **spec},
        }
    )
    service = load.parse(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "iris", "annotations": {"mlship.dev/hold-requests": "7"}},
            "spec": {
                "predictor": {
                    "minReplicas": 9,
                    "scaleMetric": "rps",
                    "timeout": 20,
                    "sklearn": {"storageUri": "/m", "resources": {"requests": {"cpu": "2"}}},
                }
            },
        }
    )
    assert isinstance(made, scaledobject.ScaledObject)
    assert isinstance(service, services.InferenceService)
    return autoscale.scaling_of(service, services.effective(service), made)


def test_kedas_defaults_hold_and_the_service_has_no_say_but_for_its_gate() -> None:
    found = scaled()
    assert found.policy == policies.Policy(
        min_replicas=0,
        max_replicas=100,
        metrics=found.policy.metrics,
        cooldown=300,
        interval=30,
        behavior=policies.KUBERNETES,
        down_rate=1e6,
    )
    assert (found.by, found.patience, found.places, found.paused) == ("ScaledObject night", 20, 7, None)


def test_what_is_written_holds() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5, "tolerance": "0"}, "scaleUp": {"tolerance": "0"}}
    found = scaled(
        minReplicaCount=2,
        maxReplicaCount=4,
        idleReplicaCount=0,
        pollingInterval=5,
        cooldownPeriod=0,
        fallback={"failureThreshold": 3, "replicas": 3},
        advanced={"horizontalPodAutoscalerConfig": {"behavior": behavior}},
    )
    policy = found.policy
    assert (policy.min_replicas, policy.max_replicas, policy.rest, policy.cooldown) == (2, 4, 0, 0)
    assert (policy.interval, found.sources[0].interval) == (5, 5)
    assert (policy.behavior.down.window, policy.metrics[0].tolerance) == (5, 0)
    assert policy.fallback == policies.Fallback(failures=4, replicas=3)


@pytest.mark.parametrize(
    ("written", "kept"), [("static", True), ("currentReplicasIfHigher", True), ("currentReplicas", False)]
)
def test_a_fallback_raises_or_nothing_happens(written: str, kept: bool) -> None:
    found = scaled(fallback={"failureThreshold": 3, "replicas": 2, "behavior": written})
    assert (found.policy.fallback is not None) == kept


@pytest.mark.parametrize(
    ("one", "metric", "source"),
    [
        (
            trigger("prometheus", PROMETHEUS),
            ("prometheus", 5, Form.AVERAGE, 0),
            (Origin.PROMETHEUS, "http://p:9090", 0),
        ),
        (
            trigger("prometheus", {**PROMETHEUS, "activationThreshold": "2.5"}, metricType="Value", name="rate"),
            ("rate", 5, Form.VALUE, 2.5),
            (Origin.PROMETHEUS, "http://p:9090", 0),
        ),
        (
            trigger("cpu", {"value": "50"}, metricType="Utilization"),
            ("cpu", 0.5, Form.VALUE, 0),
            (Origin.PROCESSES, "", 2),
        ),
        (
            trigger("cpu", {"value": "500m", "type": "AverageValue"}),
            ("cpu", 0.5, Form.AVERAGE, 0),
            (Origin.PROCESSES, "", 0),
        ),
        (
            trigger("memory", {"value": "50"}, metricType="Utilization"),
            ("memory", 0.5, Form.VALUE, 0),
            (Origin.PROCESSES, "", 2 * 2**30),
        ),
        (
            trigger("external-push", {"scalerAddress": "s:9090", "topic": "t"}),
            ("external-push", 1, Form.AVERAGE, 0),
            (Origin.SCALER, "s:9090", 0),
        ),
        (
            trigger("external", {"scalerAddress": "s:9090"}, metricType="Value"),
            ("external", 1, Form.VALUE, 0),
            (Origin.SCALER, "s:9090", 0),
        ),
    ],
)
def test_triggers(one: dict[str, Any], metric: tuple[Any, ...], source: tuple[Any, ...]) -> None:
    found = scaled(one)
    (made,), (measured,) = found.policy.metrics, found.sources
    assert (made.name, made.target, made.shape, made.activation) == metric
    assert (measured.origin, measured.address, measured.request) == source
    assert measured.metric == made.name


def test_options_go_to_who_asks() -> None:
    told = {**PROMETHEUS, "ignoreNullValues": "false", "customHeaders": "a=b", "metricName": "old"}
    (source,) = scaled(trigger("prometheus", told)).sources
    assert (source.query, dict(source.options)) == ("up", {"ignoreNullValues": "false", "customHeaders": "a=b"})
    found = scaled(*(trigger(kind, {"scalerAddress": "s:1", "topic": "t"}) for kind in ("external", "external-push")))
    for source in found.sources:
        assert dict(source.options) == {"scalerAddress": "s:1", "topic": "t"}
        assert found.by == f"ScaledObject {source.asker}"
    assert [one.pushes for one in found.sources] == [False, True]


def test_triggers_without_names_get_different_ones() -> None:
    found = scaled(*(trigger("prometheus", PROMETHEUS) for _ in range(3)))
    assert [one.name for one in found.policy.metrics] == ["prometheus", "prometheus 2", "prometheus 3"]


def test_schedules() -> None:
    told = {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"}
    found = scaled(trigger("cron", told, name="office"), trigger("cron", told))
    office = scaling.Cron("office", start="0 8 * * *", end="0 18 * * *", timezone="Europe/Berlin", replicas=3)
    assert found.crons[0] == office
    assert [one.name for one in found.crons] == ["office", "cron 2"]
    assert (found.policy.metrics, found.sources) == ((), ())


@pytest.mark.parametrize(
    ("annotation", "value", "held"),
    [
        (scaledobject.PAUSED, "true", (True, True)),
        (scaledobject.PAUSED, "false", (False, False)),
        (scaledobject.PAUSED_IN, "true", (False, True)),
        (scaledobject.PAUSED_OUT, "true", (True, False)),
    ],
)
def test_pauses(annotation: str, value: str, held: tuple[bool, bool]) -> None:
    behavior = scaled(annotations={annotation: value}).policy.behavior
    disabled = policies.Select.DISABLED
    assert (behavior.up.select is disabled, behavior.down.select is disabled) == held


def test_one_that_is_paused_stays_as_it_is_whether_it_is_used_or_not() -> None:
    found = scaled(annotations={scaledobject.PAUSED: "true"}, minReplicaCount=1)
    for value, active in ((1000.0, True), (0.0, False)):
        seen = readings.Readings(
            3, 3, metrics={"prometheus": readings.Reading(stable=value, active=active)}, busy=active
        )
        past: memory.Memory | None = None
        for now in range(0, 2000, 30):
            decision = decide.decide(found.policy, seen, past, float(now))
            past = decision.memory
        assert decision.replicas == 3


def test_a_number_to_be_paused_at() -> None:
    assert scaled(annotations={scaledobject.PAUSED_REPLICAS: "3"}).paused == 3
