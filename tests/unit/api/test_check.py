from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import check, meta, validate

Make = Callable[..., Any]
STANDARD = {"annotations": {"serving.kserve.io/deploymentMode": "Standard"}}


def typed(raw: dict[str, Any]) -> meta.Object:
    found, wrong = validate.typed(raw)
    assert found is not None, wrong
    return found


def fields(raw: dict[str, Any]) -> list[str]:
    return [problem.field for problem in check.check(typed(raw))]


def test_a_good_service_breaks_no_rule(raw_service: Make) -> None:
    assert fields(raw_service()) == []


@pytest.mark.parametrize(
    ("predictor", "where"),
    [
        ({}, "spec.predictor"),
        ({"sklearn": {}, "xgboost": {}}, "spec.predictor"),
        ({"sklearn": {}, "containers": [{"name": "kserve-container"}]}, "spec.predictor"),
        ({"sklearn": {"name": "a"}}, "spec.predictor.sklearn.name"),
        ({"model": {"storageUri": "/m"}}, "spec.predictor.model.modelFormat"),
        ({"model": {"modelFormat": {"name": " "}}}, "spec.predictor.model.modelFormat.name"),
        ({"sklearn": {"protocolVersion": "v3"}}, "spec.predictor.sklearn.protocolVersion"),
        ({"sklearn": {"storageUri": ""}}, "spec.predictor.sklearn.storageUri"),
        ({"sklearn": {"storageUri": "/m"}, "storageUris": [{"uri": "/n"}]}, "spec.predictor.sklearn.storageUri"),
        ({"sklearn": {"confidential": {"enabled": True}}}, "spec.predictor.sklearn.confidential"),
        (
            {"sklearn": {"storageUri": "/m", "confidential": {"enabled": True, "resourceId": "x"}}},
            "spec.predictor.sklearn.confidential.resourceId",
        ),
        (
            {
                "sklearn": {},
                "containers": [{"name": "transformer-container", "env": [{"name": "STORAGE_URI", "value": "/m"}]}],
            },
            "spec.predictor.containers[0].env",
        ),
    ],
)
def test_predictors(predictor: dict[str, Any], where: str, raw_predictor: Make) -> None:
    assert fields(raw_predictor(predictor)) == [where]


@pytest.mark.parametrize(
    "predictor",
    [
        {"sklearn": {}, "containers": [{"name": "transformer-container"}]},
        {"containers": [{"name": "mine"}]},
        {"sklearn": {"confidential": {"enabled": False}}},
    ],
)
def test_predictors_as_kserve_allows_them(predictor: dict[str, Any], raw_predictor: Make) -> None:
    assert fields(raw_predictor(predictor)) == []


@pytest.mark.parametrize(
    ("annotations", "where"),
    [
        ({"serving.kserve.io/deploymentMode": "standard"}, 'metadata.annotations["serving.kserve.io/deploymentMode"]'),
        ({"serving.kserve.io/autoscalerClass": "kpa"}, 'metadata.annotations["serving.kserve.io/autoscalerClass"]'),
        ({"serving.kserve.io/stop": "yes"}, 'metadata.annotations["serving.kserve.io/stop"]'),
        ({"mlship.dev/accelerate": "yes"}, 'metadata.annotations["mlship.dev/accelerate"]'),
    ],
)
def test_annotations(annotations: dict[str, str], where: str, raw_service: Make) -> None:
    assert fields(raw_service(metadata={"annotations": annotations})) == [where]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"transformer": {}}, "spec.transformer.containers"),
        ({"transformer": {"containers": [{"name": "A"}]}}, "spec.transformer.containers[0].name"),
        ({"explainer": {}}, "spec.explainer.containers"),
        ({"explainer": {"art": {}, "containers": [{"name": "a"}]}}, "spec.explainer"),
        ({"explainer": {"art": {"storageUri": " "}}}, "spec.explainer.art.storageUri"),
        ({"transformer": {"containers": [{"name": "a"}], "timeout": 0}}, "spec.transformer.timeout"),
    ],
)
def test_other_components(more: dict[str, Any], where: str, raw_predictor: Make) -> None:
    assert fields(raw_predictor({"sklearn": {}}, **more)) == [where]


def multi_node(**model: Any) -> dict[str, Any]:
    body = {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://models/llama", **model}
    return {"model": body, "workerSpec": {"pipelineParallelSize": 2}}


@pytest.mark.parametrize(
    ("predictor", "where"),
    [
        (multi_node(), ""),
        (multi_node(storageUri="hf://a/b"), "spec.predictor.model.storageUri"),
        (multi_node(env=[{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}]), "spec.predictor.model.env[0].name"),
        ({**multi_node(), "workerSpec": {"tensorParallelSize": 0}}, "spec.predictor.workerSpec.tensorParallelSize"),
        (
            {**multi_node(), "workerSpec": {"containers": [{"name": "a"}, {"name": "b"}]}},
            "spec.predictor.workerSpec.containers",
        ),
    ],
)
def test_models_that_span_nodes(predictor: dict[str, Any], where: str, raw_predictor: Make) -> None:
    annotations = {"annotations": {"serving.kserve.io/autoscalerClass": "none"}}
    assert fields(raw_predictor(predictor, metadata=annotations)) == [where] * bool(where)


def test_models_that_span_nodes_are_not_autoscaled(raw_predictor: Make) -> None:
    assert fields(raw_predictor(multi_node())) == ['metadata.annotations["serving.kserve.io/autoscalerClass"]']


def canary(percent: int = 10, **predictor: Any) -> dict[str, Any]:
    return {"trafficPercent": percent, "predictor": {"name": "two", "sklearn": {"storageUri": "/n"}, **predictor}}


@pytest.mark.parametrize(
    ("canaries", "where"),
    [
        ([canary()], []),
        ([canary(60), canary(50, name="three")], ["spec.canary"]),
        ([canary(), canary()], ["spec.canary[1].predictor.name"]),
        ([canary(name="one")], ["spec.canary[0].predictor.name"]),
        ([canary(name=None)], ["spec.canary[0].predictor.name"]),
        ([canary(maxReplicas=3)], ["spec.canary[0].predictor.maxReplicas"]),
        ([canary(minReplicas=3)], ["spec.canary[0].predictor.minReplicas"]),
        ([canary(workerSpec={})], ["spec.canary[0].predictor.workerSpec"]),
        ([canary(sklearn=None)], ["spec.canary[0].predictor"]),
    ],
)
def test_canaries(canaries: list[Any], where: list[str], raw_predictor: Make) -> None:
    stable = {"name": "one", "sklearn": {"storageUri": "/m"}}
    assert fields(raw_predictor(stable, metadata=STANDARD, canary=canaries)) == where


def test_canaries_need_the_standard_mode(raw_predictor: Make) -> None:
    assert fields(raw_predictor({"sklearn": {}}, canary=[canary()])) == ["spec.canary"]


def test_a_foreign_kind_says_so() -> None:
    (found,) = check.foreign({"kind": "Secret"})
    assert "no meaning for the local backend" in found.reason
    assert list(check.foreign({"kind": "InferenceService"})) == []
