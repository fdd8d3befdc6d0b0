"""From what users write to a policy."""

from __future__ import annotations

from typing import Any

import pytest

from mlship.api import load
from mlship.api import service as services
from mlship.plan import autoscale, scaling


def scaled(predictor: dict[str, Any] | None = None) -> scaling.Scaling:
    body = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "/m"}, **(predictor or {})}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"predictor": body},
    }
    service = load.parse(document)
    assert isinstance(service, services.InferenceService)
    return autoscale.scaling_of(service, services.effective(service), None)


@pytest.mark.parametrize(
    ("predictor", "bounds"),
    [
        ({}, (1, 1)),
        ({"minReplicas": 3}, (3, 3)),
        ({"minReplicas": 0}, (0, 1)),
        ({"minReplicas": 2, "maxReplicas": 5}, (2, 5)),
        ({"minReplicas": 2, "scaleMetric": "rps"}, (2, 10)),
        ({"minReplicas": 20, "scaleMetric": "rps"}, (20, 20)),
    ],
)
def test_bounds(predictor: dict[str, Any], bounds: tuple[int, int]) -> None:
    policy = scaled(predictor).policy
    assert (policy.min_replicas, policy.max_replicas) == bounds
