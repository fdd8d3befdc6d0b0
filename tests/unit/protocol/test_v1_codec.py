from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import numpy as np
import orjson
import pytest

from mlship import errors
from mlship.protocol import messages, v1_codec

PAYLOADS = pathlib.Path(__file__).parents[4] / "shared" / "kserve" / "payloads"


def decode(payload: Any) -> messages.InferRequest:
    return v1_codec.decode_predict(orjson.dumps(payload), model_name="m", model_version="3")


def predict(*outputs: messages.Tensor) -> Any:
    return json.loads(v1_codec.encode_predict(messages.InferResponse("m", outputs=outputs)))["predictions"]


def tensor(name: str, data: Any, datatype: str = "FP64") -> messages.Tensor:
    return messages.Tensor(name, datatype, np.asarray(data))


def test_rows_of_numbers_are_one_tensor_without_a_name() -> None:
    request = decode({"instances": [[1, 2.5], [3, 4]], "signature_name": "serving_default", "parameters": {"k": "v"}})
    assert (request.model_name, request.model_version, request.parameters) == ("m", "3", {"k": "v"})
    (only,) = request.inputs
    assert (only.name, only.datatype, only.data.tolist()) == ("", "FP64", [[1.0, 2.5], [3.0, 4.0]])


def test_rows_that_are_objects_are_one_tensor_per_field() -> None:
    a, b = decode({"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}).inputs
    assert (a.name, a.datatype, a.data.tolist()) == ("a", "INT64", [1, 2])
    assert (b.name, b.datatype, b.data.tolist()) == ("b", "BYTES", ["x", "y"])


def test_inputs_is_the_column_form() -> None:
    a, b = decode({"inputs": {"a": [[1, 2]], "b": [True]}}).inputs
    assert (a.name, a.shape) == ("a", (1, 2))
    assert (b.name, b.datatype) == ("b", "BOOL")
    assert decode({"inputs": [[1.5]]}).inputs[0].name == ""


def test_outputs_may_be_named() -> None:
    assert [output.name for output in decode({"instances": [1], "outputs": ["a", "b"]}).outputs] == ["a", "b"]


def test_a_structured_cloud_event_is_opened() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    data = {"instances": [[1.0]]}
    assert decode(event | {"data": data}).inputs[0].data.tolist() == [[1.0]]
    encoded = base64.b64encode(orjson.dumps(data)).decode()
    assert decode(event | {"data_base64": encoded}).inputs[0].data.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ([], "body: expected an object"),
        ({}, 'expected either "instances" or "inputs", got neither'),
        ({"instances": [1], "inputs": [1]}, "got both"),
        ({"instance": [1]}, "Did you mean 'instances'?"),
        ({"instances": []}, "instances: expected at least one row"),
        ({"instances": {}}, "instances: expected an array"),
        ({"instances": None}, "instances: expected an array"),
        ({"inputs": {}}, "inputs: expected an object with one field per input"),
        ({"inputs": 3}, "inputs: expected an array"),
        ({"instances": [1], "signature_name": "other"}, "expected 'serving_default'"),
        ({"instances": [1], "parameters": {"a": []}}, "parameters.a: expected a string"),
        ({"instances": [1], "outputs": "a"}, "outputs: expected an array"),
        ({"instances": [1], "outputs": [{"name": "a"}]}, "outputs[0]: expected a non-empty string"),
        ({"instances": [1], "outputs": ["a", "a"]}, "'a' is there twice"),
        ({"specversion": "1.0"}, "data: expected an object, got nothing"),
        ({"specversion": "1.0", "data": [1]}, "data: expected an object"),
        ({"specversion": "1.0", "data_base64": "!"}, "data_base64: expected base64"),
        ({"specversion": "1.0", "data_base64": 5}, "data_base64: expected a base64 string"),
        ({"specversion": "1.0", "data_base64": "YQ=="}, "not valid JSON"),
    ],
)
def test_a_malformed_body_is_refused(payload: Any, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        decode(payload)
    assert says in str(caught.value)


def test_one_output_is_a_list_of_rows() -> None:
    assert predict(tensor("y", [[1.5, np.nan], [2, 3]])) == [[1.5, None], [2.0, 3.0]]
    assert predict(tensor("y", np.arange(3, dtype=">i4"), "INT32")) == [0, 1, 2]
    assert predict(tensor("y", np.float32(0.5), "FP32")) == 0.5


def test_objects_leave_as_the_json_they_are() -> None:
    data = np.array([{"a": np.float32(1.5)}, [1, 2], "x", b"y", None, b"\xff"], dtype=object)
    assert predict(tensor("y", data, "BYTES")) == [{"a": 1.5}, [1, 2], "x", "y", None, {"b64": "/w=="}]
    assert predict(tensor("y", np.array(["a", "b"]), "BYTES")) == ["a", "b"]
    assert predict(tensor("y", np.array(["2024-01-02"], dtype="datetime64[s]"), "BYTES")) == ["2024-01-02T00:00:00"]


def test_several_outputs_are_one_object_per_row() -> None:
    assert predict(
        tensor("label", [1, 0], "INT64"), tensor("p", [[0.1, 0.9], [0.8, 0.2]]), tensor("s", ["a", "b"], "BYTES")
    ) == [{"label": 1, "p": [0.1, 0.9], "s": "a"}, {"label": 0, "p": [0.8, 0.2], "s": "b"}]


def test_outputs_without_common_rows_are_whole() -> None:
    assert predict(tensor("a", [1.0, 2.0]), tensor("b", [1.0])) == {"a": [1.0, 2.0], "b": [1.0]}
    assert predict(tensor("a", 1.0), tensor("b", 2.0)) == {"a": 1.0, "b": 2.0}
    assert predict() == {}


def test_what_json_cannot_carry_is_the_models_fault() -> None:
    with pytest.raises(errors.ModelError):
        predict(tensor("y", np.array([object()]), "BYTES"))


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the public payloads are not beside this checkout")
def test_public_payloads_are_read_or_refused() -> None:
    iris = v1_codec.decode_predict((PAYLOADS / "iris_input.json").read_bytes(), model_name="m")
    assert iris.inputs[0].data.tolist() == [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
    income = v1_codec.decode_predict((PAYLOADS / "income_input.json").read_bytes(), model_name="m")
    assert (income.inputs[0].datatype, income.inputs[0].shape) == ("INT64", (1, 12))
    for body in json.loads((PAYLOADS / "iris_batch_input.json").read_bytes()):
        assert decode(body).inputs[0].shape == (2, 4)
    with pytest.raises(errors.SpecError, match="unknown field"):  # A bare row; its sender wraps it in instances.
        v1_codec.decode_predict((PAYLOADS / "sklearn_mixed.json").read_bytes(), model_name="m")
    row = json.loads((PAYLOADS / "sklearn_mixed.json").read_bytes())
    assert [item.name for item in decode({"instances": [row]}).inputs] == list(row)
