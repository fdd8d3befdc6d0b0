"""The Open Inference Protocol (V2) over REST: an infer body becomes an ``InferRequest``, an ``InferResponse`` a body.

The first and the last step of a REST request in the model server. Decoding is one ``orjson.loads`` and plain dict
reads; tensors that follow the JSON as raw bytes (the binary tensor extension) are views of the body. Every malformed
body is an ``errors.SpecError`` that names the field, what was expected and what came; nothing else is raised.
Decisions where the protocol is silent: unknown fields are refused, ``null`` parameters count as left out, ``null``
in FP data is NaN, and NaN or infinite outputs leave as ``null`` (JSON has no word for them). BYTES outputs that are not
UTF-8 leave as base64 with the parameter ``content_type: base64``. The raw whole-body form (header length 0) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from mlship import errors
from mlship.protocol import (
    binary,
    content_types,
    elements,
    faults,
    fields,
    json_data,
    json_slices,
    json_small,
    messages,
)

_REQUEST = frozenset(("id", "inputs", "outputs", "parameters", "model_name", "model_version"))
_INPUT = frozenset(("name", "shape", "datatype", "data", "parameters"))
_OUTPUT = frozenset(("name", "parameters"))
_HEADER = "Inference-Header-Content-Length"


def decode_infer(
    body: bytes,
    *,
    model_name: str,
    model_version: str = "",
    header_length: int | None = None,
    pause: json_slices.Pause | None = None,
) -> messages.InferRequest:
    """The request in an infer body.

    Args:
        body: the whole HTTP body: JSON, and behind it the binary tensors in the order of the inputs.
        model_name: from the path; so is ``model_version``. The body's own words for them are not consulted.
        header_length: the value of the header ``Inference-Header-Content-Length``; None when it was not sent.
        pause: called between the pieces in which large arrays are then read; None reads them whole.

    Raises:
        errors.SpecError: the body is not a valid request; the message has the field's path, expected and got.
    """
    text, tail = _split(body, header_length)
    if len(text) >= json_slices.LEAST:
        try:
            sliced = json_slices.cut(bytes(text))
            inputs = _Inputs(tail, arrays=sliced.arrays, pause=pause)
            return _request(fields.parse(sliced.rest), inputs, model_name=model_name, model_version=model_version)
        except (json_slices.Unclear, errors.SpecError):
            pass  # Read whole, which may do better and has the places right where it does not.
    value = fields.parse(text)
    if tail is None:
        plain = json_small.decode(value, model_name=model_name, model_version=model_version)
        if plain is not None:
            return plain
    return _request(value, _Inputs(tail), model_name=model_name, model_version=model_version)


def _request(value: Any, inputs: _Inputs, *, model_name: str, model_version: str) -> messages.InferRequest:
    payload = fields.mapping(value, "body")
    if not payload.keys() <= _REQUEST:
        raise faults.unknown("body", payload.keys() - _REQUEST, _REQUEST)
    parameters = fields.parameters(payload.get("parameters"), "parameters")
    binary_outputs = False
    if parameters:
        fields.supported(parameters, "parameters")
        binary_outputs = fields.flag(parameters, "binary_data_output", "parameters") or False
    request = messages.InferRequest(
        model_name=model_name,
        model_version=model_version,
        id=_identifier(payload.get("id")),
        inputs=inputs.decode(payload),
        outputs=_requested(payload.get("outputs")),
        parameters=parameters,
        binary_outputs=binary_outputs,
    )
    return content_types.apply(request)


def _split(body: bytes, header_length: int | None) -> tuple[bytes | memoryview, memoryview | None]:
    """The JSON part and, when the header was sent, the binary part."""
    if header_length is None:
        return body, None
    if not 0 <= header_length <= len(body):
        what = f"expected a length from 1 to {len(body)}, the size of the body, got {faults.quote(header_length)}"
        raise faults.invalid(_HEADER, what)
    if header_length == 0 and body:
        hint = "Send the JSON part with the name, shape and datatype of each input, and its length in this header."
        raise faults.invalid(_HEADER, "0 (a body without JSON) is not supported", hint=hint)
    view = memoryview(body)
    return view[:header_length], view[header_length:]


def _identifier(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise faults.unexpected("id", "a string", value)
    return value


class _Inputs:
    """Reads the inputs in order and, with them, the binary part from its beginning to its end."""

    def __init__(
        self,
        tail: memoryview | None,
        *,
        arrays: Mapping[str, json_slices.Array] | None = None,
        pause: json_slices.Pause | None = None,
    ) -> None:
        self._tail = tail
        self._at = 0
        self._arrays = arrays or {}
        self._pause = pause

    def decode(self, payload: dict[str, Any]) -> tuple[messages.Tensor, ...]:
        if "inputs" not in payload:
            raise faults.invalid("inputs", "expected an array of tensors, got no such field")
        items = fields.sequence(payload["inputs"], "inputs")
        if not items:
            raise faults.invalid("inputs", "expected at least one tensor, got an empty array")
        tensors = tuple(self._tensor(item, f"inputs[{index}]") for index, item in enumerate(items))
        if len(tensors) > 1:
            fields.distinct([tensor.name for tensor in tensors], "inputs")
        if self._tail is not None and self._at != len(self._tail):
            what = f"{len(self._tail) - self._at} bytes behind the JSON belong to no input"
            hint = f"The binary_data_size of the inputs must add up to what follows the first {_HEADER} bytes."
            raise faults.invalid("body", what, hint=hint)
        return tensors

    def _tensor(self, item: Any, where: str) -> messages.Tensor:
        if type(item) is not dict:
            raise faults.unexpected(where, "an object", item)
        if not item.keys() <= _INPUT:
            raise faults.unknown(where, item.keys() - _INPUT, _INPUT)
        name = fields.name(item.get("name"), f"{where}.name")
        datatype = fields.datatype(item.get("datatype"), f"{where}.datatype")
        shape = fields.shape(item.get("shape"), f"{where}.shape")
        parameters = fields.parameters(item.get("parameters"), f"{where}.parameters")
        if parameters:
            fields.supported(parameters, f"{where}.parameters")
            size = parameters.pop("binary_data_size", None)
            if size is not None:
                raw = self._raw(item, size, where)
                data = binary.decode(raw, datatype=datatype, shape=shape, where=where)
                return messages.Tensor(name, datatype, data, parameters)
        if "data" not in item:
            what = "expected data, or the parameter binary_data_size, got neither"
            raise faults.invalid(where, what)
        data = self._data(item["data"], datatype=datatype, shape=shape, where=f"{where}.data")
        return messages.Tensor(name, datatype, data, parameters)

    def _data(self, value: Any, *, datatype: str, shape: tuple[int, ...], where: str) -> messages.Array:
        if type(value) is str and value in self._arrays:
            text = self._arrays[value]
            flat, dims = json_slices.read(text, datatype=datatype, where=where, pause=self._pause)
            return json_data.shaped(flat, dims=dims, shape=shape, where=where)
        return json_data.decode(value, datatype=datatype, shape=shape, where=where)

    def _raw(self, item: dict[str, Any], size: Any, where: str) -> memoryview:
        field = f"{where}.parameters.binary_data_size"
        if type(size) is not int or size < 0:
            raise faults.unexpected(field, "a number of bytes", size)
        if item.get("data") is not None:
            raise faults.invalid(where, "has both data and binary_data_size; expected one of them")
        if self._tail is None:
            raise faults.invalid(field, f"binary data needs the header {_HEADER}, which was not sent")
        begin, self._at = self._at, self._at + size
        if self._at > len(self._tail):
            got = len(self._tail) - begin
            raise faults.invalid(field, f"expected {size} bytes behind the JSON, got {got}")
        return self._tail[begin : self._at]


def _requested(value: Any) -> tuple[messages.RequestedOutput, ...]:
    if value is None:
        return ()
    items = fields.sequence(value, "outputs")
    outputs = tuple(_output(item, f"outputs[{index}]") for index, item in enumerate(items))
    if len(outputs) > 1:
        fields.distinct([output.name for output in outputs], "outputs")
    return outputs


def _output(item: Any, where: str) -> messages.RequestedOutput:
    found = fields.mapping(item, where)
    if not found.keys() <= _OUTPUT:
        raise faults.unknown(where, found.keys() - _OUTPUT, _OUTPUT)
    name = fields.name(found.get("name"), f"{where}.name")
    parameters = fields.parameters(found.get("parameters"), f"{where}.parameters")
    fields.supported(parameters, f"{where}.parameters")
    wanted = fields.flag(parameters, "binary_data", f"{where}.parameters")
    return messages.RequestedOutput(name=name, binary=wanted, parameters=parameters)


def encode_infer(
    response: messages.InferResponse, request: messages.InferRequest, *, pause: json_slices.Pause | None = None
) -> tuple[bytes, int | None]:
    """The body of a response and, when an output is binary, the length of its JSON part (else None).

    Args:
        pause: called between the pieces in which large arrays are then written; None writes them whole.

    Raises:
        errors.ModelError: an output has values that neither form can carry.
    """
    asked = {output.name: output.binary for output in request.outputs if output.binary is not None}
    tail: list[bytes] = []
    outputs = []
    for tensor in response.outputs:
        if asked.get(tensor.name, request.binary_outputs):
            raw = binary.encode(tensor)
            tail.append(raw)
            outputs.append(_described(tensor) | {"parameters": {**tensor.parameters, "binary_data_size": len(raw)}})
        else:
            outputs.append(_with_data(tensor, pause))
    answer: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version:
        answer["model_version"] = response.model_version
    if response.id:
        answer["id"] = response.id
    if response.parameters:
        answer["parameters"] = dict(response.parameters)
    answer["outputs"] = outputs
    text = elements.dumps(answer)
    return (b"".join((text, *tail)), len(text)) if tail else (text, None)


def _described(tensor: messages.Tensor) -> dict[str, Any]:
    described: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
    if tensor.parameters:
        described["parameters"] = dict(tensor.parameters)
    return described


def _with_data(tensor: messages.Tensor, pause: json_slices.Pause | None) -> dict[str, Any]:
    described = _described(tensor)
    if tensor.datatype == "BYTES":
        described["data"], encoded = elements.texts(elements.of(tensor), tensor.name)
        if encoded:
            described["parameters"] = {**tensor.parameters, "content_type": "base64"}
    else:
        flat = np.ascontiguousarray(tensor.data, dtype=messages.NUMPY_OF[tensor.datatype]).ravel()
        described["data"] = json_slices.write(flat, pause)
    return described


def encode_error(message: str, *, hint: str = "", code: str = "") -> bytes:
    """The protocol's error body: ``error`` is the sentence with its hint, ``code`` the reason for machines."""
    answer = {"error": f"{message} {hint}".rstrip()}
    if code:
        answer["code"] = code
    return orjson.dumps({key: value.encode("utf-8", "replace").decode() for key, value in answer.items()})
