"""The Open Inference Protocol over gRPC: ModelInferRequest to ``InferRequest``, ``InferResponse`` to its message.

The first and the last step of a gRPC request in the model server. Tensors come raw (``raw_input_contents``, one per
input, read without another copy) or typed (``contents``), never both in one request; outputs leave raw, whatever
their datatype, which every client reads. Errors are those of the REST codec, with the message's field paths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import binary, content_types, faults, fields, messages, oip

_RESPONSE = oip.message("ModelInferResponse")
_OUTPUT = oip.message("ModelInferResponse.InferOutputTensor")
_PARAMETER = oip.message("InferParameter")

# The field of InferTensorContents that holds each datatype. FP16 has none: it travels raw only.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_NARROW = frozenset(("INT8", "INT16", "UINT8", "UINT16"))  # narrower than the field they travel in


def decode_infer(message: Any) -> messages.InferRequest:
    """The request in a ModelInferRequest.

    Raises:
        errors.SpecError: the message is not a valid request; the text has the field's path, expected and got.
    """
    parameters = _parameters(message.parameters, "parameters")
    binary_outputs = fields.flag(parameters, "binary_data_output", "parameters") if parameters else None
    request = messages.InferRequest(
        model_name=message.model_name,
        model_version=message.model_version,
        id=message.id,
        inputs=_inputs(message),
        outputs=tuple(_requested(item, f"outputs[{index}]") for index, item in enumerate(message.outputs)),
        parameters=parameters,
        binary_outputs=binary_outputs or False,
    )
    fields.distinct([output.name for output in request.outputs], "outputs")
    return content_types.apply(request)


def _parameters(given: Mapping[str, Any], where: str) -> dict[str, messages.Scalar]:
    if not given:
        return {}
    found: dict[str, messages.Scalar] = {}
    for key, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise faults.invalid(f"{where}.{key[:80]}", "expected a value, got a parameter without one")
        found[key] = getattr(value, kind)
    fields.supported(found, where)
    return found


def _inputs(message: Any) -> tuple[messages.Tensor, ...]:
    if not message.inputs:
        raise faults.invalid("inputs", "expected at least one tensor, got none")
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        what = f"expected one for each of the {len(message.inputs)} inputs, got {len(raws)}"
        raise faults.invalid("raw_input_contents", what)
    tensors = []
    for index, item in enumerate(message.inputs):
        tensors.append(_tensor(item, raws[index] if raws else None, f"inputs[{index}]"))
    fields.distinct([tensor.name for tensor in tensors], "inputs")
    return tuple(tensors)


def _tensor(item: Any, raw: bytes | None, where: str) -> messages.Tensor:
    name = fields.name(item.name, f"{where}.name")
    datatype = fields.datatype(item.datatype, f"{where}.datatype")
    shape = tuple(item.shape)
    if shape and min(shape) < 0:
        raise faults.unexpected(f"{where}.shape", "dimensions of at least 0", min(shape))
    fields.bounded(shape, f"{where}.shape")
    parameters = _parameters(item.parameters, f"{where}.parameters")
    parameters.pop("binary_data_size", None)  # KServe's client leaves it there from REST; raw bytes know their size.
    if raw is None:
        data = _typed(item.contents, datatype=datatype, shape=shape, where=f"{where}.contents")
    else:
        if item.HasField("contents") and item.contents.ByteSize():
            what = "has contents beside raw_input_contents; expected one form for all inputs"
            raise faults.invalid(where, what)
        data = binary.decode(raw, datatype=datatype, shape=shape, where=where)
    return messages.Tensor(name, datatype, data, parameters)


def _typed(contents: Any, *, datatype: str, shape: tuple[int, ...], where: str) -> messages.Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise faults.invalid(where, f"{datatype} has no typed contents", hint="Send it in raw_input_contents.")
    values = getattr(contents, field)
    count = math.prod(shape)
    if len(values) != count:
        raise _wrong_count(contents, field, count=count, shape=shape, where=where)
    if datatype == "BYTES":
        array = np.empty(count, dtype=object)
        array[:] = list(values)
    elif datatype in _NARROW:
        array = _narrowed(values, datatype, f"{where}.{field}")
    else:
        array = np.array(values, dtype=messages.NUMPY_OF[datatype])
    if len(contents.ListFields()) > bool(count):
        others = [found.name for found, _ in contents.ListFields() if found.name != field]
        raise faults.invalid(where, f"expected only {field} for {datatype}, got {', '.join(others)} too")
    return array.reshape(shape)


def _narrowed(values: Any, datatype: str, where: str) -> messages.Array:
    wide = np.array(values, dtype=np.int64)
    low, high = int(np.iinfo(datatype.lower()).min), int(np.iinfo(datatype.lower()).max)
    outside = (wide < low) | (wide > high)
    if outside.any():
        index = int(outside.argmax())
        what = f"{wide[index]} is outside {datatype}, which holds {low} to {high}"
        raise faults.invalid(f"{where}, element {index}", what)
    return wide.astype(messages.NUMPY_OF[datatype])


def _wrong_count(contents: Any, field: str, *, count: int, shape: tuple[int, ...], where: str) -> errors.SpecError:
    got = ", ".join(f"{len(values)} in {found.name}" for found, values in contents.ListFields()) or "none"
    what = f"expected {count} elements in {field} for shape {list(shape)}, got {got}"
    hint = "" if contents.ListFields() else "Send them in contents, or all inputs in raw_input_contents."
    return faults.invalid(where, what, hint=hint)


def _requested(item: Any, where: str) -> messages.RequestedOutput:
    parameters = _parameters(item.parameters, f"{where}.parameters")
    wanted = fields.flag(parameters, "binary_data", f"{where}.parameters")
    return messages.RequestedOutput(fields.name(item.name, f"{where}.name"), wanted, parameters)


def encode_infer(response: messages.InferResponse, request: messages.InferRequest) -> Any:
    """The ModelInferResponse; ``request`` is there for the symmetry with REST: gRPC clients get every output raw.

    Raises:
        errors.ModelError: an output has values that raw bytes cannot carry.
    """
    return _RESPONSE(
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters=_wire_parameters(response.parameters),
        outputs=[_wire_output(tensor) for tensor in response.outputs],
        raw_output_contents=[binary.encode(tensor) for tensor in response.outputs],
    )


def _wire_output(tensor: messages.Tensor) -> Any:
    parameters = _wire_parameters(tensor.parameters)
    return _OUTPUT(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, parameters=parameters)


def _wire_parameters(given: Mapping[str, messages.Scalar]) -> dict[str, Any]:
    return {key: _wire_parameter(value) for key, value in given.items()}


def _wire_parameter(value: messages.Scalar) -> Any:
    if isinstance(value, bool):
        return _PARAMETER(bool_param=value)
    if isinstance(value, int):
        return _PARAMETER(int64_param=value) if value < 2**63 else _PARAMETER(uint64_param=value)
    return _PARAMETER(double_param=value) if isinstance(value, float) else _PARAMETER(string_param=value)
