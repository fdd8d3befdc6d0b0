"""Always: what one side of the wire writes, the other side reads as the same arrays, in every form the protocol has."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import orjson
from hypothesis import strategies as st

from mlship.protocol import binary, elements, grpc_codec, json_codec, messages, oip, v1_codec

# A busy machine is no failure.
CALM = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(min_size=1, max_size=8)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
PARAMETERS = st.dictionaries(
    NAMES.filter(lambda name: name not in {"content_type", "classification"} and "_" not in name), SCALARS, max_size=3
)


@st.composite
def tensors(draw: st.DrawFn, *, text: bool = False, finite: bool = False) -> messages.Tensor:
    """A tensor of any datatype; ``text``: BYTES hold UTF-8 only; ``finite``: no NaN, no infinity."""
    datatype = draw(st.sampled_from(sorted(messages.NUMPY_OF)))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        element: st.SearchStrategy[Any] = st.text(max_size=6) if text else st.binary(max_size=6)
        data = np.empty(math.prod(shape), dtype=object)
        data[:] = draw(st.lists(element, min_size=data.size, max_size=data.size))
        data = data.reshape(shape)
    else:
        dtype = messages.NUMPY_OF[datatype]
        options: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if finite and dtype.kind == "f" else {}
        data = draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(dtype, **options)))
    return messages.Tensor(draw(NAMES), datatype, data, draw(PARAMETERS))


def distinct(**how: bool) -> st.SearchStrategy[list[messages.Tensor]]:
    return st.lists(tensors(**how), min_size=1, max_size=3, unique_by=lambda tensor: tensor.name)


def same(found: messages.Tensor, sent: messages.Tensor) -> None:
    assert (found.name, found.datatype, found.shape) == (sent.name, sent.datatype, sent.shape)
    assert found.parameters == sent.parameters
    if sent.datatype == "BYTES":
        assert found.data.tolist() == sent.data.tolist()
    else:
        assert found.data.dtype == sent.data.dtype
        np.testing.assert_array_equal(found.data, sent.data)


def stated(tensor: messages.Tensor, **extra: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "parameters": {**tensor.parameters, **extra},
    }


@hypothesis.settings(CALM)
@hypothesis.given(sent=distinct(text=True, finite=True), nested=st.booleans())
def test_json_requests(sent: list[messages.Tensor], nested: bool) -> None:
    inputs = []
    for tensor in sent:
        data = tensor.data if nested and tensor.data.ndim else tensor.data.ravel()
        inputs.append(stated(tensor) | {"data": data.tolist()})
    found = json_codec.decode_infer(elements.dumps({"inputs": inputs}), model_name="m")
    for one, other in zip(found.inputs, sent, strict=True):
        same(one, other)


@hypothesis.settings(CALM)
@hypothesis.given(sent=distinct())
def test_binary_requests(sent: list[messages.Tensor]) -> None:
    raws = [binary.encode(tensor) for tensor in sent]
    inputs = [stated(tensor, binary_data_size=len(raw)) for tensor, raw in zip(sent, raws, strict=True)]
    text = elements.dumps({"inputs": inputs})
    found = json_codec.decode_infer(text + b"".join(raws), model_name="m", header_length=len(text))
    for one, other in zip(found.inputs, sent, strict=True):
        same(one, other)


@hypothesis.settings(CALM)
@hypothesis.given(sent=distinct(text=True, finite=True), wanted=st.booleans())
def test_rest_responses_read_as_requests_are_the_same(sent: list[messages.Tensor], wanted: bool) -> None:
    response = messages.InferResponse("m", outputs=tuple(sent))
    body, length = json_codec.encode_infer(response, messages.InferRequest("m", binary_outputs=wanted))
    answer = orjson.loads(body[:length])
    text = orjson.dumps({"inputs": answer["outputs"]})
    tail = b"" if length is None else body[length:]
    found = json_codec.decode_infer(text + tail, model_name="m", header_length=len(text) if wanted else None)
    for one, other in zip(found.inputs, sent, strict=True):
        if wanted and other.datatype == "BYTES":
            other = messages.Tensor(other.name, "BYTES", encoded(other.data), other.parameters)
        same(one, other)


def encoded(data: messages.Array) -> messages.Array:
    result = np.empty(data.size, dtype=object)
    result[:] = [text.encode() for text in data.ravel().tolist()]
    return result.reshape(data.shape)


@hypothesis.settings(CALM)
@hypothesis.given(sent=distinct(), typed=st.booleans())
def test_grpc_requests(sent: list[messages.Tensor], typed: bool) -> None:
    hypothesis.assume(not typed or all(tensor.datatype != "FP16" for tensor in sent))
    message = oip.message("ModelInferRequest")(model_name="m")
    for tensor in sent:
        item = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        for key, value in tensor.parameters.items():
            item.parameters[key].CopyFrom(grpc_codec._wire_parameter(value))
        if typed:
            getattr(item.contents, grpc_codec._CONTENTS[tensor.datatype]).extend(tensor.data.ravel().tolist())
        else:
            message.raw_input_contents.append(binary.encode(tensor))
    found = grpc_codec.decode_infer(oip.message("ModelInferRequest").FromString(message.SerializeToString()))
    for one, other in zip(found.inputs, sent, strict=True):
        same(one, other)


@hypothesis.settings(CALM)
@hypothesis.given(sent=distinct())
def test_grpc_responses_read_as_requests_are_the_same(sent: list[messages.Tensor]) -> None:
    made = grpc_codec.encode_infer(messages.InferResponse("m", outputs=tuple(sent)), messages.InferRequest("m"))
    message = oip.message("ModelInferRequest")(model_name="m", raw_input_contents=made.raw_output_contents)
    for output in made.outputs:
        message.inputs.add().MergeFromString(output.SerializeToString())
    for one, other in zip(grpc_codec.decode_infer(message).inputs, sent, strict=True):
        same(one, other)


@hypothesis.settings(CALM)
@hypothesis.given(
    data=st.one_of(
        arrays.arrays(np.int64, arrays.array_shapes(max_dims=3, max_side=4)),
        arrays.arrays(np.bool_, arrays.array_shapes(max_dims=3, max_side=4)),
    )
)
def test_v1_predictions_read_as_instances_are_the_same(data: messages.Array) -> None:
    response = messages.InferResponse("m", outputs=(messages.Tensor("y", messages.datatype_of(data.dtype), data),))
    rows = orjson.loads(v1_codec.encode_predict(response))["predictions"]
    (found,) = v1_codec.decode_predict(orjson.dumps({"instances": rows}), model_name="m").inputs
    assert found.data.dtype == data.dtype
    np.testing.assert_array_equal(found.data, data)
