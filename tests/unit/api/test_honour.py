from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlship.api import honour, load, problems, runtime

Make = Callable[..., Any]
OWN = runtime.builtin()


def judged(raw: dict[str, Any]) -> tuple[problems.Problem, ...]:
    return honour.judge(load.parse(raw), cluster=OWN)


def refused(raw: dict[str, Any]) -> list[str]:
    return [problem.field for problem in honour.refusals(load.parse(raw), cluster=OWN)]


def noticed(raw: dict[str, Any]) -> list[str]:
    return [problem.field for problem in honour.notices(load.parse(raw), cluster=OWN)]


def test_what_this_version_does_is_accepted_without_a_word(raw_service: Make) -> None:
    raw = raw_service(
        args=["--workers=2"],
        env=[{"name": "A", "value": "b"}],
        protocolVersion="v2",
        predictor={"minReplicas": 2, "maxReplicas": 2, "timeout": 5, "terminationGracePeriodSeconds": 3, "labels": {}},
        metadata={"labels": {"a": "b"}, "annotations": {"serving.kserve.io/stop": "false", "x/y": "z"}},
    )
    assert judged(raw) == ()


@pytest.mark.parametrize(
    ("predictor", "field"),
    [
        ({"canaryTrafficPercent": 0}, "canaryTrafficPercent"),
        ({"logger": {}}, "logger"),
        ({"initContainers": []}, "initContainers"),
        ({"volumes": []}, "volumes"),
    ],
)
def test_components(predictor: dict[str, Any], field: str, raw_service: Make) -> None:
    assert refused(raw_service(predictor=predictor)) == [f"spec.predictor.{field}"]


def test_a_batcher_is_honoured_where_mlship_serves(raw_service: Make, raw_predictor: Make) -> None:
    batcher = {"maxBatchSize": 8, "maxLatency": 5, "timeout": 9}
    assert judged(raw_service(predictor={"batcher": batcher})) == ()
    alone = {"name": "c", "command": ["serve"]}
    assert refused(raw_predictor({"batcher": batcher, "containers": [alone]})) == ["spec.predictor.batcher"]


def test_a_limit_of_requests_is_kept_where_mlship_serves(raw_service: Make, raw_predictor: Make) -> None:
    assert judged(raw_service(predictor={"containerConcurrency": 4})) == ()
    for limit, fields in ((4, ["spec.predictor.containerConcurrency"]), (0, [])):
        alone = {"containers": [{"name": "c", "command": ["serve"]}], "containerConcurrency": limit}
        assert refused(raw_predictor(alone)) == fields
    assert refused(raw_service(predictor={"containerConcurrency": 4}, command=["serve"])) == [
        "spec.predictor.containerConcurrency"
    ]


@pytest.mark.parametrize(
    ("predictor", "field"),
    [
        ({"nodeSelector": {"a": "b"}}, "nodeSelector"),
        ({"tolerations": []}, "tolerations"),
        ({"serviceAccountName": "a"}, "serviceAccountName"),
        ({"hostIPC": True}, "hostIPC"),
        ({"deploymentStrategy": {}}, "deploymentStrategy"),
        ({"storageContainerName": "a"}, "storageContainerName"),
        ({"resources": {"limits": {"cpu": 1}}}, "resources.limits.cpu"),
    ],
)
def test_what_has_no_effect_is_said(predictor: dict[str, Any], field: str, raw_service: Make) -> None:
    raw = raw_service(predictor=predictor)
    assert refused(raw) == []
    assert noticed(raw) == [f"spec.predictor.{field}"]


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"storageUri": "s3://a/b"}, "storageUri"),
        ({"storageUri": "hf://a/b"}, "storageUri"),
        ({"storageUri": "./model.pkl"}, "storageUri"),
        ({"storageUri": None}, "storageUri"),
        ({"storageUri": None, "storage": {"path": "a"}}, "storage"),
        ({"confidential": {"enabled": False}}, "confidential"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}]}, "env[0].valueFrom"),
        ({"envFrom": []}, "envFrom"),
        ({"volumeMounts": []}, "volumeMounts"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, 'resources.limits["nvidia.com/gpu"]'),
        ({"resources": {"claims": []}}, "resources.claims"),
        ({"modelFormat": {"name": "tensorflow"}}, "modelFormat"),
        ({"runtime": "nothing"}, "runtime"),
    ],
)
def test_models(model: dict[str, Any], field: str, raw_service: Make) -> None:
    raw = raw_service(**model)
    assert refused(raw) == [f"spec.predictor.model.{field}"]
    for problem in judged(raw):
        assert problem.hint


