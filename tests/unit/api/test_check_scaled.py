from __future__ import annotations

from typing import Any

import pytest

from mlship.api import check, load, problems, scaledobject

PROMETHEUS = {"serverAddress": "http://p:9090", "query": "up", "threshold": "5"}
OFFICE = {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"}


def scaled(*triggers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    found = triggers or ({"type": "prometheus", "metadata": PROMETHEUS},)
    body = {"scaleTargetRef": {"name": "iris", "kind": "InferenceService"}, "triggers": list(found), **spec}
    metadata = {"name": "scaler", **({"annotations": annotations} if annotations else {})}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": body}


def trigger(kind: str, told: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"type": kind, "metadata": told, **more}


def wrong(raw: dict[str, Any]) -> list[str]:
    try:
        load.parse(raw)
    except problems.InvalidObject as error:
        return [problem.field.removeprefix("spec.") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "raw",
    [
        scaled(),
        scaled(minReplicaCount=2, maxReplicaCount=2, idleReplicaCount=0, pollingInterval=1, cooldownPeriod=0),
        scaled(trigger("cpu", {"value": "50"}, metricType="Utilization")),
        scaled(trigger("cpu", {"value": "500m"}, metricType="AverageValue")),
        scaled(trigger("memory", {"value": "50", "type": "Utilization"})),
        scaled(trigger("cron", OFFICE), trigger("prometheus", {**PROMETHEUS, "ignoreNullValues": "false"})),
        scaled(trigger("external", {"scalerAddress": "scaler.ns:9090", "anything": "goes"})),
        scaled(trigger("external-push", {"scalerAddress": "127.0.0.1:9090"}, metricType="Value")),
        scaled(trigger("kafka", {"not": "ours"})),
        scaled(annotations={scaledobject.PAUSED_REPLICAS: "0", scaledobject.PAUSED: "true"}),
        scaled(fallback={"failureThreshold": 3, "replicas": 2}),
        scaled(fallback={"failureThreshold": 0, "replicas": 2}),
    ],
)
def test_valid(raw: dict[str, Any]) -> None:
    assert wrong(raw) == []


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (scaled(minReplicaCount=3, maxReplicaCount=2), "minReplicaCount"),
        (scaled(minReplicaCount=101), "minReplicaCount"),
        (scaled(minReplicaCount=2, idleReplicaCount=2), "idleReplicaCount"),
        (scaled(idleReplicaCount=0), "idleReplicaCount"),
        (scaled(pollingInterval=0), "pollingInterval"),
        (scaled(maxReplicaCount=0), "maxReplicaCount"),
        (scaled(cooldownPeriod=-1), "cooldownPeriod"),
        (scaled(minReplicas=1), "minReplicas"),
        (scaled(scaleTargetRef={"kind": "InferenceService"}), "scaleTargetRef.name"),
        (scaled(triggers=[]), "triggers"),
        (scaled(fallback={"failureThreshold": -1, "replicas": 2}), "fallback.failureThreshold"),
        (scaled(fallback={"replicas": 2}), "fallback.failureThreshold"),
        (
            scaled(advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"selectPolicy": "x"}}}}),
            "advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.selectPolicy",
        ),
        (scaled(*(trigger("cron", OFFICE, name="a") for _ in range(2))), "triggers[1].name"),
        (scaled(trigger("prometheus", {**PROMETHEUS, "query": ""})), "triggers[0].metadata.query"),
        (scaled(trigger("prometheus", {**PROMETHEUS, "treshold": "5"})), "triggers[0].metadata.treshold"),
        (scaled(trigger("prometheus", {**PROMETHEUS, "threshold": "0"})), "triggers[0].metadata.threshold"),
        (scaled(trigger("prometheus", {**PROMETHEUS, "threshold": "inf"})), "triggers[0].metadata.threshold"),
        (
            scaled(trigger("prometheus", {**PROMETHEUS, "activationThreshold": "-1"})),
            "triggers[0].metadata.activationThreshold",
        ),
        (
            scaled(trigger("prometheus", {**PROMETHEUS, "serverAddress": "p:9090"})),
            "triggers[0].metadata.serverAddress",
        ),
        (
            scaled(trigger("prometheus", {**PROMETHEUS, "ignoreNullValues": "1"})),
            "triggers[0].metadata.ignoreNullValues",
        ),
        (scaled(trigger("prometheus", {**PROMETHEUS, "customHeaders": "a"})), "triggers[0].metadata.customHeaders"),
        (scaled(trigger("prometheus", PROMETHEUS, metricType="Utilization")), "triggers[0].metricType"),
        (scaled(trigger("cpu", {"value": "50"})), "triggers[0].metricType"),
        (scaled(trigger("cpu", {"value": "50"}, metricType="Value")), "triggers[0].metricType"),
        (scaled(trigger("cpu", {"value": "50%"}, metricType="Utilization")), "triggers[0].metadata.value"),
        (scaled(trigger("cpu", {"value": "0"}, metricType="Utilization")), "triggers[0].metadata.value"),
        (scaled(trigger("memory", {"value": "0Gi"}, metricType="AverageValue")), "triggers[0].metadata.value"),
        (scaled(trigger("cpu", {}, metricType="Utilization")), "triggers[0].metadata.value"),
        (scaled(trigger("cron", {**OFFICE, "timezone": "Europe/Berln"})), "triggers[0].metadata.timezone"),
        (scaled(trigger("cron", {**OFFICE, "start": "0 25 * * *"})), "triggers[0].metadata.start"),
        (scaled(trigger("cron", {**OFFICE, "end": OFFICE["start"]})), "triggers[0].metadata.end"),
        (scaled(trigger("cron", {**OFFICE, "desiredReplicas": "many"})), "triggers[0].metadata.desiredReplicas"),
        (scaled(trigger("external", {"scalerAddress": "scaler"})), "triggers[0].metadata.scalerAddress"),
        (
            scaled(trigger("external-push", {"scalerAddress": "s:1", "enableTLS": "yes"})),
            "triggers[0].metadata.enableTLS",
        ),
    ],
)
def test_wrong(raw: dict[str, Any], where: str) -> None:
    assert wrong(raw) == [where]


@pytest.mark.parametrize(("key", "value"), [(scaledobject.PAUSED, "yes"), (scaledobject.PAUSED_REPLICAS, "-1")])
def test_pauses(key: str, value: str) -> None:
    (found,) = check.check(scaledobject.ScaledObject.model_validate(scaled(annotations={key: value})))
    assert found.path == ("metadata", "annotations", key)


def test_a_misspelt_setting_gets_the_nearest() -> None:
    with pytest.raises(problems.InvalidObject) as caught:
        load.parse(scaled(trigger("cron", {**{k: v for k, v in OFFICE.items() if k != "timezone"}, "timeZone": "UTC"})))
    hints = [problem.hint for problem in caught.value.problems]
    assert hints[0] == "timeZone is written timezone"
