"""What is refused and what is told of scaling; everything else is honoured without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import honour, load, problems, runtime

Make = Callable[..., Any]
OWN = runtime.builtin()
K = "autoscaling.knative.dev/"
ASK = {"serverAddress": "http://p:9090", "query": "up"}


def judged(raw: dict[str, Any], severity: problems.Severity) -> list[str]:
    found = honour.judge(load.parse(raw), cluster=OWN)
    assert all(one.hint for one in found if one.severity is problems.Severity.REFUSE)
    return [one.field.removeprefix("spec.") for one in found if one.severity is severity]


def refused(raw: dict[str, Any]) -> list[str]:
    return judged(raw, problems.Severity.REFUSE)


def noticed(raw: dict[str, Any]) -> list[str]:
    return judged(raw, problems.Severity.NOTICE)


def metric(kind: str, **inside: Any) -> dict[str, Any]:
    return {"maxReplicas": 3, "autoScaling": {"metrics": [{"type": kind, **inside}]}}


def external(target: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    asked = {"metric": {"backend": "prometheus", **ASK, **more.pop("metric", {})}, **more}
    return metric("External", external={**asked, "target": target or {"type": "AverageValue", "value": "5"}})


def tolerances(up: str, down: str) -> dict[str, Any]:
    both = {"scaleUp": {"tolerance": up}, "scaleDown": {"tolerance": down}}
    return {"maxReplicas": 3, "autoScaling": {"behavior": both}}


@pytest.mark.parametrize(
    "predictor",
    [
        {"minReplicas": 0},
        {"minReplicas": 0, "maxReplicas": 3},
        {"maxReplicas": 3, "scaleMetric": "rps", "scaleTarget": 5},
        {"maxReplicas": 3, "scaleMetric": "memory", "scaleMetricType": "AverageValue", "scaleTarget": 2**30},
        metric("Resource", resource={"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}),
        external(),
        external({"type": "Value", "value": 5}),
        {"maxReplicas": 3, "autoScaling": {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}},
        tolerances("100m", "0.1"),
        {"maxReplicas": 3, "annotations": {f"{K}window": "30s"}},
    ],
)
def test_honoured_without_a_word(predictor: dict[str, Any], raw_service: Make) -> None:
    raw = raw_service(predictor=predictor)
    assert (refused(raw), noticed(raw)) == ([], [])


@pytest.mark.parametrize(
    ("predictor", "field"),
    [
        ({"scaleMetric": "rps", "scaleMetricType": "Utilization", "maxReplicas": 2}, "scaleMetricType"),
        ({"scaleMetric": "cpu", "scaleMetricType": "Value", "maxReplicas": 2}, "scaleMetricType"),
        (
            metric("PodMetric", podmetric={"metric": {}, "target": {}}),
            "autoScaling.metrics[0].type",
        ),
        (
            metric("Resource", resource={"name": "cpu", "target": {"type": "Value", "value": 1}}),
            "autoScaling.metrics[0].resource.target.type",
        ),
        (external(metric={"backend": "graphite"}), "autoScaling.metrics[0].external.metric.backend"),
        (external(metric={"serverAddress": None}), "autoScaling.metrics[0].external.metric.serverAddress"),
        (external(metric={"serverAddress": "p:9090"}), "autoScaling.metrics[0].external.metric.serverAddress"),
        (external(metric={"query": ""}), "autoScaling.metrics[0].external.metric.query"),
        (external({"averageUtilization": 5}), "autoScaling.metrics[0].external.target.value"),
        (external({"type": "Utilization", "value": 5}), "autoScaling.metrics[0].external.target.type"),
        (
            external(authenticationRef={"authenticationRef": {"name": "a"}}),
            "autoScaling.metrics[0].external.authenticationRef",
        ),
        (tolerances("0.1", "0.2"), "autoScaling.behavior"),
        (
            {"maxReplicas": 2, "autoScaling": {"behavior": {"scaleUp": {"tolerance": "0.2"}}}},
            "autoScaling.behavior",
        ),
    ],
)
def test_refused(predictor: dict[str, Any], field: str, raw_service: Make) -> None:
    assert refused(raw_service(predictor=predictor)) == [f"predictor.{field}"]


@pytest.mark.parametrize(
    ("predictor", "annotations", "fields"),
    [
        ({"scaleMetric": "rps"}, {}, ["predictor.maxReplicas"]),
        ({"scaleMetric": "cpu"}, {}, ["predictor.maxReplicas"]),
        ({"minReplicas": 1}, {f"{K}min-scale": "2"}, [f'metadata.annotations["{K}min-scale"]']),
        (
            {"maxReplicas": 3, "scaleMetric": "cpu"},
            {f"{K}target-utilization-percentage": "50"},
            [f'metadata.annotations["{K}target-utilization-percentage"]'],
        ),
        (
            {"maxReplicas": 3, "scaleMetric": "rps"},
            {"serving.kserve.io/targetUtilizationPercentage": "50"},
            ['metadata.annotations["serving.kserve.io/targetUtilizationPercentage"]'],
        ),
        (
            {"maxReplicas": 3, "scaleMetric": "cpu"},
            {"serving.kserve.io/autoscalerClass": "none"},
            ["predictor.maxReplicas", "predictor.scaleMetric"],
        ),
        (
            {"annotations": {f"{K}min-scale": "2", "mlship.dev/hold-seconds": "5"}},
            {"serving.kserve.io/autoscalerClass": "external", f"{K}window": "60s"},
            [f'metadata.annotations["{K}window"]'],
        ),
    ],
)
def test_noticed(predictor: dict[str, Any], annotations: dict[str, str], fields: list[str], raw_service: Make) -> None:
    raw = raw_service(predictor=predictor, metadata={"annotations": annotations})
    assert (refused(raw), noticed(raw)) == ([], fields)


def test_the_queue_of_a_program_of_ones_own_is_not_known(raw_predictor: Make, raw_service: Make) -> None:
    queue = {"annotations": {"mlship.dev/scale-queue-depth": "10"}}
    alone = {"containers": [{"name": "c", "command": ["serve"]}], "maxReplicas": 3}
    assert refused(raw_predictor(alone, metadata=queue)) == ['metadata.annotations["mlship.dev/scale-queue-depth"]']
    assert refused(raw_predictor({**alone, **queue})) == ['predictor.annotations["mlship.dev/scale-queue-depth"]']
    assert refused(raw_service(predictor={"maxReplicas": 3}, metadata=queue)) == []


def scaled(*triggers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    found = triggers or (trigger("cpu", {"value": "50"}, metricType="Utilization"),)
    body = {"scaleTargetRef": {"name": "iris-predictor"}, "maxReplicaCount": 3, "triggers": list(found), **spec}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "s"}, "spec": body}


def trigger(kind: str, told: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"type": kind, "metadata": told, **more}


def prometheus(**more: str) -> dict[str, Any]:
    return trigger("prometheus", {**ASK, "threshold": "5", **more})


def test_a_scaled_object_is_honoured_without_a_word() -> None:
    asked = [trigger(kind, {"scalerAddress": "a:1", "enableTLS": "true"}) for kind in ("external", "external-push")]
    raw = scaled(prometheus(), *asked, fallback={"failureThreshold": 3, "replicas": 2, "behavior": "static"})
    assert (refused(raw), noticed(raw)) == ([], [])


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (scaled(scaleTargetRef={"name": "iris"}), "scaleTargetRef"),
        (scaled(scaleTargetRef={"name": "iris", "kind": "StatefulSet"}), "scaleTargetRef"),
        (scaled(advanced={"scalingModifiers": {"formula": "a"}}), "advanced.scalingModifiers"),
        (
            scaled(fallback={"failureThreshold": 1, "replicas": 1, "behavior": "currentReplicasIfLower"}),
            "fallback.behavior",
        ),
        (scaled(trigger("kafka", {})), "triggers[0].type"),
        (scaled({**prometheus(), "authenticationRef": {"name": "a"}}), "triggers[0].authenticationRef"),
        (scaled(prometheus(unsafeSsl="true")), "triggers[0].metadata.unsafeSsl"),
        (scaled(prometheus(authModes="basic")), "triggers[0].metadata.authModes"),
        (scaled(prometheus(cortexOrgID="a")), "triggers[0].metadata.cortexOrgID"),
        (
            scaled(trigger("external", {"scalerAddress": "a:1", "unsafeSsl": "true"})),
            "triggers[0].metadata.unsafeSsl",
        ),
        (
            scaled(trigger("external-push", {"scalerAddress": "a:1", "keyFromEnv": "KEY"})),
            "triggers[0].metadata.keyFromEnv",
        ),
    ],
)
def test_refused_of_a_scaled_object(raw: dict[str, Any], field: str) -> None:
    assert refused(raw) == [field]


def test_a_trigger_that_is_not_done_is_told_what_works() -> None:
    (found,) = honour.refusals(load.parse(scaled(trigger("promtheus", {}))))
    assert found.hint.startswith("did you mean prometheus? prometheus, cpu")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (scaled(maxReplicaCount=None), "maxReplicaCount"),
        (scaled(initialCooldownPeriod=5), "initialCooldownPeriod"),
        (scaled(advanced={"restoreToOriginalReplicaCount": True}), "advanced.restoreToOriginalReplicaCount"),
        (
            scaled(advanced={"horizontalPodAutoscalerConfig": {"name": "a"}}),
            "advanced.horizontalPodAutoscalerConfig.name",
        ),
        (
            scaled(scaleTargetRef={"name": "a-predictor", "envSourceContainerName": "c"}),
            "scaleTargetRef.envSourceContainerName",
        ),
        (scaled(prometheus(metricName="a")), "triggers[0].metadata.metricName"),
        (scaled({**prometheus(), "useCachedMetrics": True}), "triggers[0].useCachedMetrics"),
        (
            scaled(trigger("cpu", {"value": "5", "containerName": "c"}, metricType="Utilization")),
            "triggers[0].metadata.containerName",
        ),
    ],
)
def test_noticed_of_a_scaled_object(raw: dict[str, Any], field: str) -> None:
    assert (refused(raw), noticed(raw)) == ([], [field])
