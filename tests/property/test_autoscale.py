"""Whatever passes the checks gives a policy: it is made without an error, and keeps to the bounds that were written."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import strategies as st

from mlship.api import autoscaling, load, problems, scaledobject
from mlship.api import service as services
from mlship.plan import autoscale, scaling, schedules

K = autoscaling.KNATIVE
COUNT = st.sampled_from([None, 0, 1, 2, 3, 7, 2**31 - 1])
TARGET = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["Utilization", "Value", "AverageValue"]),
        "value": st.sampled_from(["1", 5, "500m", "1n", "1E30", "3Gi"]),
        "averageValue": st.sampled_from(["1", 5, "500m", "100Mi"]),
        "averageUtilization": st.integers(1, 300),
    },
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "stabilizationWindowSeconds": st.sampled_from([0, 5, 3600]),
        "selectPolicy": st.sampled_from(["Max", "Min", "Disabled"]),
        "tolerance": st.sampled_from(["0", "50m", "0.99"]),
        "policies": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["Pods", "Percent"]),
                    "value": st.sampled_from([1, 100, 2**31 - 1]),
                    "periodSeconds": st.sampled_from([1, 1800]),
                }
            ),
            max_size=2,
        ),
    },
)
BEHAVIOR = st.fixed_dictionaries({}, optional={"scaleUp": RULES, "scaleDown": RULES})
METRIC = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("Resource"),
            "resource": st.fixed_dictionaries({"name": st.sampled_from(["cpu", "memory"]), "target": TARGET}),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["External", "Resource"]),
            "external": st.fixed_dictionaries(
                {"metric": st.sampled_from([{}, {"serverAddress": "http://p", "query": "up"}]), "target": TARGET}
            ),
        }
    ),
    st.just({"type": "PodMetric", "podmetric": {"metric": {}, "target": {}}}),
)
ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        autoscaling.AUTOSCALER: st.sampled_from(autoscaling.AUTOSCALERS),
        f"{K}class": st.sampled_from([autoscaling.HPA_CLASS, autoscaling.KPA_CLASS]),
        f"{K}metric": st.sampled_from(autoscaling.METRICS),
        f"{K}target": st.sampled_from(["0.01", "1", "1e12"]),
        f"{K}target-utilization-percentage": st.sampled_from(["1", "100"]),
        f"{K}min-scale": st.sampled_from(["0", "3"]),
        f"{K}max-scale": st.sampled_from(["0", "5"]),
        f"{K}initial-scale": st.sampled_from(["0", "9"]),
        f"{K}activation-scale": st.sampled_from(["1", "9"]),
        f"{K}window": st.sampled_from(["6s", "1h"]),
        f"{K}panic-window-percentage": st.sampled_from(["1", "100"]),
        f"{K}panic-threshold-percentage": st.sampled_from(["110", "1000"]),
        f"{K}scale-down-delay": st.sampled_from(["0s", "1h"]),
        f"{K}scale-to-zero-pod-retention-period": st.sampled_from(["0s", "1h"]),
        "serving.kserve.io/metrics": st.sampled_from(["cpu", "memory"]),
        "serving.kserve.io/targetUtilizationPercentage": st.sampled_from(["1", "100"]),
        autoscaling.SCALE_LATENCY: st.sampled_from(["1ms", "1h"]),
        autoscaling.SCALE_QUEUE: st.sampled_from(["0.01", "1e9"]),
        autoscaling.HOLD_SECONDS: st.sampled_from(["1", "3600"]),
        autoscaling.HOLD_REQUESTS: st.sampled_from(["1", "1000000"]),
        "serving.kserve.io/stop": st.sampled_from(["true", "false"]),
    },
)
SERVICE = st.fixed_dictionaries(
    {"minReplicas": COUNT, "maxReplicas": COUNT},
    optional={
        "scaleMetric": st.sampled_from(["cpu", "memory", "concurrency", "rps"]),
        "scaleTarget": st.sampled_from([1, 50, 2**31 - 1]),
        "scaleMetricType": st.sampled_from(["Utilization", "Value", "AverageValue"]),
        "containerConcurrency": st.sampled_from([0, 1, 2**40]),
        "timeout": st.sampled_from([1, 10**6]),
        "batcher": st.sampled_from([{}, {"maxBatchSize": 5}]),
        "autoScaling": st.fixed_dictionaries(
            {}, optional={"metrics": st.lists(METRIC, max_size=3), "behavior": BEHAVIOR}
        ),
    },
)
RESOURCES = st.sampled_from([{}, {"limits": {"cpu": "0"}}, {"requests": {"cpu": "1n", "memory": "1"}}])
TRIGGER = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["cpu", "memory"]),
            "metadata": st.fixed_dictionaries({"value": st.sampled_from(["1", "50", "500m", "1Gi"])}),
            "metricType": st.sampled_from(["Utilization", "AverageValue"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("prometheus"),
            "metadata": st.fixed_dictionaries(
                {
                    "serverAddress": st.just("http://p"),
                    "query": st.just("up"),
                    "threshold": st.sampled_from(["1e-9", "5", "1e300"]),
                },
                optional={"activationThreshold": st.sampled_from(["0", "1.5"])},
            ),
        },
        optional={"metricType": st.sampled_from(["Value", "AverageValue"]), "name": st.sampled_from(["a", "b"])},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("cron"),
            "metadata": st.fixed_dictionaries(
                {
                    "timezone": st.sampled_from(["UTC", "Asia/Kolkata"]),
                    "start": st.sampled_from(["0 8 * * *", "*/5 * * * 1-5"]),
                    "end": st.sampled_from(["0 18 * * *", "59 23 31 12 *"]),
                    "desiredReplicas": st.sampled_from(["0", "3"]),
                }
            ),
        }
    ),
    st.just({"type": "external-push", "metadata": {"scalerAddress": "s:1"}}),
    st.just({"type": "kafka", "metadata": {}}),
)
SCALED = st.fixed_dictionaries(
    {"triggers": st.lists(TRIGGER, min_size=1, max_size=3)},
    optional={
        "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT,
        "idleReplicaCount": COUNT,
        "pollingInterval": st.sampled_from([1, 2**31 - 1]),
        "cooldownPeriod": st.sampled_from([0, 2**31 - 1]),
        "fallback": st.fixed_dictionaries(
            {"failureThreshold": st.integers(0, 3), "replicas": st.integers(0, 3)},
            optional={"behavior": st.sampled_from(["static", "currentReplicas", "currentReplicasIfHigher"])},
        ),
        "advanced": st.fixed_dictionaries(
            {"horizontalPodAutoscalerConfig": st.fixed_dictionaries({"behavior": BEHAVIOR})}
        ),
    },
)
PAUSES = st.fixed_dictionaries(
    {},
    optional={
        scaledobject.PAUSED: st.sampled_from(["true", "false"]),
        scaledobject.PAUSED_REPLICAS: st.sampled_from(["0", "5"]),
    },
)


def typed(kind: str, version: str, annotations: dict[str, str], spec: dict[str, Any]) -> Any:
    """The object, or None where it is not valid."""
    metadata = {"name": "iris", "annotations": annotations}
    try:
        return load.parse({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    except problems.InvalidObject:
        return None


def a_service(predictor: dict[str, Any], annotations: dict[str, str], resources: dict[str, Any]) -> Any:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "/m", "resources": resources}
    spec = {"predictor": {**predictor, "model": model}}
    return typed("InferenceService", "serving.kserve.io/v1beta1", annotations, spec)


def holds_together(found: scaling.Scaling) -> None:
    names = [one.name for one in found.policy.metrics]
    assert names == [one.metric for one in found.sources]
    assert len(set(names)) == len(names)
    assert found.patience > 0
    assert found.places > 0
    assert found.by


@hypothesis.given(predictor=SERVICE, annotations=ANNOTATIONS, resources=RESOURCES)
@hypothesis.settings(deadline=None, max_examples=300)
def test_services(predictor: dict[str, Any], annotations: dict[str, str], resources: dict[str, Any]) -> None:
    service = a_service(predictor, annotations, resources)
    hypothesis.assume(service is not None)
    found = autoscale.scaling_of(service, services.effective(service), None)
    holds_together(found)
    if predictor["minReplicas"] is not None:
        assert found.policy.min_replicas == predictor["minReplicas"]
    if predictor["maxReplicas"] and found.paused is None:
        assert found.policy.max_replicas == predictor["maxReplicas"]


@hypothesis.given(spec=SCALED, pauses=PAUSES, predictor=SERVICE)
@hypothesis.settings(deadline=None, max_examples=300)
def test_scaled_objects(spec: dict[str, Any], pauses: dict[str, str], predictor: dict[str, Any]) -> None:
    service = a_service(predictor, {}, {})
    target = {"scaleTargetRef": {"name": "iris", "kind": "InferenceService"}}
    scaled = typed("ScaledObject", "keda.sh/v1alpha1", pauses, {**target, **spec})
    hypothesis.assume(service is not None and scaled is not None)
    found = autoscale.scaling_of(service, services.effective(service), scaled)
    holds_together(found)
    policy = found.policy
    assert policy.min_replicas == (spec.get("minReplicaCount") or 0)
    assert policy.max_replicas == (100 if spec.get("maxReplicaCount") is None else spec["maxReplicaCount"])
    assert policy.idle_replicas == spec.get("idleReplicaCount")
    for cron in found.crons:
        assert schedules.at(cron, 1_800_000_000.0).changes_at is not None
