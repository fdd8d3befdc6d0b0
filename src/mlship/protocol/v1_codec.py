"""The V1 protocol (TensorFlow Serving's REST form, as KServe speaks it): ``:predict`` bodies and their answers.

V1 names neither datatypes nor, mostly, inputs: rows of numbers become one tensor named "", which the binding gives to
the model's only input; rows that are objects become one tensor per field; ``tabular`` says which array. The answer is
``{"predictions": [...]}``, one entry per row: the value where the model has one output, an object where it has several.
A structured CloudEvent is opened on the way in. What a body may hold besides: ``parameters`` (scalars, for the model),
``outputs`` (names, an addition of ours: which outputs to give) and ``signature_name``, of which only
``serving_default`` exists.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import elements, faults, fields, json_pieces, json_slices, messages, tabular

_KNOWN = frozenset(("instances", "inputs", "outputs", "parameters", "signature_name"))
_SIGNATURE = "serving_default"
_ROWS = (b'"instances"', b'"inputs"')
_ROWS_WRITTEN = 1024  # in a piece of an answer


def decode_predict(
    body: bytes, *, model_name: str, model_version: str = "", pause: json_slices.Pause | None = None
) -> messages.InferRequest:
    """The request in a ``:predict`` body: ``{"instances": [...]}`` (rows) or ``{"inputs": ...}`` (columns).

    Args:
        pause: called between the pieces in which rows are then read; None reads them whole.

    Raises:
        errors.SpecError: the body is not a valid request; the message has the field's path, expected and got.
    """
    if pause is not None:
        try:
            found, inputs = json_pieces.tensors(body, _ROWS, load=fields.parse, read=_read, pause=pause)
            return _request(unwrap_event(found), inputs, model_name=model_name, model_version=model_version)
        except (json_slices.Unclear, errors.SpecError):
            pass  # Read whole, which may do better and has the places right where it does not.
    payload = unwrap_event(fields.mapping(fields.parse(body), "body"))
    return _request(payload, None, model_name=model_name, model_version=model_version)


def _read(payload: dict[str, Any]) -> tuple[messages.Tensor, ...]:
    return tensors(unwrap_event(payload))


def _request(
    payload: dict[str, Any], inputs: tuple[messages.Tensor, ...] | None, *, model_name: str, model_version: str
) -> messages.InferRequest:
    if not payload.keys() <= _KNOWN:
        raise faults.unknown("body", payload.keys() - _KNOWN, _KNOWN)
    signature = payload.get("signature_name")
    if signature not in (None, "", _SIGNATURE):
        what = f"expected {_SIGNATURE!r}, the only signature there is, got {faults.describe(signature)}"
        raise faults.invalid("signature_name", what, hint="Leave the field out.")
    return messages.InferRequest(
        model_name=model_name,
        model_version=model_version,
        inputs=tensors(payload) if inputs is None else inputs,
        outputs=_wanted(payload.get("outputs")),
        parameters=fields.parameters(payload.get("parameters"), "parameters"),
    )


def _wanted(value: Any) -> tuple[messages.RequestedOutput, ...]:
    if value is None:
        return ()
    names = [fields.name(item, f"outputs[{index}]") for index, item in enumerate(fields.sequence(value, "outputs"))]
    fields.distinct(names, "outputs")
    return tuple(messages.RequestedOutput(name) for name in names)


def unwrap_event(payload: dict[str, Any]) -> dict[str, Any]:
    """The data of a structured CloudEvent; any other body as it is.

    Raises:
        errors.SpecError: the event's data is not a JSON object.
    """
    if "specversion" not in payload:
        return payload
    encoded = payload.get("data_base64")
    if encoded is None:
        return fields.mapping(payload.get("data"), "data")
    if type(encoded) is not str:
        raise faults.unexpected("data_base64", "a base64 string", encoded)
    try:
        return fields.mapping(fields.parse(base64.b64decode(encoded, validate=True)), "data_base64")
    except (binascii.Error, ValueError) as error:
        raise faults.invalid("data_base64", f"expected base64, got {faults.quote(encoded)}") from error


def tensors(payload: dict[str, Any]) -> tuple[messages.Tensor, ...]:
    """The tensors under ``instances`` or ``inputs``; MLflow has the same two. Raises ``errors.SpecError``."""
    given = [key for key in ("instances", "inputs") if key in payload]
    if len(given) != 1:
        got = "both" if given else "neither"
        raise faults.invalid("body", f'expected either "instances" or "inputs", got {got}')
    values = payload[given[0]]
    if given == ["inputs"] and type(values) is dict:
        return tabular.columns(values, "inputs")
    return rows(values, given[0])


def rows(values: Any, where: str) -> tuple[messages.Tensor, ...]:
    """Rows: objects become one tensor per field, everything else one tensor without a name."""
    found = fields.sequence(values, where)
    if not found:
        raise faults.invalid(where, "expected at least one row, got an empty array")
    if tabular.is_records(found):
        return tabular.records(found, where)
    return (tabular.tensor("", found, where),)


def encode_predict(response: messages.InferResponse, *, pause: json_slices.Pause | None = None) -> bytes:
    """The answer's body. NaN and infinite numbers leave as null; bytes that are not text as ``{"b64": ...}``.

    Outputs that have no common number of rows leave as an object of whole outputs.

    Args:
        pause: called between the pieces in which many rows are then written; None writes them whole.

    Raises:
        errors.ModelError: an output has values that JSON cannot carry.
    """
    outputs = response.outputs
    count = outputs[0].shape[0] if outputs and outputs[0].shape else 0
    if pause is None or count <= _ROWS_WRITTEN or any(tensor.shape[:1] != (count,) for tensor in outputs):
        return elements.dumps({"predictions": predictions(outputs)})
    pieces = []
    for begin in range(0, count, _ROWS_WRITTEN):
        some = [
            messages.Tensor(tensor.name, tensor.datatype, tensor.data[begin : begin + _ROWS_WRITTEN])
            for tensor in outputs
        ]
        pieces.append(elements.dumps(predictions(some))[1:-1])
        pause()
    return b'{"predictions":[%s]}' % b",".join(pieces)


def predictions(outputs: Sequence[messages.Tensor]) -> Any:
    """The outputs as a value that orjson can write."""
    if len(outputs) == 1:
        return _values(outputs[0])
    found = {tensor.name: _values(tensor) for tensor in outputs}
    sizes = {tensor.shape[:1] for tensor in outputs}
    if sizes == {()} or len(sizes) != 1:
        return found
    return [dict(zip(found, row, strict=True)) for row in zip(*map(_listed, outputs), strict=True)]


def _values(tensor: messages.Tensor) -> Any:
    data = tensor.data
    if data.dtype.kind in "biuf":
        return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("=")) if data.ndim else data.item()
    flat = elements.of(tensor)
    return tabular.objects(flat).reshape(data.shape).tolist() if data.ndim else flat[0]


def _listed(tensor: messages.Tensor) -> Any:
    """Rows as orjson takes them: numbers stay NumPy's where they are a row of several."""
    values = _values(tensor)
    if isinstance(values, np.ndarray):
        return values if values.ndim > 1 else values.tolist()
    return values
