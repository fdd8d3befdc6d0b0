from __future__ import annotations

import pytest

from mlship.api import scaledobject


def made(**ref: str) -> scaledobject.ScaledObject:
    return scaledobject.ScaledObject.model_validate(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "a", "annotations": {scaledobject.PAUSED_REPLICAS: "2"}},
            "spec": {"scaleTargetRef": ref, "triggers": [{"type": "cpu", "metadata": {"type": "Utilization"}}]},
        }
    )


@pytest.mark.parametrize(
    ("ref", "target"),
    [
        ({"name": "iris", "kind": "InferenceService"}, "iris"),
        ({"name": "iris", "kind": "InferenceService", "apiVersion": "serving.kserve.io/v1beta1"}, "iris"),
        ({"name": "iris-predictor"}, "iris"),
        ({"name": "iris-predictor", "kind": "Deployment", "apiVersion": "apps/v1"}, "iris"),
        ({"name": "iris"}, ""),
        ({"name": "iris", "kind": "StatefulSet"}, ""),
        ({"name": "iris", "kind": "InferenceService", "apiVersion": "example.com/v1"}, ""),
    ],
)
def test_what_it_targets(ref: dict[str, str], target: str) -> None:
    assert made(**ref).target == target


def test_what_its_annotation_and_triggers_say() -> None:
    found = made(name="iris-predictor")
    assert scaledobject.paused_replicas(found) == 2
    assert scaledobject.metric_type(found.spec.triggers[0]) == "Utilization"
