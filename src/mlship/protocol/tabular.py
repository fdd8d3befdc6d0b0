"""JSON that names no datatypes becomes tensors: rows, columns, nested arrays. V1, MLflow and ``pd_json`` share it.

Rectangular data of one kind becomes an array of that kind: booleans BOOL, integers INT64 (UINT64 when they need it),
other numbers FP64, strings BYTES; null among numbers is NaN, null among strings a missing value. Everything else
(mixed kinds, objects, ragged rows) stays what JSON said it is, in an object array with the tensor parameter
``content_type: json``: a custom model takes it, the binding refuses it for the others. ``{"b64": "..."}`` is
TensorFlow Serving's form for bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import faults, fields, json_data, messages

JSON: Mapping[str, messages.Scalar] = {"content_type": "json"}
_NUMBERS: Set[type] = frozenset((int, float, type(None)))
_TEXTS: Set[type] = frozenset((str, type(None)))


def tensor(name: str, values: list[Any], where: str) -> messages.Tensor:
    """One tensor of the values, the first dimension being their number.

    Raises:
        errors.SpecError: base64 that is none, too many dimensions.
    """
    try:
        flat, dims = json_data.flatten(values)
    except json_data.Ragged:
        fields.shallow(values, where)
        return messages.Tensor(name, "BYTES", objects(values), JSON)
    fields.bounded(dims, where)
    types = set(map(type, flat))
    datatype, data = _typed(flat, types, where)
    if datatype != "BYTES" or types <= _TEXTS or _is_base64(flat, types):
        return messages.Tensor(name, datatype, data.reshape(dims))
    fields.shallow(flat, where)
    return messages.Tensor(name, datatype, data.reshape(dims), JSON)


def _typed(flat: list[Any], types: set[type], where: str) -> tuple[str, messages.Array]:
    if not types or types == {int}:
        return _whole(flat) if flat else ("FP64", np.empty(0))
    if types <= _NUMBERS:
        return "FP64", np.array(flat, dtype=np.float64)
    if types == {bool}:
        return "BOOL", np.array(flat, dtype=np.bool_)
    if _is_base64(flat, types):
        return "BYTES", objects([_decoded(item["b64"], f"{where}[{index}].b64") for index, item in enumerate(flat)])
    return "BYTES", objects(flat)


def _whole(flat: list[int]) -> tuple[str, messages.Array]:
    """Integers of JSON, which are those of 64 bits; what lies beyond has come as a float."""
    if max(flat) < 2**63:
        return "INT64", np.array(flat, dtype=np.int64)
    if min(flat) >= 0:
        return "UINT64", np.array(flat, dtype=np.uint64)
    return "FP64", np.array(flat, dtype=np.float64)


def _is_base64(flat: list[Any], types: set[type]) -> bool:
    return types == {dict} and all(item.keys() == {"b64"} for item in flat)


def _decoded(text: Any, where: str) -> bytes:
    if type(text) is not str:
        raise faults.unexpected(where, "a base64 string", text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise faults.invalid(where, f"expected base64, got {faults.quote(text)}") from error


def objects(values: Sequence[Any]) -> messages.Array:
    """A one-dimensional object array whose elements are the values themselves, lists included."""
    result = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        result[index] = value
    return result


def is_records(values: list[Any]) -> bool:
    """Whether these rows are objects with fields, rather than arrays, scalars or TensorFlow Serving's bytes."""
    return bool(values) and all(type(row) is dict for row in values) and not _is_base64(values, {dict})


def records(rows: list[Any], where: str) -> tuple[messages.Tensor, ...]:
    """One tensor per field of rows that are objects. Every row must have the fields of the first.

    Raises:
        errors.SpecError: a row has other fields; the message names the row and the field.
    """
    names = rows[0].keys()
    if not names:
        raise faults.invalid(f"{where}[0]", "expected an object with one field per input, got an empty one")
    for index, row in enumerate(rows):
        if row.keys() != names:
            raise _other_fields(row, names=list(names), where=f"{where}[{index}]")
    return tuple(tensor(name, [row[name] for row in rows], f"{where}[].{name[:80]}") for name in names)


def _other_fields(row: dict[str, Any], *, names: list[str], where: str) -> errors.SpecError:
    missing = [name for name in names if name not in row]
    if missing:
        hint = "Every row needs the same fields; send null where a value is missing."
        return faults.invalid(
            where, f"expected the field {faults.quote(missing[0])} of the first row, got none", hint=hint
        )
    return faults.unknown(where, row.keys() - set(names), names)


def columns(table: Mapping[str, Any], where: str) -> tuple[messages.Tensor, ...]:
    """One tensor per named column; a column that is one value stands for an array of one.

    Raises:
        errors.SpecError: there are no columns.
    """
    if not table:
        raise faults.invalid(where, "expected an object with one field per input, got an empty one")
    found = []
    for name, values in table.items():
        path = f"{where}.{name[:80]}"
        found.append(tensor(name, values if type(values) is list else [values], path))
    return tuple(found)


def check_rows(rows: list[Any], width: int, where: str) -> None:
    """Refuses rows that are not arrays of ``width`` values."""
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != width:
            raise faults.unexpected(f"{where}[{index}]", f"an array of {width} values, one per column", row)


def grid(names: Sequence[str], rows: list[list[Any]], where: str) -> tuple[messages.Tensor, ...]:
    """One tensor per column of a table given as rows that ``check_rows`` has seen; names must differ."""
    fields.distinct(names, f"{where}, columns")
    turned: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
    return tuple(tensor(name, values, f"{where}[].{name[:80]}") for name, values in zip(names, turned, strict=True))
