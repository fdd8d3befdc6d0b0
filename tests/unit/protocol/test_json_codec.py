from __future__ import annotations

import json
import pathlib
import struct
from typing import Any

import numpy as np
import orjson
import pytest

from mlship import errors
from mlship.protocol import json_codec, messages

PAYLOADS = pathlib.Path(__file__).parents[4] / "shared" / "kserve" / "payloads"


def decode(payload: Any, tail: bytes | None = None) -> messages.InferRequest:
    text = orjson.dumps(payload)
    length = None if tail is None else len(text)
    return json_codec.decode_infer(text + (tail or b""), model_name="m", model_version="2", header_length=length)


def given(**changes: Any) -> dict[str, Any]:
    """A valid body with one input, its fields changed; a change to None takes the field away."""
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def sized(size: Any, **changes: Any) -> dict[str, Any]:
    return given(data=None, parameters={"binary_data_size": size}, **changes)


def response(*outputs: messages.Tensor) -> messages.InferResponse:
    return messages.InferResponse("m", "1", "id-1", outputs)


def test_a_whole_request() -> None:
    request = decode(
        {
            "id": "42",
            "model_name": "ignored",
            "parameters": {"binary_data_output": True, "k": 3, "none": None},
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]], "parameters": {"a": "b"}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": False, "c": 1}}, {"name": "z"}],
        }
    )
    assert (request.model_name, request.model_version, request.id) == ("m", "2", "42")
    assert request.parameters == {"k": 3}
    assert request.binary_outputs
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.shape, tensor.parameters) == ("x", "FP32", (1, 2), {"a": "b"})
    assert [(output.name, output.binary, output.parameters) for output in request.outputs] == [
        ("y", False, {"c": 1}),
        ("z", None, {}),
    ]


def test_binary_inputs_follow_the_json_in_order() -> None:
    half = np.array([0.5, np.inf], dtype="<f2").tobytes()
    text = b"".join(struct.pack("<I", len(item)) + item for item in (b"a", b"\xff\x00"))
    payload = {
        "inputs": [
            {"name": "h", "shape": [2], "datatype": "FP16", "parameters": {"binary_data_size": len(half)}},
            {"name": "j", "shape": [1], "datatype": "INT8", "data": [7]},
            {"name": "s", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}},
            {"name": "e", "shape": [0], "datatype": "FP32", "parameters": {"binary_data_size": 0}},
        ]
    }
    h, j, s, e = decode(payload, half + text).inputs
    assert h.data.tolist() == [0.5, np.inf]
    assert j.data.tolist() == [7]
    assert s.data.tolist() == [[b"a"], [b"\xff\x00"]]
    assert e.shape == (0,)
    assert h.parameters == {}, "binary_data_size is consumed"