@pytest.mark.parametrize("uri", ["/m", "file:///m", "http://a/b", "https://a/b", "pvc://a/b"])
def test_places_that_are_fetched_from(uri: str, raw_service: Make) -> None:
    assert judged(raw_service(storageUri=uri)) == ()


def test_no_accelerator_asked_for_is_none_missing(raw_service: Make) -> None:
    assert refused(raw_service(resources={"limits": {"nvidia.com/gpu": "0"}})) == []


@pytest.mark.parametrize("field", ["image", "runtimeVersion", "imagePullPolicy"])
def test_images_of_a_model_are_noticed(field: str, raw_service: Make) -> None:
    assert noticed(raw_service(**{field: "x"})) == [f"spec.predictor.model.{field}"]


def test_other_components_and_canaries(raw_predictor: Make) -> None:
    part = {"containers": [{"name": "a", "command": ["b"]}]}
    canary = {"trafficPercent": 1, "predictor": {"name": "two", "sklearn": {"storageUri": "/m"}}}
    raw = raw_predictor(
        {"sklearn": {"storageUri": "/m"}},
        transformer=part,
        explainer=part,
        canary=[canary],
        metadata={"annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
    )
    assert refused(raw) == ["spec.transformer", "spec.explainer", "spec.canary"]


def test_custom_containers(raw_predictor: Make) -> None:
    assert judged(raw_predictor({"containers": [{"name": "a", "command": ["serve"]}]})) == ()
    assert refused(raw_predictor({"containers": [{"name": "a", "image": "x"}]})) == [
        "spec.predictor.containers[0].command"
    ]
    both = [{"name": "a", "command": ["serve"], "image": "x"}, {"name": "helper"}]
    assert refused(raw_predictor({"containers": both})) == ["spec.predictor.containers[1]"]
    assert noticed(raw_predictor({"containers": both})) == ["spec.predictor.containers[0].image"]
    uri = {"name": "a", "command": ["serve"], "env": [{"name": "STORAGE_URI", "value": "gs://a/b"}]}
    assert refused(raw_predictor({"containers": [uri]})) == ["spec.predictor.containers[0].env"]


def test_a_custom_containers_probes_are_honoured_and_a_models_are_not(raw_predictor: Make, raw_service: Make) -> None:
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 80}}}
    assert judged(raw_predictor({"containers": [{"name": "a", "command": ["serve"], **probe}]})) == ()
    assert noticed(raw_service(**probe)) == ["spec.predictor.model.readinessProbe"]


def test_a_container_beside_a_model(raw_service: Make) -> None:
    raw = raw_service(predictor={"containers": [{"name": "transformer-container"}]})
    assert refused(raw) == ["spec.predictor.containers[0]"]


@pytest.mark.parametrize(
    ("key", "value", "severity"),
    [
        ("serving.kserve.io/deploymentMode", "Standard", None),
        ("serving.kserve.io/deploymentMode", "RawDeployment", None),
        ("serving.kserve.io/deploymentMode", "Serverless", problems.Severity.NOTICE),
        ("serving.kserve.io/deploymentMode", "ModelMesh", problems.Severity.REFUSE),
        ("serving.kserve.io/autoscalerClass", "none", None),
        ("serving.kserve.io/autoscalerClass", "hpa", None),
        ("serving.kserve.io/stop", "true", None),
        ("serving.kserve.io/stopp", "true", problems.Severity.NOTICE),
        ("serving.kserve.io/nodegroup", "a", problems.Severity.NOTICE),
        ("autoscaling.knative.dev/window", "10s", None),
        ("autoscaling.knative.dev/windw", "10s", problems.Severity.NOTICE),
        ("serving.knative.dev/rollout-duration", "10s", problems.Severity.NOTICE),
        ("mlship.dev/hold-seconds", "10", None),
        ("mlship.dev/hold-second", "10", problems.Severity.NOTICE),
        ("example.com/owner", "me", None),
    ],
)
def test_annotations(key: str, value: str, severity: problems.Severity | None, raw_service: Make) -> None:
    found = [problem.severity for problem in judged(raw_service(metadata={"annotations": {key: value}}))]
    assert found == ([severity] if severity else [])


