"""MLServer's content types: what the bytes of a tensor mean, beyond their datatype.

Called by ``json_codec.decode_infer`` and ``grpc_codec.decode_infer`` once the tensors are arrays; requests that name
no content type pass untouched. A tensor's own ``content_type`` goes before the request's, which is the default for
all tensors. The parameters stay where they are, so the server still sees what was asked.

==========  =========================================================================================
np          the array as it is
pd          a column of a frame: BYTES become text, a shape [n, 1] becomes [n]
str         BYTES become text (``str``, from UTF-8)
base64      BYTES hold base64 text and become the bytes it stands for
datetime    BYTES hold ISO 8601 text and become ``datetime64[us]``; a zone is converted to UTC
json        BYTES hold JSON text, each becomes the value itself
pd_json     request: the only tensor has one element, a table as JSON (pandas' records, columns or split)
==========  =========================================================================================
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import faults, fields, messages, tabular

KNOWN = ("np", "pd", "str", "base64", "datetime", "json", "pd_json")
_KEY = "content_type"


def apply(request: messages.InferRequest) -> messages.InferRequest:
    """The request with its tensors in the form that their content types ask for.

    Raises:
        errors.SpecError: an unknown content type, or data that is not of it.
    """
    default = request.parameters.get(_KEY)
    if default is None and not any(tensor.parameters for tensor in request.inputs):
        return request
    default = _checked(default, f"parameters.{_KEY}")
    if default == "pd_json":
        return dataclasses.replace(request, inputs=_table(request))
    inputs = tuple(_converted(tensor, default, f"inputs[{index}]") for index, tensor in enumerate(request.inputs))
    return dataclasses.replace(request, inputs=inputs)


def text(array: messages.Array, where: str = "data") -> messages.Array:
    """The object array with every ``bytes`` element as ``str``. Raises ``errors.SpecError`` for what is not UTF-8."""
    return _each(array, _text, where)


def _checked(value: Any, where: str) -> str:
    if value is None:
        return ""
    if value not in KNOWN:
        hint = faults.nearest(str(value), KNOWN)
        raise faults.invalid(where, f"unknown content type {faults.quote(value)}", hint=hint)
    return str(value)


def _converted(tensor: messages.Tensor, default: str, where: str) -> messages.Tensor:
    own = _checked(tensor.parameters.get(_KEY), f"{where}.parameters.{_KEY}")
    if own == "pd_json":
        what = "pd_json describes a whole request, not one of its tensors"
        raise faults.invalid(f"{where}.parameters.{_KEY}", what, hint="Put it into the request's own parameters.")
    kind = own or default
    if kind in ("", "np"):
        return tensor
    if kind == "pd":
        return _column(tensor, where)
    if tensor.datatype != "BYTES":
        if not own:
            return tensor
        what = f"content type {kind} needs the datatype BYTES, got {tensor.datatype}"
        raise faults.invalid(where, what)
    data = _each(tensor.data, _READERS[kind], where)
    if kind == "datetime":
        data = np.array(data.ravel().tolist(), dtype="datetime64[us]").reshape(data.shape)
    return dataclasses.replace(tensor, data=data)


def _column(tensor: messages.Tensor, where: str) -> messages.Tensor:
    data = tensor.data
    if data.ndim == 2 and data.shape[1] == 1:
        data = data.reshape(-1)
    if tensor.datatype == "BYTES":
        data = text(data, where)
    return dataclasses.replace(tensor, data=data)


def _each(array: messages.Array, read: Callable[[Any], Any], where: str) -> messages.Array:
    """``array`` with each element read; missing ones stay missing."""
    result = np.empty(array.size, dtype=object)
    for index, element in enumerate(array.ravel().tolist()):
        try:
            result[index] = None if element is None else read(element)
        except errors.SpecError as error:
            raise faults.invalid(f"{where}, element {index}", error.message.removesuffix(".")) from error
        except ValueError as error:
            what = f"expected {_EXPECTED[read]}, got {faults.quote(element)}"
            raise faults.invalid(f"{where}, element {index}", what) from error
    return result.reshape(array.shape)


def _text(element: Any) -> Any:
    return element.decode() if isinstance(element, bytes) else element


def _bytes(element: Any) -> bytes:
    return base64.b64decode(element, validate=True)


def _datetime(element: Any) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(_text(element))
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _json(element: Any) -> Any:
    value = fields.parse(element if isinstance(element, bytes) else element.encode())
    fields.shallow(value, "body")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {"str": _text, "base64": _bytes, "datetime": _datetime, "json": _json}
_EXPECTED: dict[Callable[[Any], Any], str] = {
    _text: "UTF-8 text",
    _bytes: "base64",
    _datetime: "an ISO 8601 date or time",
    _json: "JSON",
}


def _table(request: messages.InferRequest) -> tuple[messages.Tensor, ...]:
    if len(request.inputs) != 1 or request.inputs[0].datatype != "BYTES" or request.inputs[0].data.size != 1:
        what = f"pd_json expects one BYTES tensor with one element, got {len(request.inputs)} tensors"
        raise faults.invalid("inputs", what, hint="For one tensor per column use the content type pd.")
    value = _each(request.inputs[0].data, _json, "inputs[0]").ravel()[0]
    return table(value, "inputs[0]")


def table(value: Any, where: str) -> tuple[messages.Tensor, ...]:
    """The columns of a table as pandas writes it to JSON: records, split, or columns (by row label or as arrays)."""
    if type(value) is list:
        if not tabular.is_records(value):
            raise faults.unexpected(where, "an array of objects, one per row", value)
        return tabular.records(value, where)
    found = fields.mapping(value, where)
    if found.keys() >= {"columns", "data"} and type(found["columns"]) is list:
        return split(found, where)
    labels = [list(column) for column in found.values() if type(column) is dict]
    if any(other != labels[0] for other in labels):
        raise faults.invalid(where, "expected the same row labels in every column, got different ones")
    plain = {name: list(column.values()) if type(column) is dict else column for name, column in found.items()}
    return tabular.columns(plain, where)


def split(found: dict[str, Any], where: str) -> tuple[messages.Tensor, ...]:
    """The columns of pandas' split form: ``columns`` (names), ``data`` (rows) and an ``index`` that is not looked at.

    Columns that are only numbered (0, 1, ...) or left out make one unnamed matrix.
    """
    known = ("columns", "data", "index")
    if not found.keys() <= set(known):
        raise faults.unknown(where, found.keys() - set(known), known)
    if "data" not in found:
        raise faults.invalid(f"{where}.data", "expected an array of rows, got no such field")
    rows = fields.sequence(found["data"], f"{where}.data")
    if found.get("columns") is None:
        return (tabular.tensor("", rows, f"{where}.data"),)
    names = fields.sequence(found["columns"], f"{where}.columns")
    tabular.check_rows(rows, len(names), f"{where}.data")
    if names == list(range(len(names))):
        return (tabular.tensor("", rows, f"{where}.data"),)
    for index, name in enumerate(names):
        fields.name(name, f"{where}.columns[{index}]")
    return tabular.grid(names, rows, f"{where}.data")
