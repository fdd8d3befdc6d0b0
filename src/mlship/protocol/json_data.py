"""A tensor's ``data`` from JSON to NumPy, strictly: the array holds what JSON says, or the request is refused.

``data`` may be flat or nested as its shape. Numbers are never read from strings, booleans are no numbers, fractions
no integers (1.0 is one: JSON has one kind of number), integers must fit their datatype and numbers must not overflow
theirs. ``null`` is NaN in FP tensors and a missing value in BYTES tensors, and nothing elsewhere; NaN and infinite
outputs leave as ``null``. Strings stay ``str`` in the object array. The REST codec calls ``decode`` once per input.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import faults, messages

Types = Set[type]

_FLOATS: Types = frozenset((float, int, type(None)))
_TEXTS: Types = frozenset((str, type(None)))
_INTS: Types = frozenset((int,))
_NUMBERS: Types = frozenset((int, float))
_BOOLS: Types = frozenset((bool,))
_RANGE = {
    name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for name, dtype in messages.NUMPY_OF.items()
    if dtype.kind in "iu"
}


class Ragged(Exception):
    """Nested data whose rows are not of one length. It never leaves the codecs: V2 refuses it, V1 keeps the data."""


def flatten(data: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The scalars of nested arrays, row-major, and the shape they had. Raises ``Ragged``."""
    dims = [len(data)]
    while data and type(data[0]) is list:
        width = len(data[0])
        for row in data:
            if type(row) is not list:
                raise Ragged(f"{faults.describe(row)} beside arrays")
            if len(row) != width:
                raise Ragged(f"arrays of {width} and of {len(row)}")
        data = list(itertools.chain.from_iterable(data))
        dims.append(width)
    if list in map(type, data):
        raise Ragged("arrays beside single values")
    return data, tuple(dims)


def decode(data: Any, *, datatype: str, shape: tuple[int, ...], where: str) -> messages.Array:
    """The array of ``datatype`` and ``shape`` that ``data`` says. Raises ``errors.SpecError``."""
    if type(data) is not list:
        raise faults.unexpected(where, "an array", data)
    try:
        flat, dims = flatten(data)
    except Ragged as error:
        raise faults.invalid(where, f"expected arrays of shape {list(shape)}, got {error}") from error
    if dims != shape:
        _check_shape(len(flat), dims=dims, shape=shape, where=where)
    return array(flat, datatype, where).reshape(shape)


def shaped(flat: messages.Array, *, dims: tuple[int, ...], shape: tuple[int, ...], where: str) -> messages.Array:
    """``flat``, whose JSON had the shape ``dims``, as ``shape``. Raises ``errors.SpecError``."""
    if dims != shape:
        _check_shape(len(flat), dims=dims, shape=shape, where=where)
    return flat.reshape(shape)


def _check_shape(size: int, *, dims: tuple[int, ...], shape: tuple[int, ...], where: str) -> None:
    count = math.prod(shape)
    if count != size:
        got = f"{size}" if len(dims) == 1 else f"{size} of shape {_shown(dims)}"
        raise faults.invalid(where, f"expected {count} elements for shape {list(shape)}, got {got}")
    if len(dims) > 1 and count and [dim for dim in dims if dim != 1] != [dim for dim in shape if dim != 1]:
        raise faults.invalid(where, f"expected shape {list(shape)} or a flat array, got shape {_shown(dims)}")


def _shown(dims: tuple[int, ...]) -> str:
    return faults.quote(list(dims))


def array(flat: Sequence[Any], datatype: str, where: str) -> messages.Array:
    """A one-dimensional array of JSON scalars."""
    types = set(map(type, flat))
    if datatype in _RANGE:
        return _integers(flat, types, datatype=datatype, where=where)
    if datatype == "BYTES":
        if not types <= _TEXTS:
            raise _wrong(flat, _TEXTS, expected="strings", where=where)
        result = np.empty(len(flat), dtype=object)
        result[:] = flat
        return result
    if datatype == "BOOL":
        if not types <= _BOOLS:
            raise _wrong(flat, _BOOLS, expected="true or false", where=where)
        return np.array(flat, dtype=np.bool_)
    if not types <= _FLOATS:
        raise _wrong(flat, _FLOATS, expected=f"numbers for {datatype}", where=where)
    return _floats(flat, datatype, where)


def _floats(flat: Sequence[Any], datatype: str, where: str) -> messages.Array:
    wide = np.array(flat, dtype=np.float64)
    return wide if datatype == "FP64" else _narrow_floats(wide, flat, datatype=datatype, where=where)


def _narrow_floats(
    wide: messages.Array, flat: Sequence[Any] | messages.Array, *, datatype: str, where: str
) -> messages.Array:
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(messages.NUMPY_OF[datatype])
    if np.isinf(narrow).any():  # JSON has no infinity, so this one is an overflow.
        index = int(np.isinf(narrow).argmax())
        raise faults.invalid(
            f"{where}, element {index}", f"{flat[index]} is too large for {datatype}", hint="Send FP64."
        )
    return narrow


def narrowed(wide: messages.Array, datatype: str, where: str) -> messages.Array:
    """Numbers of 64 bits, read from JSON, as ``datatype`` of the same kind. Raises ``errors.SpecError``."""
    dtype = messages.NUMPY_OF[datatype]
    if dtype == wide.dtype:
        return wide
    if dtype.kind == "f":
        return _narrow_floats(wide, wide, datatype=datatype, where=where)
    low, high = _RANGE[datatype]
    outside = (wide < low) | (wide > high)
    if outside.any():
        index = int(outside.argmax())
        raise _outside(wide[index], index, datatype=datatype, where=where)
    return wide.astype(dtype)


def _integers(flat: Sequence[Any], types: Types, *, datatype: str, where: str) -> messages.Array:
    if not types <= _INTS:
        if not types <= _NUMBERS:
            raise _wrong(flat, _NUMBERS, expected=f"integers for {datatype}", where=where)
        flat = [_whole(item, index, datatype=datatype, where=where) for index, item in enumerate(flat)]
    low, high = _RANGE[datatype]
    if flat and (min(flat) < low or max(flat) > high):
        index, item = next((at, item) for at, item in enumerate(flat) if not low <= item <= high)
        raise _outside(item, index, datatype=datatype, where=where)
    return np.array(flat, dtype=messages.NUMPY_OF[datatype])


def _outside(item: Any, index: int, *, datatype: str, where: str) -> errors.SpecError:
    low, high = _RANGE[datatype]
    return faults.invalid(f"{where}, element {index}", f"{item} is outside {datatype}, which holds {low} to {high}")


def _whole(item: float, index: int, *, datatype: str, where: str) -> int:
    if item != math.trunc(item):
        raise faults.unexpected(f"{where}, element {index}", f"integers for {datatype}", item)
    return int(item)


def _wrong(flat: Sequence[Any], allowed: Types, *, expected: str, where: str) -> errors.SpecError:
    index, item = next((at, item) for at, item in enumerate(flat) if type(item) not in allowed)
    hint = "Send numbers without quotes." if type(item) is str and expected.startswith(("numbers", "integers")) else ""
    return faults.invalid(f"{where}, element {index}", f"expected {expected}, got {faults.describe(item)}", hint=hint)
