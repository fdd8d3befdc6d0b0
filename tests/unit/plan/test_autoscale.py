"""From what users write in a service to a policy."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlship.api import load
from mlship.api import service as services
from mlship.plan import autoscale, scaling
from mlship.scale import policy as policies

K = "autoscaling.knative.dev/"
S = "serving.kserve.io/"
HPA = {f"{S}autoscalerClass": "hpa"}
KEDA = {f"{S}autoscalerClass": "keda"}
KNATIVE_HPA = {f"{K}class": "hpa.autoscaling.knative.dev"}
Kind, Form, Origin = policies.Kind, policies.Form, scaling.Origin


def scaled(
    predictor: dict[str, Any] | None = None, annotations: dict[str, str] | None = None, **model: Any
) -> scaling.Scaling:
    body = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "/m", **model}, **(predictor or {})}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", **({"annotations": annotations} if annotations else {})},
        "spec": {"predictor": body},
    }
    service = load.parse(document)
    assert isinstance(service, services.InferenceService)
    return autoscale.scaling_of(service, services.effective(service), None)


@pytest.mark.parametrize(
    ("predictor", "annotations", "bounds"),
    [
        ({}, {}, (1, 1)),
        ({"minReplicas": 3}, {}, (3, 3)),
        ({"minReplicas": 0}, {}, (0, 1)),
        ({"minReplicas": 0, "maxReplicas": 0}, {}, (0, 1)),
        ({"minReplicas": 2, "maxReplicas": 5}, {}, (2, 5)),
        # Knative: no limit; a machine has one.
        ({"minReplicas": 2, "scaleMetric": "rps"}, {}, (2, 10)),
        ({"minReplicas": 20, "scaleMetric": "rps"}, {}, (20, 20)),
        ({"minReplicas": 0, "scaleTarget": 3}, {}, (0, 10)),
        ({}, {f"{K}target": "3"}, (1, 10)),
        ({}, {"mlship.dev/scale-latency-p99": "1s"}, (1, 10)),
        # KServe: a HorizontalPodAutoscaler without maxReplicas has minReplicas.
        ({"minReplicas": 2, "scaleMetric": "cpu"}, {}, (2, 2)),
        ({"minReplicas": 0, "scaleMetric": "cpu"}, {}, (0, 1)),
        ({"scaleMetric": "rps"}, HPA, (1, 1)),
        ({}, {f"{K}min-scale": "0", f"{K}max-scale": "4"}, (0, 4)),
        ({"minReplicas": 1, "maxReplicas": 2}, {f"{K}min-scale": "0", f"{K}maxScale": "4"}, (1, 2)),
        ({"annotations": {f"{K}max-scale": "6"}}, {f"{K}max-scale": "4"}, (1, 6)),
    ],
)
def test_bounds(predictor: dict[str, Any], annotations: dict[str, str], bounds: tuple[int, int]) -> None:
    policy = scaled(predictor, annotations).policy
    assert (policy.min_replicas, policy.max_replicas) == bounds
    assert bool(policy.metrics) == (bounds[0] < bounds[1])


def test_a_service_without_a_word_of_scaling_is_as_it_was() -> None:
    assert scaled() == scaling.Scaling(policies.Policy(), by="minReplicas")


@pytest.mark.parametrize(
    ("predictor", "annotations", "metric"),
    [
        ({}, {}, (Kind.CONCURRENCY, 4)),
        ({"scaleMetric": "concurrency"}, {}, (Kind.CONCURRENCY, 4)),
        ({"scaleTarget": 7}, {}, (Kind.CONCURRENCY, 7)),
        ({"scaleTarget": 7}, {f"{K}target": "9"}, (Kind.CONCURRENCY, 7)),
        ({}, {f"{K}target": "0.5"}, (Kind.CONCURRENCY, 0.5)),
        # Knative: the smaller one of the soft and the hard limit.
        ({"containerConcurrency": 2}, {}, (Kind.CONCURRENCY, 2)),
        ({"containerConcurrency": 9}, {}, (Kind.CONCURRENCY, 9)),
        ({"containerConcurrency": 9, "scaleTarget": 7}, {}, (Kind.CONCURRENCY, 7)),
        ({"containerConcurrency": 2, "scaleTarget": 7}, {}, (Kind.CONCURRENCY, 2)),
        ({"containerConcurrency": 2, "scaleMetric": "rps"}, {}, (Kind.RPS, 200)),
        ({"batcher": {}}, {}, (Kind.CONCURRENCY, 32)),
        ({"batcher": {"maxBatchSize": 8}}, {}, (Kind.CONCURRENCY, 8)),
        ({"scaleMetric": "rps"}, {}, (Kind.RPS, 200)),
        ({"scaleMetric": "rps", "scaleTarget": 50}, {}, (Kind.RPS, 50)),
        ({}, {f"{K}metric": "rps", f"{K}target": "150"}, (Kind.RPS, 150)),
        ({"scaleMetric": "cpu"}, {}, (Kind.CPU, 0.8)),
        ({"scaleMetric": "cpu", "scaleTarget": 60}, {}, (Kind.CPU, 0.6)),
        ({"scaleMetric": "memory", "scaleTarget": 150}, {}, (Kind.MEMORY, 1.5)),
        ({}, HPA, (Kind.CPU, 0.8)),
        ({"scaleTarget": 40}, HPA, (Kind.CPU, 0.4)),
        ({}, {**HPA, f"{S}targetUtilizationPercentage": "55"}, (Kind.CPU, 0.55)),
        ({}, {f"{S}targetUtilizationPercentage": "55"}, (Kind.CPU, 0.55)),
        ({}, {**HPA, f"{S}metrics": "memory"}, (Kind.MEMORY, 0.8)),
        ({}, KNATIVE_HPA, (Kind.CPU, 0.8)),
        ({}, {**KNATIVE_HPA, f"{K}metric": "memory", f"{K}target": "75"}, (Kind.MEMORY, 75 * 2**20)),
        ({"scaleMetric": "memory", "scaleMetricType": "AverageValue", "scaleTarget": 9}, {}, (Kind.MEMORY, 9)),
        ({}, {"mlship.dev/scale-latency-p99": "250ms"}, (Kind.LATENCY, 0.25)),
        ({}, {"mlship.dev/scale-queue-depth": "10"}, (Kind.QUEUE, 10)),
        ({}, KEDA, (Kind.CONCURRENCY, 4)),
    ],
)
def test_one_metric(predictor: dict[str, Any], annotations: dict[str, str], metric: tuple[Kind, float]) -> None:
    found = scaled({"maxReplicas": 20, **predictor}, annotations)
    (only,) = found.policy.metrics
    assert (only.kind, only.target) == metric
    assert [one.metric for one in found.sources] == [only.name]


def test_a_replica_takes_more_the_more_threads_it_has() -> None:
    (only,) = scaled({"maxReplicas": 2}, resources={"limits": {"cpu": "2500m"}}).policy.metrics
    assert only.target == 12


def test_where_values_come_from() -> None:
    annotations = {
        f"{K}metric": "concurrency",
        "mlship.dev/scale-latency-p99": "250ms",
        "mlship.dev/scale-queue-depth": "10",
    }
    resources = {"limits": {"cpu": "4"}, "requests": {"cpu": "500m"}}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 50}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {}}},
        {
            "type": "External",
            "external": {
                "metric": {"serverAddress": "http://p", "query": "up", "namespace": "n"},
                "target": {"type": "Value", "value": "500m"},
            },
        },
    ]
    found = scaled({"maxReplicas": 3, "autoScaling": {"metrics": metrics}}, annotations, resources=resources)
    sources = {one.metric: (one.origin, one.request) for one in found.sources}
    assert sources == {
        "concurrency": (Origin.GATEWAY, 0),
        "cpu": (Origin.PROCESSES, 0.5),
        "memory": (Origin.PROCESSES, 0),
        "memory 2": (Origin.PROCESSES, 2 * 2**30),
        "prometheus": (Origin.PROMETHEUS, 0),
        "p99 latency": (Origin.GATEWAY, 0),
        "queue depth": (Origin.REPLICAS, 0),
    }
    assert {one.name: (one.target, one.shape) for one in found.policy.metrics} == {
        "concurrency": (16, Form.LOAD),
        "cpu": (0.5, Form.VALUE),
        "memory": (2**30, Form.AVERAGE),
        "memory 2": (0.8, Form.VALUE),
        "prometheus": (0.5, Form.VALUE),
        "p99 latency": (0.25, Form.VALUE),
        "queue depth": (10, Form.LOAD),
    }
    asked = next(one for one in found.sources if one.origin is Origin.PROMETHEUS)
    assert (asked.address, asked.query, asked.interval, asked.options) == ("http://p", "up", 30, (("namespace", "n"),))
    assert found.by == "autoScaling.metrics"


def test_knatives_annotations() -> None:
    annotations = {
        f"{K}target-utilization-percentage": "80",
        f"{K}initial-scale": "0",
        f"{K}activation-scale": "2",
        f"{K}window": "30s",
        f"{K}panic-window-percentage": "20",
        f"{K}panic-threshold-percentage": "150",
        f"{K}scale-down-delay": "15m",
        f"{K}scale-to-zero-pod-retention-period": "1m",
    }
    policy = scaled({"minReplicas": 0, "maxReplicas": 5}, annotations).policy
    (metric,) = policy.metrics
    assert metric.aim == pytest.approx(4 * 0.8)
    assert policy == policies.Policy(
        min_replicas=0,
        max_replicas=5,
        metrics=policy.metrics,
        initial=0,
        activation=2,
        stable=30,
        panic_share=0.2,
        panic_threshold=1.5,
        delay=900,
        cooldown=60,
    )


def test_knatives_speed_is_the_default_and_kubernetes_holds_where_its_autoscaler_is_meant() -> None:
    knative = scaled({"maxReplicas": 5}).policy
    assert (knative.behavior, knative.down_rate) == (policies.Behavior(), 2)
    for one in (HPA, KEDA, KNATIVE_HPA):
        policy = scaled({"maxReplicas": 5}, one).policy
        assert (policy.behavior, policy.down_rate) == (policies.KUBERNETES, 1e6)
    assert scaled({"maxReplicas": 5}, KEDA).policy.cooldown == 300


def test_a_behavior_is_taken_over_field_by_field() -> None:
    behavior = {
        "scaleUp": {
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
            "selectPolicy": "Min",
            "tolerance": "0.05",
        },
        "scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "0.05"},
    }
    policy = scaled({"maxReplicas": 5, "autoScaling": {"behavior": behavior}}).policy
    up = policies.Rules(rates=(policies.Rate(policies.Unit.PODS, 2, 60),), select=policies.Select.MIN)
    assert policy.behavior.up == up
    assert policy.behavior.down == dataclasses.replace(policies.KUBERNETES.down, window=60)
    assert {one.tolerance for one in policy.metrics} == {0.05}
    knative = scaled(
        {"maxReplicas": 5, "autoScaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}},
        {f"{K}class": "kpa.autoscaling.knative.dev"},
    ).policy
    assert knative.behavior == policies.Behavior(down=policies.Rules(window=60))


@pytest.mark.parametrize("chosen", ["none", "external"])
def test_where_nobody_decides_min_replicas_run_also_none(chosen: str) -> None:
    for least in (0, 2):
        found = scaled({"minReplicas": least, "maxReplicas": 5}, {f"{S}autoscalerClass": chosen})
        assert (found.paused, found.policy.metrics, found.by) == (least, (), f"autoscalerClass {chosen}")


@pytest.mark.parametrize(
    ("predictor", "annotations", "gate"),
    [
        ({}, {}, (60, 1000)),
        ({"timeout": 5}, {}, (5, 1000)),
        ({"timeout": 600}, {}, (60, 1000)),
        ({"timeout": 5}, {"mlship.dev/hold-seconds": "90", "mlship.dev/hold-requests": "3"}, (90, 3)),
    ],
)
def test_the_gate(predictor: dict[str, Any], annotations: dict[str, str], gate: tuple[float, int]) -> None:
    found = scaled(predictor, annotations)
    assert (found.patience, found.places) == gate


@pytest.mark.parametrize(
    ("predictor", "annotations", "by"),
    [
        ({"minReplicas": 2}, {}, "minReplicas"),
        ({"minReplicas": 2, "maxReplicas": 3}, {}, "maxReplicas"),
        ({"maxReplicas": 3, "scaleMetric": "rps"}, {}, "scaleMetric"),
        ({"maxReplicas": 3, "scaleTarget": 2}, {}, "scaleTarget"),
        ({}, {f"{K}target": "2"}, f"the annotation {K}target"),
    ],
)
def test_who_says_so(predictor: dict[str, Any], annotations: dict[str, str], by: str) -> None:
    assert scaled(predictor, annotations).by == by


def test_a_stopped_service_keeps_its_policy() -> None:
    assert scaled({"maxReplicas": 3}, {f"{S}stop": "true"}).policy.max_replicas == 3


def test_a_service_that_only_asks_others_is_looked_at_as_often_as_they_are() -> None:
    target = {"metric": {"serverAddress": "http://p", "query": "up"}, "target": {"value": 5}}
    metrics = [{"type": "External", "external": target}]
    assert scaled({"maxReplicas": 3, "autoScaling": {"metrics": metrics}}).policy.interval == 30
    assert scaled({"maxReplicas": 3, "scaleTarget": 3, "autoScaling": {"metrics": metrics}}).policy.interval == 1
