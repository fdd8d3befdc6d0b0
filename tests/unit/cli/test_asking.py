import dataclasses
import json

import pytest

from mlship import errors
from mlship.cli import asking

QUESTION = asking.Question(name="iris", namespace="default", data="", file=None, wanted=(), output="text", timeout=1)


def composed(**changes):
    return asking.compose(dataclasses.replace(QUESTION, **changes))


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ("[[1, 2]]", {"instances": [[1, 2]]}),
        ('{"instances": [[1]]}', {"instances": [[1]]}),
        ('{"inputs": {"a": [1]}}', {"inputs": {"a": [1]}}),
        ("3.5", {"instances": [3.5]}),
    ],
)
def test_rows_go_to_v1(data, body):
    call = composed(data=data)
    assert (call.path, json.loads(call.body)) == ("/v1/models/iris:predict", body)


def test_named_tensors_go_to_v2():
    data = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}
    call = composed(data=json.dumps(data), wanted=("predict_proba",))
    assert call.path == "/v2/models/iris/infer"
    assert json.loads(call.body) == {**data, "outputs": [{"name": "predict_proba"}]}


def test_wanted_outputs_of_rows_are_named():
    assert json.loads(composed(data="[[1]]", wanted=("a", "b")).body) == {"instances": [[1]], "outputs": ["a", "b"]}


def test_a_csv_goes_to_invocations(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    for call in (composed(file=path), composed(data=f"@{path}")):
        assert (call.path, call.body, call.content_type) == ("/invocations", b"a,b\n1,2\n", "text/csv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "either --data"),
        ({"data": "[1", "file": None}, "not JSON"),
        ({"data": "@/nowhere/rows.json"}, "/nowhere/rows.json cannot be read"),
    ],
)
def test_bad_data_is_refused_before_anything_is_asked(changes, words):
    with pytest.raises(errors.SpecError, match=words):
        composed(**changes)


def test_answers_for_people_are_one_prediction_a_line():
    assert asking.show({"predictions": [1, "a", {"x": 2}]}, form="text") == '1\n"a"\n{"x": 2}'
    outputs = {"outputs": [{"name": "predict", "datatype": "INT64", "shape": [1], "data": [0]}]}
    assert asking.show(outputs, form="text") == "predict INT64 [1]: [0]"
    assert json.loads(asking.show({"predictions": [1]}, form="json")) == {"predictions": [1]}


def test_a_csv_cannot_ask_for_outputs(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(errors.SpecError, match="--want does not go with a CSV"):
        composed(file=path, wanted=("predict_proba",))
