"""What may be said in a pool, and of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import honour, load, pooled, problems, runtime

Make = Callable[..., Any]
OWN = runtime.builtin()
MESH = {"annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}}


def judged(raw: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    return [(one.field, one.severity.value) for one in honour.judge(load.parse(raw), cluster=OWN, **more)]


def with_annotations(**said: str) -> dict[str, Any]:
    return {"annotations": {**MESH["annotations"], **{f"mlship.dev/{name}": value for name, value in said.items()}}}


def test_a_member_is_taken_without_a_word(raw_service: Make) -> None:
    said = with_annotations(**{"pool-processes": "4", "pool-memory": "2Gi", "accelerate": "exact"})
    raw = raw_service(metadata=said, predictor={"timeout": 5})
    assert judged(raw) == []
    found = load.parse(raw)
    assert pooled.is_member(found)
    assert (pooled.processes(found.annotations), pooled.memory(found.annotations)) == (4, 2 * 2**30)


@pytest.mark.parametrize(
    ("model", "predictor", "fields"),
    [
        ({"args": ["--x"]}, {}, ["model.args"]),
        ({"env": [{"name": "A", "value": "b"}]}, {}, ["model.env"]),
        ({"command": ["serve"]}, {}, ["model.command"]),
        ({"workingDir": "/"}, {}, ["model.workingDir"]),
        ({}, {"batcher": {"maxBatchSize": 4}}, ["batcher"]),
        ({"modelFormat": {"name": "python"}}, {}, ["model.modelFormat.name"]),
        ({"storageUri": None}, {}, ["model.storageUri"]),
    ],
)
def test_what_belongs_to_all_models_of_a_process_cannot_be_one_models(
    model: dict[str, Any], predictor: dict[str, Any], fields: list[str], raw_service: Make
) -> None:
    found = judged(raw_service(metadata=MESH, predictor=predictor, **model))
    assert [field for field, severity in found if severity == "refuse"] == [f"spec.predictor.{one}" for one in fields]


def test_a_program_of_ones_own_is_in_no_pool(raw_predictor: Make, raw_service: Make, a_runtime: Make) -> None:
    alone = raw_predictor({"containers": [{"name": "a", "command": ["serve"]}]}, metadata=MESH)
    assert ("spec.predictor.containers", "refuse") in judged(alone)
    mine = a_runtime("mine", supportedModelFormats=[{"name": "sklearn", "autoSelect": True}])
    found = honour.refusals(load.parse(raw_service(metadata=MESH)), namespaced=[mine], cluster=OWN)
    assert [one.field for one in found] == ["spec.predictor.model.runtime"]
    assert found[0].hint == "write runtime: mlship-sklearn"
    legacy = raw_predictor({"sklearn": {"storageUri": "/m"}}, metadata=MESH)
    assert honour.refusals(load.parse(legacy), namespaced=[mine], cluster=OWN)


@pytest.mark.parametrize("field", ["minReplicas", "scaleTarget"])
def test_how_many_replicas_a_member_shall_have_is_taken_and_has_no_effect(field: str, raw_service: Make) -> None:
    wanted = {"minReplicas": 0} if field == "minReplicas" else {"scaleTarget": 5}
    assert judged(raw_service(metadata=MESH, predictor=wanted)) == [(f"spec.predictor.{field}", "notice")]


def test_annotations_about_scaling_and_warm_up_have_no_effect_in_a_pool(raw_service: Make) -> None:
    said = {**MESH["annotations"], "autoscaling.knative.dev/min-scale": "0", "mlship.dev/warmup": "warmup.json"}
    found = judged(raw_service(metadata={"annotations": said}))
    assert {field for field, _ in found} == {
        'metadata.annotations["autoscaling.knative.dev/min-scale"]',
        'metadata.annotations["mlship.dev/warmup"]',
    }
    assert {severity for _, severity in found} == {"notice"}


def test_a_limit_of_requests_is_no_models_of_a_pool(raw_service: Make) -> None:
    limit = {"containerConcurrency": 2}
    refused = [("spec.predictor.containerConcurrency", "refuse")]
    assert judged(raw_service(metadata=MESH, predictor=limit)) == refused
    assert refused[0] in judged(raw_service(storageUri=None, predictor=limit))


def test_a_server_of_trained_models_takes_a_number_of_processes_and_is_not_scaled(raw_service: Make) -> None:
    found = judged(raw_service(storageUri=None, predictor={"minReplicas": 2, "maxReplicas": 5}))
    assert found == [("spec.predictor.maxReplicas", "notice"), ("spec.predictor.model.storageUri", "notice")]


def test_what_has_no_effect_in_a_pool_is_said(raw_service: Make) -> None:
    raw = raw_service(
        metadata=MESH,
        predictor={"minReplicas": 2, "terminationGracePeriodSeconds": 3},
        resources={"limits": {"cpu": 1}},
    )
    found = judged(raw)
    assert all(severity == "notice" for _, severity in found)
    assert {
        "spec.predictor.minReplicas",
        "spec.predictor.terminationGracePeriodSeconds",
        "spec.predictor.model.resources",
    } <= {field for field, _ in found}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool-processes", "0"),
        ("pool-processes", "257"),
        ("pool-processes", "two"),
        ("pool-memory", "much"),
        ("pool-memory", "0"),
    ],
)
def test_annotations_that_say_nothing_sensible_are_refused(name: str, value: str, raw_service: Make) -> None:
    with pytest.raises(problems.InvalidObject, match=name):
        load.parse(raw_service(metadata=with_annotations(**{name: value})))


def test_outside_of_pools_their_annotations_are_noticed(raw_service: Make) -> None:
    raw = raw_service(metadata={"annotations": {"mlship.dev/pool-processes": "3"}})
    assert judged(raw) == [('metadata.annotations["mlship.dev/pool-processes"]', "notice")]


def test_a_service_without_a_model_serves_trained_models_and_is_told_so(raw_service: Make, raw_predictor: Make) -> None:
    raw = raw_service(storageUri=None)
    assert judged(raw) == [("spec.predictor.model.storageUri", "notice")]
    assert pooled.is_parent(load.parse(raw))
    assert judged(raw_predictor({"sklearn": {}})) == [("spec.predictor.sklearn.storageUri", "notice")]
    assert ("spec.predictor.model.env", "refuse") in judged(
        raw_service(storageUri=None, env=[{"name": "A", "value": "b"}])
    )
    python = raw_service(storageUri=None, modelFormat={"name": "python"})
    assert judged(python) == [("spec.predictor.model.storageUri", "refuse")]


def trained(**model: str) -> dict[str, Any]:
    body = {"framework": "sklearn", "storageUri": "/m/iris.pkl", "memory": "64Mi", **model}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": "iris"},
        "spec": {"inferenceService": "many", "model": body},
    }


def test_trained_models() -> None:
    assert judged(trained()) == []
    assert judged(trained(framework="sklear")) == [("spec.model.framework", "refuse")]
    assert judged(trained(storageUri="s3://a/b")) == [("spec.model.storageUri", "refuse")]
