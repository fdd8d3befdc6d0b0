from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlship import errors
from mlship.protocol import grpc_codec, messages, oip

Request = oip.message("ModelInferRequest")


def request(*inputs: dict[str, Any], raw: list[bytes] | None = None, **fields: Any) -> Any:
    return Request(model_name="m", inputs=list(inputs), raw_input_contents=raw or [], **fields)


def tensor(datatype: str, shape: list[int], name: str = "x", **contents: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    return made | {"contents": contents} if contents else made


def parameter(**value: Any) -> Any:
    return oip.message("InferParameter")(**value)


def test_a_whole_request() -> None:
    message = request(
        tensor("FP32", [1, 2], fp32_contents=[1.5, float("nan")]),
        model_version="2",
        id="7",
        parameters={"a": parameter(uint64_param=2**63), "binary_data_output": parameter(bool_param=True)},
        outputs=[{"name": "y", "parameters": {"binary_data": parameter(bool_param=False)}}, {"name": "z"}],
    )
    found = grpc_codec.decode_infer(message)
    assert (found.model_name, found.model_version, found.id) == ("m", "2", "7")
    assert found.parameters == {"a": 2**63}
    assert found.binary_outputs
    assert [(output.name, output.binary) for output in found.outputs] == [("y", False), ("z", None)]
    assert found.inputs[0].data.shape == (1, 2)
    assert np.isnan(found.inputs[0].data[0, 1])


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-(2**15), 2**15 - 1]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, float("inf")]),
        ("FP64", "fp64_contents", [0.1, -1e300]),
        ("BYTES", "bytes_contents", [b"a", b"\xff"]),
    ],
)
def test_typed_contents_of_every_datatype(datatype: str, field: str, values: list[Any]) -> None:
    (found,) = grpc_codec.decode_infer(request(tensor(datatype, [2, 1], **{field: values}))).inputs
    assert found.data.dtype == messages.NUMPY_OF[datatype]
    assert found.data.tolist() == [[value] for value in values]


def test_raw_contents_are_read_in_order() -> None:
    raw = [np.array([1, 2], dtype="<f2").tobytes(), b"\x01\x00\x00\x00a"]
    a, b = grpc_codec.decode_infer(request(tensor("FP16", [2]), tensor("BYTES", [1], "s"), raw=raw)).inputs
    assert (a.data.tolist(), b.data.tolist()) == ([1.0, 2.0], [b"a"])


def test_an_empty_tensor_needs_no_contents() -> None:
    (found,) = grpc_codec.decode_infer(request(tensor("FP32", [0, 4]))).inputs
    assert found.shape == (0, 4)


def test_a_size_left_over_from_rest_is_consumed() -> None:
    made = tensor("INT8", [1]) | {"parameters": {"binary_data_size": parameter(int64_param=1)}}
    assert grpc_codec.decode_infer(request(made, raw=[b"\x07"])).inputs[0].parameters == {}


def test_content_types_are_applied() -> None:
    made = tensor("BYTES", [1], bytes_contents=[b"a"]) | {"parameters": {"content_type": parameter(string_param="str")}}
    assert grpc_codec.decode_infer(request(made)).inputs[0].data.tolist() == ["a"]


