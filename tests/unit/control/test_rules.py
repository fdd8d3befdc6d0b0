"""The real kinds and rules behind the control API."""

from __future__ import annotations

import pytest

from mlship.api import problems
from mlship.control import rules, seams


def test_the_catalog_has_what_kserve_has_and_nothing_foreign():
    catalog = rules.catalog()
    service = catalog.at("serving.kserve.io", "v1beta1", "inferenceservices")
    assert (service.kind, service.short_names, service.namespaced, service.drained) == (
        "InferenceService", ("isvc",), True, True,
    )  # fmt: skip
    assert [one.name for one in service.columns] == [
        "URL", "Ready", "Prev", "Latest", "PrevRolledoutRevision", "LatestReadyRevision", "Age",
    ]  # fmt: skip
    assert not catalog.kind("ClusterServingRuntime").namespaced
    assert [one.kind for one in catalog.all if one.drained] == ["InferenceService", "TrainedModel"]
    assert "Deployment" not in {one.kind for one in catalog.all}


def test_a_good_service_passes_and_is_not_changed(service):
    raw = service()
    raw["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 3, "managedFields": [], "generateName": "g-"}
    raw["status"] = {"anything": 1}
    before = repr(raw)
    assert rules.Judge().review(seams.World(raw)) == ()
    assert repr(raw) == before


def test_every_problem_is_in_the_refusal(service):
    raw = service()
    raw["spec"]["predictor"] |= {"minReplicas": "x", "maxReplica": 3}
    with pytest.raises(problems.InvalidObject) as caught:
        rules.Judge().review(seams.World(raw))
    assert {one.field for one in caught.value.problems} >= {"spec.predictor.minReplicas", "spec.predictor.maxReplica"}


def test_what_is_not_honoured_is_refused_with_its_field(service):
    raw = service()
    raw["spec"]["transformer"] = {"containers": [{"name": "kserve-container", "image": "x"}]}
    with pytest.raises(problems.InvalidObject) as caught:
        rules.Judge().review(seams.World(raw))
    assert any(one.field.startswith("spec.transformer") for one in caught.value.problems)


def test_kinds_that_are_not_run_say_so():
    raw = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "InferenceGraph",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceName": "a"}]}}},
    }
    with pytest.raises(problems.InvalidObject, match="graph"):
        rules.Judge().review(seams.World(raw))


def test_fields_without_effect_are_notices(service):
    raw = service()
    raw["spec"]["predictor"]["serviceAccountName"] = "robot"
    notices = rules.Judge().review(seams.World(raw))
    assert [one.field for one in notices] == ["spec.predictor.serviceAccountName"]
    assert notices[0].text


def test_a_stored_runtime_may_be_named(service):
    raw = service()
    raw["spec"]["predictor"]["model"] |= {"runtime": "mine"}
    with pytest.raises(problems.InvalidObject, match="mine"):
        rules.Judge().review(seams.World(raw))
    own = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "mine", "namespace": "default", "uid": "u", "resourceVersion": "1"},
        "spec": {
            "supportedModelFormats": [{"name": "sklearn", "version": "1", "autoSelect": True}],
            "protocolVersions": ["v1", "v2"],
            "containers": [{"name": "kserve-container", "command": ["python", "-m", "mine"]}],
        },
    }
    assert rules.Judge().review(seams.World(raw, namespaced=(own,))) == ()


def test_a_scaled_object_passes_is_told_what_is_in_vain_and_refused_by_field():
    raw = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "s", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"name": "iris-predictor"},
            "triggers": [{"type": "cpu", "metadata": {"value": "50"}, "metricType": "Utilization"}],
        },
    }
    assert [one.field for one in rules.Judge().review(seams.World(raw))] == ["spec.maxReplicaCount"]
    raw["spec"]["triggers"][0]["type"] = "kafka"
    with pytest.raises(problems.InvalidObject, match=r"spec\.triggers\[0\]\.type.*prometheus"):
        rules.Judge().review(seams.World(raw))
    raw["spec"]["triggers"][0] = {"type": "external-push", "metadata": {"scalerAddress": "127.0.0.1:9090"}}
    assert [one.field for one in rules.Judge(lambda: True).review(seams.World(raw))] == ["spec.maxReplicaCount"]
    with pytest.raises(problems.InvalidObject, match=r"spec\.triggers\[0\]\.type.*pip install 'mlship\[keda\]'"):
        rules.Judge(lambda: False).review(seams.World(raw))
    found = rules.catalog().at("keda.sh", "v1alpha1", "scaledobjects")
    assert [one.name for one in found.columns] == [
        "ScaleTargetKind", "ScaleTargetName", "Min", "Max", "Ready", "Paused", "Triggers", "Age",
    ]  # fmt: skip
    assert found.served
    assert not rules.catalog().kind("InferenceGraph").served
