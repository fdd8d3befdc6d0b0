import io

import pytest

from mlship import errors
from mlship.cli import applying

GOOD = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: file:///m}}}
"""


def test_a_folder_is_its_documents_in_the_order_of_names(tmp_path):
    (tmp_path / "b.yaml").write_text(GOOD.replace("iris", "second"))
    (tmp_path / "a.yml").write_text(GOOD + "---\n" + GOOD.replace("iris", "first-too"))
    (tmp_path / "notes.txt").write_text("not YAML: [")
    names = [body["metadata"]["name"] for body in applying.read([str(tmp_path)], namespace="team")]
    assert names == ["iris", "first-too", "second"]


def test_the_namespace_is_given_to_those_without_one(monkeypatch):
    text = GOOD + "---\n" + GOOD.replace("{name: iris}", "{name: iris, namespace: own}")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    bodies = applying.read(["-"], namespace="team")
    assert [body["metadata"]["namespace"] for body in bodies] == ["team", "own"]


def test_the_problems_of_all_files_are_told_at_once(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD.replace("storageUri", "storageUrl"))
    with pytest.raises(errors.SpecError) as raised:
        applying.read([str(tmp_path)], namespace="default")
    text = str(raised.value)
    assert "2 problems; nothing was applied" in text
    assert "a.yaml:4" in text
    assert "b.yaml:4" in text
    assert "did you mean storageUri?" in text


@pytest.mark.parametrize(
    ("make", "words"), [("empty", "holds no .yaml"), ("gone", "cannot be read"), ("bytes", "UTF-8")]
)
def test_files_that_cannot_be_read(tmp_path, make, words):
    path = tmp_path / "x.yaml"
    if make == "empty":
        path = tmp_path
    elif make == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.SpecError, match=words):
        applying.read([str(path)], namespace="default")


def test_what_belongs_to_a_cluster_is_skipped_and_said(monkeypatch, capsys):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData: {AWS_SECRET_ACCESS_KEY: hush}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(secret + "---\n" + GOOD))
    assert [body["kind"] for body in applying.read(["-"], namespace="default")] == ["InferenceService"]
    told = capsys.readouterr().err
    assert "skipped  Secret s3" in told
    assert "hush" not in told


def test_a_cluster_wide_object_gets_no_namespace(monkeypatch):
    text = """apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: mine}
spec:
  supportedModelFormats: [{name: mine, version: "1", autoSelect: true}]
  containers: [{name: kserve-container, command: [python, -m, mine]}]
"""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert "namespace" not in applying.read(["-"], namespace="team")[0]["metadata"]


def test_what_is_to_be_destroyed_is_named_and_not_judged(monkeypatch, capsys):
    text = GOOD.replace("storageUri", "storageUrl") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s3}\n---\n"
    text += "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: so, namespace: own}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    found = applying.identities(["-"], namespace="team")
    assert [one.title for one in found] == ["inferenceservice/iris", "scaledobject/so"]
    assert [one.namespace for one in found] == ["team", "own"]
    assert "skipped  Secret s3" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["kind: InferenceService", "kind: Rocket\nmetadata: {name: x}", "kind: [", ""])
def test_what_has_no_identity_stops_before_anything_is_destroyed(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(errors.SpecError):
        applying.identities(["-"], namespace="team")