def test_a_misspelt_annotation_gets_the_nearest(raw_service: Make) -> None:
    (found,) = judged(raw_service(metadata={"annotations": {"serving.kserve.io/stopp": "true"}}))
    assert found.hint == "did you mean serving.kserve.io/stop?"


def test_without_runtimes_the_choice_is_not_judged(raw_service: Make) -> None:
    found = load.parse(raw_service(modelFormat={"name": "mine"}))
    assert honour.refusals(found) == ()
    assert honour.refusals(found, cluster=OWN) != ()


def test_a_users_runtime_makes_a_format_work(raw_service: Make, a_runtime: Make) -> None:
    found = load.parse(raw_service(modelFormat={"name": "mine"}))
    mine = a_runtime("mine", supportedModelFormats=[{"name": "mine", "autoSelect": True}])
    assert honour.refusals(found, namespaced=[mine], cluster=OWN) == ()


@pytest.mark.parametrize(
    ("name", "spec", "field"),
    [
        ("mine", {}, []),
        ("mine", {"containers": [{"name": "a", "image": "x"}]}, ["spec.containers[0].command"]),
        ("mine", {"multiModel": True}, ["spec.multiModel"]),
        ("mine", {"workerSpec": {"containers": []}}, ["spec.workerSpec"]),
        ("mine", {"containers": [{"name": "a", "command": ["b"]}, {"name": "c"}]}, ["spec.containers[1]"]),
        ("mlship-onnx", {}, ["metadata.name"]),
        ("kserve-sklearnserver", {}, []),
        ("kserve-sklearnserver", {"containers": [{"name": "a", "image": "x"}]}, ["metadata.name"]),
    ],
)
def test_runtimes(name: str, spec: dict[str, Any], field: list[str], raw_runtime: Make) -> None:
    assert refused(raw_runtime(name, **spec)) == field


def test_what_a_runtime_says_in_vain_is_noticed(raw_runtime: Make) -> None:
    body = [{"name": "a", "command": ["b"], "image": "x", "resources": {"limits": {"cpu": 1}}}]
    raw = raw_runtime("mine", kind="ClusterServingRuntime", containers=body, nodeSelector={}, grpcEndpoint="port:1")
    raw["metadata"]["namespace"] = "default"
    assert noticed(raw) == [
        "metadata.namespace",
        "spec.containers[0].image",
        "spec.containers[0].resources",
        "spec.nodeSelector",
        "spec.grpcEndpoint",
    ]


@pytest.mark.parametrize("kind", ["LLMInferenceServiceConfig", "LocalModelCache", "Canary"])
def test_kinds_that_are_not_served_are_refused_by_name(kind: str) -> None:
    api_version = "flagger.app/v1beta1" if kind == "Canary" else "serving.kserve.io/v1alpha1"
    raw = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": {}}
    (found,) = judged(raw)
    assert (found.field, found.severity) == ("kind", problems.Severity.REFUSE)
    assert found.hint


def test_a_status_is_not_taken_from_a_user(raw_service: Make) -> None:
    assert noticed({**raw_service(), "status": {"url": "x"}}) == ["status"]


def test_accelerating_a_container_of_ones_own_is_noticed(raw_predictor: Make, raw_service: Make) -> None:
    wanted = {"annotations": {"mlship.dev/accelerate": "auto"}}
    assert noticed(raw_service(metadata=wanted)) == []
    raw = raw_predictor({"containers": [{"name": "a", "command": ["b"]}]}, metadata=wanted)
    assert noticed(raw) == ['metadata.annotations["mlship.dev/accelerate"]']
