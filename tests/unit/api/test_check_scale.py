from __future__ import annotations

from typing import Any

import pytest

from mlship.api import check_scale, component

HPA = {check_scale.MODE: "Standard", check_scale.AUTOSCALER: "hpa"}
KEDA = {check_scale.MODE: "RawDeployment", check_scale.AUTOSCALER: "keda"}
KNATIVE = {check_scale.MODE: "Serverless"}
KNATIVE_HPA = {check_scale.KNATIVE_CLASS: "hpa.autoscaling.knative.dev"}


def fields(part: dict[str, Any], annotations: dict[str, str] | None = None) -> list[str]:
    made = component.Component.model_validate(part)
    return [problem.field for problem in check_scale.check_component(made, ("p",), annotations or {})]


def metric(kind: str, **inside: Any) -> dict[str, Any]:
    return {"autoScaling": {"metrics": [{"type": kind, **inside}]}}


def resource(name: str, **target: Any) -> dict[str, Any]:
    return metric("Resource", resource={"name": name, "target": target})


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({}, []),
        ({"minReplicas": 0, "maxReplicas": 0}, []),
        ({"minReplicas": -1}, ["p.minReplicas"]),
        ({"maxReplicas": -1}, ["p.maxReplicas"]),
        ({"minReplicas": 3, "maxReplicas": 2}, ["p.minReplicas"]),
        ({"maxReplicas": 2, "annotations": {"autoscaling.knative.dev/min-scale": "3"}}, ["p.minReplicas"]),
        (
            {"annotations": {"autoscaling.knative.dev/window": "1s"}},
            ['p.annotations["autoscaling.knative.dev/window"]'],
        ),
        ({"scaleTarget": 0}, ["p.scaleTarget"]),
        (
            {"autoScaling": {"behavior": {"scaleUp": {"selectPolicy": "Most"}}}},
            ["p.autoScaling.behavior.scaleUp.selectPolicy"],
        ),
        ({"timeout": 0}, ["p.timeout"]),
        ({"containerConcurrency": -1}, ["p.containerConcurrency"]),
        ({"canaryTrafficPercent": 101}, ["p.canaryTrafficPercent"]),
        ({"batcher": {"maxBatchSize": 0}}, ["p.batcher.maxBatchSize"]),
        ({"logger": {"mode": "all"}}, []),
        ({"logger": {"storage": {"path": "/a"}}}, ["p.logger.storage"]),
        ({"logger": {"storage": {"path": "/a", "key": "k", "parameters": {}}}}, []),
        ({"deploymentStrategy": {"type": "Recreate"}, "scaleMetric": "cpu"}, []),
    ],
)
def test_whatever_the_mode(part: dict[str, Any], where: list[str]) -> None:
    assert fields(part) == where


@pytest.mark.parametrize(
    ("part", "annotations", "where"),
    [
        ({"scaleMetric": "rps"}, HPA, ["p.scaleMetric"]),
        ({"scaleMetric": "cpu", "scaleTarget": 101}, HPA, ["p.scaleTarget"]),
        ({"scaleMetric": "memory", "scaleTarget": 400}, HPA, []),
        ({"scaleTarget": 0}, KNATIVE_HPA, ["p.scaleTarget"]),
        (metric("External"), HPA, ["p.autoScaling.metrics[0].type"]),
        (metric("Resource"), HPA, ["p.autoScaling.metrics[0].resource"]),
        ({"deploymentStrategy": {}}, KNATIVE, ["p.deploymentStrategy"]),
        ({"scaleMetric": "memory"}, KNATIVE, ["p.scaleMetric"]),
        ({"scaleMetric": "rps", "scaleTarget": 0}, KNATIVE, ["p.scaleTarget"]),
        ({"scaleMetric": "concurrency"}, KNATIVE, []),
        ({"scaleMetric": "cpu"}, KEDA, ["p.scaleMetric"]),
        (metric("PodMetric"), KEDA, ["p.autoScaling.metrics[0].podmetric"]),
        (resource("cpu", type="Utilization", averageUtilization=50), KEDA, []),
        (resource("cpu", type="Value", value=1), KEDA, ["p.autoScaling.metrics[0].resource.target.type"]),
        (
            resource("cpu", type="Utilization"),
            KEDA,
            ["p.autoScaling.metrics[0].resource.target.averageUtilization"],
        ),
        (
            resource("cpu", type="Utilization", averageUtilization=0),
            KEDA,
            ["p.autoScaling.metrics[0].resource.target.averageUtilization"],
        ),
        (
            resource("memory", type="AverageValue", averageValue="1k"),
            KEDA,
            ["p.autoScaling.metrics[0].resource.target.averageValue"],
        ),
        (
            metric("External", external={"metric": {}, "target": {}}),
            KEDA,
            ["p.autoScaling.metrics[0].external.metric.query", "p.autoScaling.metrics[0].external.target.value"],
        ),
        (
            metric("External", external={"metric": {"query": "up"}, "target": {"type": "Value", "value": "1"}}),
            KEDA,
            [],
        ),
    ],
)
def test_by_autoscaler(part: dict[str, Any], annotations: dict[str, str], where: list[str]) -> None:
    assert fields(part, annotations) == where


def test_old_names_of_modes() -> None:
    assert [check_scale.mode({check_scale.MODE: one}) for one in ("RawDeployment", "Serverless", "Standard")] == [
        "Standard",
        "Knative",
        "Standard",
    ]
    assert check_scale.mode({}) == ""


def test_a_misspelt_mode_gets_the_nearest() -> None:
    (found,) = check_scale.check_annotations({check_scale.MODE: "rawdeployment"})
    assert found.hint == "did you mean RawDeployment?"