BAD: list[tuple[str, Any, bytes | None, str]] = [
    ("an array", [], None, "body: expected an object"),
    ("null", None, None, "body: expected an object"),
    ("no inputs", {}, None, "inputs: expected an array of tensors, got no such field"),
    ("inputs null", {"inputs": None}, None, "inputs: expected an array"),
    ("inputs empty", {"inputs": []}, None, "inputs: expected at least one tensor"),
    ("inputs an object", {"inputs": {}}, None, "inputs: expected an array, got an empty object"),
    ("an input a number", {"inputs": [1]}, None, "inputs[0]: expected an object"),
    ("misspelt field", {"input": []}, None, "Did you mean 'inputs'?"),
    ("misspelt tensor field", given(dtype="FP32"), None, "inputs[0]: unknown field 'dtype'. Did you mean 'datatype'?"),
    ("no name", given(name=None), None, "inputs[0].name: expected a non-empty string, got nothing"),
    ("no datatype", given(datatype=None), None, "inputs[0].datatype: expected a datatype, got nothing"),
    ("no shape", given(shape=None), None, "inputs[0].shape: expected an array, got nothing"),
    ("no data", given(data=None), None, "expected data, or the parameter binary_data_size, got neither"),
    ("unknown datatype", given(datatype="FLOAT"), None, "unknown datatype 'FLOAT'"),
    ("BF16", given(datatype="BF16"), None, "BF16 is not supported"),
    ("negative shape", given(shape=[-1]), None, "inputs[0].shape: expected dimensions that are integers of at least 0"),
    ("huge shape", given(shape=[2**40, 2**40]), None, "inputs[0].shape: too large"),
    ("wrong count", given(shape=[3]), None, "inputs[0].data: expected 3 elements for shape [3], got 2"),
    ("wrong type", given(data=["1", "2"]), None, "inputs[0].data, element 0: expected numbers"),
    ("same name", {"inputs": given()["inputs"] * 2}, None, "inputs: 'x' is there twice"),
    ("id a number", given() | {"id": 5}, None, "id: expected a string, got an integer (5)"),
    ("parameters an array", given() | {"parameters": []}, None, "parameters: expected an object"),
    ("nested parameter", given(parameters={"a": {}}), None, "inputs[0].parameters.a: expected a string"),
    ("outputs an object", given() | {"outputs": {}}, None, "outputs: expected an array"),
    ("output a string", given() | {"outputs": ["y"]}, None, "outputs[0]: expected an object"),
    ("output without name", given() | {"outputs": [{}]}, None, "outputs[0].name: expected a non-empty string"),
    ("output twice", given() | {"outputs": [{"name": "y"}] * 2}, None, "outputs: 'y' is there twice"),
    ("output field", given() | {"outputs": [{"name": "y", "data": []}]}, None, "outputs[0]: unknown field 'data'"),
    (
        "binary_data a number",
        given() | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
        None,
        "outputs[0].parameters.binary_data: expected a boolean",
    ),
    (
        "classification",
        given() | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        None,
        "the classification extension is not supported",
    ),
    ("shared memory", given(parameters={"shared_memory_region": "r"}), None, "shared memory extension is not"),
    ("binary_data_output a string", given() | {"parameters": {"binary_data_output": "yes"}}, None, "a boolean"),
    ("binary without header", sized(8), None, "needs the header Inference-Header-Content-Length"),
    ("size a string", sized("8"), b"\0" * 8, "binary_data_size: expected a number of bytes, got a string"),
    ("size negative", sized(-8), b"\0" * 8, "expected a number of bytes"),
    ("size a boolean", sized(True), b"\0" * 8, "expected a number of bytes"),
    ("size too large", sized(9), b"\0" * 8, "expected 9 bytes behind the JSON, got 8"),
    ("size too small", sized(4), b"\0" * 8, "expected 8 bytes for FP32"),
    ("bytes left over", sized(8), b"\0" * 9, "1 bytes behind the JSON belong to no input"),
    ("only leftovers", given(), b"\0", "1 bytes behind the JSON belong to no input"),
    ("data and size", given(parameters={"binary_data_size": 8}), b"\0" * 8, "both data and binary_data_size"),
    ("truncated BYTES", sized(5, shape=[1], datatype="BYTES"), b"\x02\0\0\0a", "truncated: element 0 of 1"),
    ("huge BYTES", sized(0, shape=[2**40], datatype="BYTES"), b"", "BYTES elements"),
    ("unknown content type", given(parameters={"content_type": "npy"}), None, "unknown content type 'npy'"),
]