BAD: list[tuple[str, Any, str]] = [
    ("no inputs", request(), "inputs: expected at least one tensor"),
    ("no name", request(tensor("FP32", [0], "")), "inputs[0].name: expected a non-empty string"),
    ("no datatype", request(tensor("", [0])), "inputs[0].datatype: unknown datatype"),
    ("unknown datatype", request(tensor("FP31", [0])), "Did you mean 'FP32'?"),
    ("negative shape", request(tensor("FP32", [-1])), "inputs[0].shape: expected dimensions of at least 0"),
    ("huge shape", request(tensor("FP32", [2**40, 2**40])), "inputs[0].shape: too large"),
    ("many dimensions", request(tensor("FP32", [1] * 40)), "at most 32 dimensions"),
    (
        "nothing",
        request(tensor("FP32", [2])),
        "expected 2 elements in fp32_contents for shape [2], got none. Send them",
    ),
    ("too few", request(tensor("FP32", [2], fp32_contents=[1.0])), "got 1 in fp32_contents"),
    ("wrong field", request(tensor("FP32", [1], fp64_contents=[1.0])), "expected 1 elements in fp32_contents"),
    (
        "two fields",
        request(tensor("FP32", [1], fp32_contents=[1.0], int_contents=[1])),
        "expected only fp32_contents for FP32, got int_contents too",
    ),
    ("contents of nothing", request(tensor("FP32", [0], int_contents=[1])), "expected only fp32_contents"),
    ("out of range", request(tensor("INT8", [2], int_contents=[1, 300])), "element 1: 300 is outside INT8"),
    ("typed FP16", request(tensor("FP16", [1], fp32_contents=[1.0])), "FP16 has no typed contents"),
    (
        "too few raws",
        request(tensor("INT8", [1]), tensor("INT8", [1], "y"), raw=[b"\0"]),
        "each of the 2 inputs, got 1",
    ),
    ("too many raws", request(tensor("INT8", [1]), raw=[b"\0", b"\0"]), "each of the 1 inputs, got 2"),
    (
        "raw and typed",
        request(tensor("INT8", [1], int_contents=[1]), raw=[b"\0"]),
        "contents beside raw_input_contents",
    ),
    ("raw size", request(tensor("INT64", [1]), raw=[b"\0"]), "expected 8 bytes for INT64 of shape [1], got 1"),
    ("truncated", request(tensor("BYTES", [1]), raw=[b"\x02\0\0\0a"]), "truncated: element 0 of 1"),
    ("same name", request(tensor("INT8", [0]), tensor("INT8", [0])), "inputs: 'x' is there twice"),
    ("output twice", request(tensor("INT8", [0]), outputs=[{"name": "y"}] * 2), "outputs: 'y' is there twice"),
    ("output without name", request(tensor("INT8", [0]), outputs=[{}]), "outputs[0].name: expected a non-empty"),
    ("empty parameter", request(tensor("INT8", [0]), parameters={"a": parameter()}), "parameters.a: expected a value"),
    (
        "shared memory",
        request(tensor("INT8", [0]) | {"parameters": {"shared_memory_region": parameter(string_param="r")}}),
        "the shared memory extension is not supported",
    ),
    (
        "flag",
        request(tensor("INT8", [0]), parameters={"binary_data_output": parameter(int64_param=1)}),
        "parameters.binary_data_output: expected a boolean",
    ),
]


@pytest.mark.parametrize(("message", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_malformed_message_is_refused_with_place_expected_and_got(message: Any, says: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        grpc_codec.decode_infer(message)
    assert says in str(caught.value)
    assert caught.value.reason is errors.Reason.INVALID


def test_outputs_leave_raw() -> None:
    asked = messages.InferRequest("m")
    response = messages.InferResponse(
        "m",
        "2",
        "7",
        (
            messages.Tensor("y", "FP16", np.array([[0.5]], dtype=np.float16), {"content_type": "np"}),
            messages.Tensor("s", "BYTES", np.array(["ü"], dtype=object)),
        ),
        {"a": True, "b": 1, "c": 2**63, "d": 0.5, "e": "x"},
    )
    made = oip.message("ModelInferResponse").FromString(grpc_codec.encode_infer(response, asked).SerializeToString())
    assert (made.model_name, made.model_version, made.id) == ("m", "2", "7")
    assert [(item.name, item.datatype, list(item.shape)) for item in made.outputs] == [
        ("y", "FP16", [1, 1]),
        ("s", "BYTES", [1]),
    ]
    assert list(made.raw_output_contents) == [np.float16(0.5).tobytes(), b"\x02\x00\x00\x00\xc3\xbc"]
    assert made.outputs[0].parameters["content_type"].string_param == "np"
    kinds = {key: value.WhichOneof("parameter_choice") for key, value in made.parameters.items()}
    assert kinds == {
        "a": "bool_param",
        "b": "int64_param",
        "c": "uint64_param",
        "d": "double_param",
        "e": "string_param",
    }
