"""The Open Inference Protocol over gRPC: ModelInferRequest to ``InferRequest``, ``InferResponse`` to its message.

The first and the last step of a gRPC request in the model server. Tensors come raw (``raw_input_contents``, one per
input, read without another copy) or typed (``contents``), never both in one request; outputs leave raw, whatever
their datatype, which every client reads. Errors are those of the REST codec, with the message's field paths.

``opened`` and ``write`` go from and to the wire; in large messages they leave the raw contents where they lie, since
protobuf would copy them. No step of theirs holds the interpreter for long: typed contents are read in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import message as protobuf

from mlship import errors
from mlship.protocol import binary, content_types, faults, fields, messages, oip

Pause = Callable[[], None]

_REQUEST = oip.message("ModelInferRequest")
_RESPONSE = oip.message("ModelInferResponse")
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
_LARGE = 64 * 1024  # bytes of a message from which on its raw contents are not copied
_MAX_FIELDS = 1024
_LENGTH_DELIMITED = 2
_RAW_INPUT = 7 << 3 | _LENGTH_DELIMITED
_RAW_OUTPUT = bytes((6 << 3 | _LENGTH_DELIMITED,))
_PIECE = 8192  # elements of typed contents read in one go
_NARROW = frozenset(("INT8", "INT16", "UINT8", "UINT16"))  # narrower than the field they travel in


def opened(wire: bytes) -> tuple[Any, Sequence[bytes | memoryview]]:
    """A ModelInferRequest and its raw contents, which in a large one are views of ``wire`` and not in the message.

    Raises:
        errors.SpecError: the bytes are no such message.
    """
    rest, raws = _apart(wire) if len(wire) >= _LARGE else (wire, None)
    message = parse(_REQUEST, rest)
    return message, message.raw_input_contents if raws is None else raws


def parse(kind: type[Any], wire: bytes) -> Any:
    """A message of the class ``kind``. Raises ``errors.SpecError``."""
    try:
        return kind.FromString(wire)
    except protobuf.DecodeError as error:
        raise errors.SpecError(f"the request is no {kind.DESCRIPTOR.full_name}: {error}.") from error


def _apart(wire: bytes) -> tuple[bytes, list[memoryview] | None]:
    """A ModelInferRequest without its raw contents, and those; None: it is not plain, and protobuf is to judge it."""
    view = memoryview(wire)
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    at = 0
    for _ in range(_MAX_FIELDS):
        if at == len(wire):
            return b"".join(rest), raws
        begin = at
        key, at = _varint(wire, at)
        size, at = _varint(wire, at)
        at, inside = at + size, at
        if key & 7 != _LENGTH_DELIMITED or not key >> 3 or at > len(wire):
            break
        if key == _RAW_INPUT:
            raws.append(view[inside:at])
        else:
            rest.append(view[begin:at])
    return wire, None


def _varint(wire: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends; where there is none, one that ends behind everything."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(wire):
            break
        byte = wire[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, len(wire) + 1


def decode_infer(
    message: Any, *, raws: Sequence[bytes | memoryview] | None = None, pause: Pause | None = None
) -> messages.InferRequest:
    """The request in a ModelInferRequest.

    Args:
        raws: its raw contents, where they are not in it.
        pause: called between the pieces in which large typed contents are then read.

    Raises:
        errors.SpecError: the message is not a valid request; the text has the field's path, expected and got.
    """
    parameters = _parameters(message.parameters, "parameters")
    binary_outputs = fields.flag(parameters, "binary_data_output", "parameters") if parameters else None
    request = messages.InferRequest(
        model_name=message.model_name,
        model_version=message.model_version,
        id=message.id,
        inputs=_inputs(message, message.raw_input_contents if raws is None else raws, pause),
        outputs=tuple(_requested(item, f"outputs[{index}]") for index, item in enumerate(message.outputs)),
        parameters=parameters,
        binary_outputs=binary_outputs or False,
    )
    if len(request.outputs) > 1:
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


def _inputs(message: Any, raws: Sequence[bytes | memoryview], pause: Pause | None) -> tuple[messages.Tensor, ...]:
    items = message.inputs
    if not items:
        raise faults.invalid("inputs", "expected at least one tensor, got none")
    if raws and len(raws) != len(items):
        what = f"expected one for each of the {len(items)} inputs, got {len(raws)}"
        raise faults.invalid("raw_input_contents", what)
    tensors = []
    for index, item in enumerate(items):
        tensors.append(_tensor(item, raws[index] if raws else None, f"inputs[{index}]", pause))
    if len(tensors) > 1:
        fields.distinct([tensor.name for tensor in tensors], "inputs")
    return tuple(tensors)


def _tensor(item: Any, raw: bytes | memoryview | None, where: str, pause: Pause | None) -> messages.Tensor:
    name = fields.name(item.name, f"{where}.name")
    datatype = fields.datatype(item.datatype, f"{where}.datatype")
    shape = tuple(item.shape)
    if shape and min(shape) < 0:
        raise faults.unexpected(f"{where}.shape", "dimensions of at least 0", min(shape))
    fields.bounded(shape, f"{where}.shape")
    parameters = _parameters(item.parameters, f"{where}.parameters")
    if parameters:
        parameters.pop(
            "binary_data_size", None
        )  # KServe's client leaves it there from REST; raw bytes know their size.
    if raw is None:
        data = _typed(item.contents, datatype=datatype, shape=shape, where=f"{where}.contents", pause=pause)
    else:
        if item.HasField("contents") and item.contents.ByteSize():
            what = "has contents beside raw_input_contents; expected one form for all inputs"
            raise faults.invalid(where, what)
        data = binary.decode(raw, datatype=datatype, shape=shape, where=where)
    return messages.Tensor(name, datatype, data, parameters)


def _typed(contents: Any, *, datatype: str, shape: tuple[int, ...], where: str, pause: Pause | None) -> messages.Array:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise faults.invalid(where, f"{datatype} has no typed contents", hint="Send it in raw_input_contents.")
    values = getattr(contents, field)
    count = math.prod(shape)
    if len(values) != count:
        raise _wrong_count(contents, field, count=count, shape=shape, where=where)
    pieces = [_array(values[:_PIECE], datatype, f"{where}.{field}", 0)]
    for begin in range(_PIECE, count, _PIECE):
        if pause is not None:
            pause()
        pieces.append(_array(values[begin : begin + _PIECE], datatype, f"{where}.{field}", begin))
    array = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    if len(contents.ListFields()) > bool(count):
        others = [found.name for found, _ in contents.ListFields() if found.name != field]
        raise faults.invalid(where, f"expected only {field} for {datatype}, got {', '.join(others)} too")
    return array.reshape(shape)


def _array(values: list[Any], datatype: str, where: str, begin: int) -> messages.Array:
    """The elements from ``begin`` on, one-dimensional."""
    if datatype in _NARROW:
        return _narrowed(values, datatype, where, begin)
    array = np.empty(len(values), dtype=messages.NUMPY_OF[datatype])
    array[:] = values
    return array


def _narrowed(values: list[Any], datatype: str, where: str, begin: int) -> messages.Array:
    wide = np.array(values, dtype=np.int64)
    low, high = int(np.iinfo(datatype.lower()).min), int(np.iinfo(datatype.lower()).max)
    outside = (wide < low) | (wide > high)
    if outside.any():
        index = int(outside.argmax())
        what = f"{wide[index]} is outside {datatype}, which holds {low} to {high}"
        raise faults.invalid(f"{where}, element {begin + index}", what)
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
    message = _described(response)
    message.raw_output_contents.extend([binary.encode(tensor) for tensor in response.outputs])
    return message


def write(response: messages.InferResponse) -> tuple[bytes, ...]:
    """The bytes of the ModelInferResponse, in as many parts as spare copies of large outputs.

    Raises:
        errors.ModelError: an output has values that raw bytes cannot carry.
    """
    # The raw contents are the message's last field, so they are written behind the others by hand.
    parts: list[bytes] = [_described(response).SerializeToString()]
    for tensor in response.outputs:
        raw = binary.encode(tensor)
        parts += (_RAW_OUTPUT + _as_varint(len(raw)), raw)
    return tuple(parts)


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _described(response: messages.InferResponse) -> Any:
    message = _RESPONSE(model_name=response.model_name, model_version=response.model_version, id=response.id)
    if response.parameters:
        _wire_parameters(message.parameters, response.parameters)
    for tensor in response.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if tensor.parameters:
            _wire_parameters(output.parameters, tensor.parameters)
    return message


def _wire_parameters(into: Any, given: Mapping[str, messages.Scalar]) -> None:
    for key, value in given.items():
        into[key].CopyFrom(_wire_parameter(value))


def _wire_parameter(value: messages.Scalar) -> Any:
    if isinstance(value, bool):
        return _PARAMETER(bool_param=value)
    if isinstance(value, int):
        return _PARAMETER(int64_param=value) if value < 2**63 else _PARAMETER(uint64_param=value)
    return _PARAMETER(double_param=value) if isinstance(value, float) else _PARAMETER(string_param=value)
