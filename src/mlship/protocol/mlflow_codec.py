"""The MLflow scoring server's ``/invocations``: JSON in four shapes or CSV in, ``{"predictions": ...}`` out.

``dataframe_split`` and ``dataframe_records`` are tables, ``instances`` and ``inputs`` as in V1, ``params`` become the
request's parameters. A table becomes one tensor per column; no pandas is needed for it. A list of rows without
column names becomes one tensor named "", as in V1. MLflow's own client writes missing numbers as the word NaN, which
is no JSON but counts as null here. Source: ``mlflow.pyfunc.scoring_server``.
"""

from __future__ import annotations

import re
from typing import Any

from mlship import errors
from mlship.protocol import (
    content_types,
    csv_table,
    faults,
    fields,
    json_pieces,
    json_slices,
    messages,
    tabular,
    v1_codec,
)

_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_KNOWN = frozenset((*_FORMATS, "params"))
_ROWS = (b'"data"', b'"dataframe_records"', b'"instances"', b'"inputs"')
_JSON, _CSV = "application/json", "text/csv"
# A string, closed or not, so that what stands in it is passed over, and each byte is looked at once; or the word.
_STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\bNaN\b', re.DOTALL)


def decode_invocations(
    body: bytes,
    *,
    content_type: str,
    model_name: str,
    model_version: str = "",
    pause: json_slices.Pause | None = None,
) -> messages.InferRequest:
    """The request in an ``/invocations`` body.

    Args:
        content_type: the HTTP header's value; empty counts as JSON.
        pause: called between the pieces in which rows of JSON are then read; None reads them whole.

    Raises:
        errors.SpecError: another media type or charset, or a body that is not a valid request.
    """
    parameters: dict[str, messages.Scalar] = {}
    if _media_type(content_type) == _CSV:
        inputs = csv_table.decode(body)
    else:
        payload, inputs = _read(body, pause)
        parameters = fields.parameters(payload.get("params"), "params")
    return messages.InferRequest(
        model_name=model_name, model_version=model_version, inputs=inputs, parameters=parameters
    )


def _read(body: bytes, pause: json_slices.Pause | None) -> tuple[dict[str, Any], tuple[messages.Tensor, ...]]:
    if pause is not None:
        try:
            return json_pieces.tensors(body, _ROWS, load=_parse, read=_tensors, pause=pause)
        except json_slices.Unclear:
            pass  # Read whole, which may do better and has the places right where it does not.
    payload = fields.mapping(_parse(body), "body")
    return payload, _tensors(payload)


def _media_type(header: str) -> str:
    media, *attributes = (part.strip().lower() for part in header.split(";"))
    if media not in ("", _JSON, _CSV):
        raise errors.SpecError(
            f"header Content-Type: expected {_JSON} or {_CSV}, got {faults.quote(header)}.",
            reason=errors.Reason.MEDIA_TYPE,
        )
    for attribute in filter(None, attributes):
        key, _, value = attribute.partition("=")
        if key == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise faults.invalid("header Content-Type", f"expected the charset utf-8, got {faults.quote(value)}")
    return media or _JSON


def _parse(body: bytes) -> Any:
    try:
        return fields.parse(body)
    except errors.SpecError:
        if b"NaN" not in body:
            raise
    return fields.parse(_STRING_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body))


def _tensors(payload: dict[str, Any]) -> tuple[messages.Tensor, ...]:
    if not payload.keys() <= _KNOWN:
        raise faults.unknown("body", payload.keys() - _KNOWN, _KNOWN)
    given = [key for key in _FORMATS if key in payload]
    if len(given) != 1:
        got = " and ".join(given) if given else "none of them"
        raise faults.invalid("body", f"expected exactly one of {', '.join(_FORMATS)}, got {got}")
    if given == ["dataframe_split"]:
        return content_types.split(fields.mapping(payload["dataframe_split"], "dataframe_split"), "dataframe_split")
    if given == ["dataframe_records"]:
        return _records(payload["dataframe_records"])
    return v1_codec.tensors(payload)


def _records(value: Any) -> tuple[messages.Tensor, ...]:
    rows = fields.sequence(value, "dataframe_records")
    for index, row in enumerate(rows):
        fields.mapping(row, f"dataframe_records[{index}]")
    if not rows:
        raise faults.invalid("dataframe_records", "expected at least one row, got an empty array")
    return tabular.records(rows, "dataframe_records")


def encode_invocations(response: messages.InferResponse, *, pause: json_slices.Pause | None = None) -> bytes:
    """``{"predictions": ...}``: a list of values for one output, a list of records for several, as MLflow writes them.

    Raises:
        errors.ModelError: an output has values that JSON cannot carry.
    """
    return v1_codec.encode_predict(response, pause=pause)