@pytest.mark.parametrize(("payload", "tail", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_malformed_body_is_refused_with_place_expected_and_got(payload: Any, tail: bytes | None, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        decode(payload, tail)
    assert says in str(caught.value)
    assert caught.value.reason is errors.Reason.INVALID


@pytest.mark.parametrize("length", [-1, 3, 10**18])
def test_a_header_length_outside_the_body_is_refused(length: int) -> None:
    with pytest.raises(errors.SpecError, match="Inference-Header-Content-Length: expected a length from 1 to 2"):
        json_codec.decode_infer(b"{}", model_name="m", header_length=length)


def test_a_header_length_inside_the_json_is_refused() -> None:
    body = orjson.dumps(given())
    with pytest.raises(errors.SpecError, match="not valid JSON"):
        json_codec.decode_infer(body, model_name="m", header_length=len(body) - 4)


def test_a_body_without_json_is_refused() -> None:
    with pytest.raises(errors.SpecError, match="a body without JSON"):
        json_codec.decode_infer(b"\0\0\0\0", model_name="m", header_length=0)
    with pytest.raises(errors.SpecError, match="got nothing"):
        json_codec.decode_infer(b"", model_name="m", header_length=0)


def test_a_header_over_a_pure_json_body_is_fine() -> None:
    assert decode(given(), b"").inputs[0].data.tolist() == [1, 2]


def test_json_outputs_are_flat_and_nan_is_null() -> None:
    data = np.array([[1.5, np.nan], [np.inf, 0.1]], dtype=np.float32)
    body, length = json_codec.encode_infer(response(messages.Tensor("y", "FP32", data, {"k": 1})), decode(given()))
    assert length is None
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "id-1",
        "outputs": [
            {"name": "y", "shape": [2, 2], "datatype": "FP32", "parameters": {"k": 1}, "data": [1.5, None, None, 0.1]}
        ],
    }


@pytest.mark.parametrize("data", [np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::2], np.arange(3, dtype=">f8")])
def test_any_memory_layout_goes_out_row_major(data: messages.Array) -> None:
    body, _ = json_codec.encode_infer(response(messages.Tensor("y", "FP64", data)), decode(given()))
    (output,) = json.loads(body)["outputs"]
    assert output["data"] == data.ravel().tolist()
    assert output["shape"] == list(data.shape)


def test_each_output_goes_out_as_asked() -> None:
    asked = given() | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
    }
    one = np.array([1], dtype=np.int64)
    body, length = json_codec.encode_infer(
        response(messages.Tensor("a", "INT64", one), messages.Tensor("b", "INT64", one)), decode(asked)
    )
    assert length is not None
    first, second = json.loads(body[:length])["outputs"]
    assert first["data"] == [1]
    assert "data" not in second
    assert second["parameters"] == {"binary_data_size": 8}
    assert body[length:] == one.tobytes()


def test_an_empty_binary_output_still_has_its_header() -> None:
    request = decode(given() | {"parameters": {"binary_data_output": True}})
    body, length = json_codec.encode_infer(response(messages.Tensor("y", "FP32", np.empty((0, 2)))), request)
    assert length == len(body)


def test_text_outputs_are_strings_and_other_bytes_base64() -> None:
    text = messages.Tensor("t", "BYTES", np.array(["ü", b"b", None], dtype=object))
    other = messages.Tensor("o", "BYTES", np.array([b"\xff"], dtype=object))
    body, _ = json_codec.encode_infer(response(text, other), decode(given()))
    first, second = json.loads(body)["outputs"]
    assert first["data"] == ["ü", "b", None]
    assert "parameters" not in first
    assert (second["data"], second["parameters"]) == (["/w=="], {"content_type": "base64"})


def test_errors_have_the_protocols_form() -> None:
    assert orjson.loads(json_codec.encode_error("Broken.")) == {"error": "Broken."}
    assert orjson.loads(json_codec.encode_error("Broken \ud800.", hint="Mend it.", code="Invalid")) == {
        "error": "Broken ?. Mend it.",
        "code": "Invalid",
    }


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the public payloads are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("iris_input_v2.json", 1),
        ("iris_input_v2_binary.json", 1),
        ("pmml-input-v2.json", 1),
        ("mlflow_input_v2.json", 11),
        ("sklearn_mixed_v2.json", 10),
    ],
)
def test_public_payloads_are_read(name: str, inputs: int) -> None:
    body = (PAYLOADS / name).read_bytes()
    request = json_codec.decode_infer(body, model_name="m")
    stated = json.loads(body)["inputs"]
    assert len(request.inputs) == len(stated)
    assert len(request.inputs) >= min(inputs, len(stated))
    for tensor, said in zip(request.inputs, stated, strict=True):
        expected = np.array(said["data"]).reshape(said["shape"])
        assert tensor.datatype == said["datatype"]
        if tensor.datatype != "BYTES":
            expected = expected.astype(messages.NUMPY_OF[tensor.datatype])
        assert tensor.data.tolist() == expected.tolist()
