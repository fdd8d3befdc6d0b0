from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mlship import errors
from mlship.api import honour, load, problems, service

Make = Callable[..., Any]


def test_a_valid_text(raw_service: Make) -> None:
    loaded = load.load(yaml.safe_dump(raw_service()), source="iris.yaml")
    assert loaded.problems == ()
    (document,) = loaded.documents
    assert isinstance(document.object, service.InferenceService)
    assert document.raw == raw_service()
    assert document.title == "InferenceService iris"
    assert loaded.objects == (document.object,)


def test_json_is_fine(raw_service: Make) -> None:
    assert load.load(json.dumps(raw_service()), source="iris.json").problems == ()


def test_problems_have_file_line_field_reason_and_hint() -> None:
    text = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
    model:
      modelFormt: {name: sklearn}
      storageUri: /m
"""
    (found,) = load.load(text, source="iris.yaml").problems
    assert str(found) == "iris.yaml:7: spec.predictor.model.modelFormt: unknown field; did you mean modelFormat?"
    assert (found.file, found.line, found.column, found.document) == ("iris.yaml", 7, 7, 1)


def test_broken_types_do_not_hide_broken_rules(raw_service: Make) -> None:
    raw = raw_service(metadata={"name": "Bad"}, protocolVersion="V2", timeout=1, env=[{"name": "A", "value": 1}])
    fields = [problem.field for problem in load.load(yaml.safe_dump(raw), source="a.yaml").problems]
    assert sorted(fields) == [
        "metadata.name",
        "spec.predictor.model.env[0].value",
        "spec.predictor.model.protocolVersion",
        "spec.predictor.model.timeout",
    ]


@pytest.mark.parametrize(
    ("written", "hint"),
    [("1.10", 'write "1.10" in quotes'), ("on", 'write "on" in quotes: YAML reads it as true or false')],
)
def test_the_fix_is_in_the_words_of_the_author(written: str, hint: str) -> None:
    text = f"""apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: iris}}
spec: {{predictor: {{model: {{modelFormat: {{name: sklearn, version: {written}}}, storageUri: /m}}}}}}
"""
    (found,) = load.load(text, source="iris.yaml").problems
    assert found.hint == hint


def test_secrets_are_not_put_into_the_fix() -> None:
    text = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec: {predictor: {sklearn: {storageUri: /m, env: [{name: PIN, value: 73737373}]}}}
"""
    (found,) = load.load(text, source="iris.yaml").problems
    assert "73737373" not in str(found)


@pytest.mark.parametrize("text", ["", "\n# nothing\n---\n", "~"])
def test_a_text_without_a_document_is_told(text: str) -> None:
    (found,) = load.load(text, source="a.yaml").problems
    assert "no document" in found.reason


@pytest.mark.parametrize("text", ["just words", "[1, 2]", "3"])
def test_a_document_that_is_no_map_is_told(text: str) -> None:
    (found,) = load.load(text, source="a.yaml").problems
    assert found.reason.startswith("expected a map")


def test_the_same_object_twice_is_refused(raw_service: Make) -> None:
    text = yaml.safe_dump_all([raw_service(), raw_service()])
    loaded = load.load(text, source="a.yaml")
    (found,) = loaded.problems
    assert found.document == 2
    assert "written twice" in found.reason
    assert len(loaded.objects) == 1


def test_a_list_is_its_members(raw_service: Make) -> None:
    bad = raw_service(protocol="v2")
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [raw_service(), bad]}, sort_keys=False)
    loaded = load.load(text, source="a.yaml")
    assert len(loaded.objects) == 1
    (found,) = loaded.problems
    assert found.field == "spec.predictor.model.protocol"
    assert "protocol: v2" in text.splitlines()[found.line - 1]


def test_a_known_kind_without_a_class_has_neither_object_nor_problem() -> None:
    (document,) = load.load("{apiVersion: v1, kind: Secret, metadata: {name: a}}", source="a.yaml").documents
    assert (document.object, document.problems) == (None, ())


def test_other_judgements_are_put_on_their_lines(raw_service: Make) -> None:
    text = yaml.safe_dump(raw_service(predictor={"canaryTrafficPercent": 0}))
    (document,) = load.load(text, source="a.yaml").documents
    assert document.object is not None
    (found,) = document.place(honour.refusals(document.object))
    assert "canaryTrafficPercent: 0" in text.splitlines()[found.line - 1]


def test_parse_gives_the_object_or_every_problem(raw_service: Make) -> None:
    assert load.parse(raw_service()).name == "iris"
    with pytest.raises(problems.InvalidObject) as caught:
        load.parse(raw_service(metadata={"name": "Bad"}, modelFormt=1))
    assert isinstance(caught.value, errors.SpecError)
    assert [one.field for one in caught.value.problems] == ["spec.predictor.model.modelFormt", "metadata.name"]
    assert not any(one.line for one in caught.value.problems)


def test_parse_refuses_what_belongs_to_a_cluster() -> None:
    with pytest.raises(problems.InvalidObject, match="no meaning for the local backend"):
        load.parse({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})


def test_parse_does_not_change_what_it_is_given(raw_service: Make) -> None:
    raw = raw_service(runtime=None)
    load.parse(raw)
    assert raw == raw_service(runtime=None)
