"""Objects of every kind over the real command line: applied, listed, shown, explained and destroyed."""

import json
import time

import pytest

from mlship import client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SERVICE = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
    maxReplicas: 2
    model: {modelFormat: {name: sklearn}, storageUri: "{uri}"}
"""
SCALED = """apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: scale}
spec:
  scaleTargetRef: {kind: InferenceService, name: iris}
  minReplicaCount: 1
  maxReplicaCount: 2
  triggers:
    - {type: cpu, metricType: Utilization, metadata: {value: "80"}}
"""
TRAINED = """apiVersion: serving.kserve.io/v1alpha1
kind: TrainedModel
metadata: {name: small}
spec:
  inferenceService: many
  model: {framework: sklearn, storageUri: "{uri}", memory: 64Mi}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: many}
spec: {predictor: {model: {modelFormat: {name: sklearn}}}}
"""


def test_objects_of_every_kind_come_and_go_by_the_command_line(installation, iris, tmp_path):
    for name, text in (("iris", SERVICE), ("scale", SCALED), ("small", TRAINED)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("{uri}", iris.as_uri()))
    assert installation.mlship("diff", "-f", str(tmp_path)).code == 1
    done = installation.mlship("apply", "-f", str(tmp_path), "--wait", "90")
    assert done.code == 0, done.err
    assert installation.ok("diff", "-f", str(tmp_path)).count("would not change") == 4

    def ready(name: str = "scale") -> str:
        (found,) = json.loads(installation.ok("list", "so", "-o", "json"))
        conditions = {one["type"]: one for one in found["status"]["conditions"]}
        return conditions["Ready"]["reason"]

    def until_ready_is(reason: str) -> None:
        deadline = time.monotonic() + 30
        while ready() != reason:
            assert time.monotonic() < deadline, ready()
            time.sleep(0.05)

    until_ready_is("ScaledObjectReady")
    heading, row = installation.ok("list", "scaledobjects").splitlines()
    assert heading.split()[:4] == ["NAMESPACE", "NAME", "SCALETARGETKIND", "SCALETARGETNAME"]
    assert row.split()[:9] == [
        "default", "scale", "serving.kserve.io/v1beta1.InferenceService", "iris", "1", "2", "True", "False", "cpu",
    ]  # fmt: skip
    assert installation.ok("get", "so").split()[:-1] == installation.ok("list", "so").split()[:-1], "but for the age"
    assert [line.split()[1] for line in installation.ok("list", "tm").splitlines()[1:]] == ["small"]
    assert [line.split()[1] for line in installation.ok("list").splitlines()[1:]] == ["iris", "many", "small"]
    assert "name     default/iris" in installation.ok("get", "iris")
    assert json.loads(installation.ok("get", "scaledobject", "scale", "-o", "json"))["kind"] == "ScaledObject"
    assert "kind: TrainedModel" in installation.ok("get", "tm/small", "-o", "yaml")
    shown = installation.ok("get", "so/scale", "isvc/iris")
    assert "it scales InferenceService iris" in shown
    assert "PredictorReady" in shown
    explained = installation.ok("why", "so", "scale").splitlines()
    assert explained[0] == "ScaledObject default/scale: Ready: it scales InferenceService iris"
    assert "InferenceService default/iris: Ready" in explained[1]
    assert installation.ok("why", "tm", "small").startswith("TrainedModel default/small: Ready")

    for words, told in (
        (("list", "rocket"), "ScaledObject (scaledobjects, so)"),
        (("get", "rocket", "x"), "TrainedModel (trainedmodels, tm)"),
        (("get", "so", "none"), 'scaledobjects.keda.sh "none"'),
        (("get", "none"), 'inferenceservices.serving.kserve.io "none"'),
        (("destroy", "so", "none"), "not found"),
        (("destroy",), "either names or --file"),
        (("why", "servingruntime", "x"), "Ask for InferenceService, TrainedModel, ScaledObject"),
        (("list", "inferencegraph"), "this version refuses them"),
    ):
        failed = installation.mlship(*words)
        assert failed.code == 1, words
        assert told in failed.err, (words, failed.err)

    destroyed = installation.mlship("destroy", "isvc", "iris")
    assert destroyed.out == "inferenceservice/iris is gone\n"
    assert "nothing is scaled by its ScaledObject (scale) until there is an InferenceService iris" in destroyed.err
    until_ready_is("ScaledObjectCheckFailed")
    assert "its target is gone" in installation.ok("get", "so", "scale")
    assert "fix: Apply the InferenceService" in installation.ok("why", "so/scale")

    left = installation.mlship("destroy", "-f", str(tmp_path))
    assert left.code == 1
    assert sorted(left.out.split("\n")) == [
        "", "inferenceservice/many is gone", "scaledobject/scale is gone", "trainedmodel/small is gone",
    ]  # fmt: skip
    assert "Not there, and nothing to destroy: inferenceservice/iris." in left.err
    with installation.control as control:
        for kind in ("so", "tm", "isvc"):
            assert control.list(kind) == []


def test_a_word_that_is_a_kind_and_a_service_is_not_guessed(installation, iris):
    installation.ok("deploy", str(iris), "--name", "so", "--port", "auto")
    installation.ok("apply", "-f", "-", stdin=SCALED)
    assert "name     default/so" in installation.ok("get", "so")
    refused = installation.mlship("destroy", "so", "scale")
    assert refused.code == 1
    assert "Write so/scale for the object of that kind, or isvc/so for the service." in refused.err
    assert installation.ok("destroy", "so/scale", "isvc/so").splitlines() == [
        "scaledobject/scale is gone", "inferenceservice/so is gone",
    ]  # fmt: skip
    with installation.control as control, pytest.raises(client.Refused):
        control.get("isvc", "so")
