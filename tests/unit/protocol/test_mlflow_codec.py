from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from mlship import errors
from mlship.protocol import messages, mlflow_codec

JSON = "application/json"


def decode(payload: Any, content_type: str = JSON) -> messages.InferRequest:
    body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return mlflow_codec.decode_invocations(body, content_type=content_type, model_name="m", model_version="1")


def plain(request: messages.InferRequest) -> dict[str, list[Any]]:
    return {tensor.name: tensor.data.tolist() for tensor in request.inputs}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}}, {"a": [1, 2], "b": ["x", "y"]}),
        ({"dataframe_split": {"columns": ["a"], "index": [7], "data": [[1.5]]}}, {"a": [1.5]}),
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}}, {"": [[1, 2]]}),
        ({"dataframe_split": {"data": [[1, 2]]}}, {"": [[1, 2]]}),
        ({"dataframe_split": {"columns": ["a"], "data": []}}, {"a": []}),
        ({"dataframe_records": [{"a": 1, "b": None}, {"a": 2, "b": "y"}]}, {"a": [1, 2], "b": [None, "y"]}),
        ({"instances": [[1, 2], [3, 4]]}, {"": [[1, 2], [3, 4]]}),
        ({"inputs": {"a": [1], "b": ["x"]}}, {"a": [1], "b": ["x"]}),
    ],
)
def test_four_shapes_of_json(payload: Any, expected: dict[str, list[Any]]) -> None:
    assert plain(decode(payload)) == expected


def test_the_word_nan_is_null_outside_of_strings() -> None:
    found = plain(decode(b'{"dataframe_records": [{"a": 1.5, "b\\"": "NaN x"}, {"a": NaN, "b\\"": "y"}]}'))
    assert found['b"'] == ["NaN x", "y"]
    assert found["a"][0] == 1.5
    assert np.isnan(found["a"][1])


@pytest.mark.parametrize("body", [b'{"inputs": [NaNa]}', b'{"inputs": "NaN', b'{"inputs": [NaN', b"NaN"])
def test_nan_does_not_mend_what_else_is_broken(body: bytes) -> None:
    with pytest.raises(errors.SpecError):
        decode(body)


def test_params_become_parameters() -> None:
    request = decode({"inputs": [[1]], "params": {"temperature": 0.5, "none": None}})
    assert (request.parameters, request.model_name, request.model_version) == ({"temperature": 0.5}, "m", "1")


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=UTF-8", "TEXT/CSV;charset=utf-8"])
def test_csv(content_type: str) -> None:
    assert plain(decode(b"a,b\n1,x\n2,y\n", content_type)) == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", 'application/json; charset="utf-8"'])
def test_json_by_other_names(content_type: str) -> None:
    assert plain(decode({"inputs": [1]}, content_type)) == {"": [1]}


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("application/x-parquet", "expected application/json or text/csv, got 'application/x-parquet'"),
        ("application/json; charset=latin-1", "expected the charset utf-8"),
    ],
)
def test_other_media_types_are_refused(content_type: str, says: str) -> None:
    with pytest.raises(errors.SpecError, match=says):
        decode({"inputs": [1]}, content_type)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ([], "body: expected an object"),
        ({}, "expected exactly one of dataframe_split, dataframe_records, instances, inputs, got none"),
        ({"inputs": [1], "instances": [1]}, "got instances and inputs"),
        ({"dataframe_spilt": {}}, "Did you mean 'dataframe_split'?"),
        ({"inputs": [1], "params": {"stop": ["a"]}}, "params.stop: expected a string"),
        ({"dataframe_split": []}, "dataframe_split: expected an object"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data: expected an array of rows, got no such field"),
        ({"dataframe_split": {"columns": ["a"], "data": 5}}, "dataframe_split.data: expected an array"),
        ({"dataframe_split": {"columns": "a", "data": []}}, "dataframe_split.columns: expected an array"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "dataframe_split.data[0]: expected an array of 1"),
        ({"dataframe_split": {"columns": ["a", 5], "data": [[1, 2]]}}, "columns[1]: expected a non-empty string"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "'a' is there twice"),
        ({"dataframe_split": {"cols": [], "data": []}}, "Did you mean 'columns'?"),
        ({"dataframe_records": {}}, "dataframe_records: expected an array"),
        ({"dataframe_records": []}, "dataframe_records: expected at least one row"),
        ({"dataframe_records": [1]}, "dataframe_records[0]: expected an object"),
        ({"dataframe_records": [{"a": 1}, {"b": 1}]}, "dataframe_records[1]: expected the field 'a'"),
    ],
)
def test_a_malformed_body_is_refused(payload: Any, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        decode(payload)
    assert says in str(caught.value)


def test_predictions_are_mlflows() -> None:
    one = messages.Tensor("y", "INT64", np.array([1, 2]))
    two = messages.Tensor("p", "FP64", np.array([0.5, np.nan]))
    assert json.loads(mlflow_codec.encode_invocations(messages.InferResponse("m", outputs=(one,)))) == {
        "predictions": [1, 2]
    }
    assert json.loads(mlflow_codec.encode_invocations(messages.InferResponse("m", outputs=(one, two)))) == {
        "predictions": [{"y": 1, "p": 0.5}, {"y": 2, "p": None}]
    }
