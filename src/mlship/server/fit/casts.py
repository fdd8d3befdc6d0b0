"""Datatype conversion of one array on its way into the model: what keeps every value is made, the rest is refused.

Integers and booleans become floats, wider or narrower integers when every value fits, FP64 becomes FP32 or FP16 when
no value overflows (JSON knows one kind of number, so rounding there is what the caller meant). Whole-valued floats
become integers. Strings never become numbers nor numbers strings. Object arrays (JSON with mixed or missing values)
are judged by their elements; None is a missing value where the target has one: NaN for floats, None for strings.
Called by ``binding`` between decoding and the queue.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlship import errors
from mlship.protocol import messages

_NUMBER_KINDS = "biuf"
_MAX_SHOWN = 40


def cast(data: messages.Array, *, to: str, where: str, missing: bool = False) -> messages.Array:
    """``data`` as the OIP datatype ``to``; an empty ``to`` takes it as it is.

    Args:
        missing: strings may be None; so they may in a table's column, not in a tensor.
        where: the head of the message, such as ``input "x" of model "iris"``.

    Raises:
        SpecError: a value would change, or strings and numbers are mixed up; the message has expected and got.
    """
    if not to:
        return data
    if to == "BYTES":
        return _to_strings(data, where, missing=missing)
    target = messages.NUMPY_OF[to]
    if data.dtype == target:
        return data
    if data.dtype.kind not in _NUMBER_KINDS:
        data = _numbers(data, to, where)
    return _convert(data, target, to, where)


def got(data: messages.Array) -> str:
    """How messages name what came: the datatype, or what an object array holds."""
    if data.dtype.kind != "O":
        return _named(data.dtype)
    kinds = {_kind_of(value) for value in data.ravel()[:1000].tolist()}
    return "BYTES" if kinds <= {"strings"} else " and ".join(sorted(kinds))


def _named(dtype: np.dtype[np.generic]) -> str:
    try:
        return messages.datatype_of(dtype)
    except KeyError:
        return str(dtype)


def _kind_of(value: object) -> str:
    if isinstance(value, str | bytes):
        return "strings"
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return "numbers"
    return "null" if value is None else f"values of type {type(value).__name__}"


def _to_strings(data: messages.Array, where: str, *, missing: bool) -> messages.Array:
    if data.dtype.kind == "M":
        # A model that takes strings gets dates as the text they travel as.
        return np.datetime_as_string(data).astype(object)
    if data.dtype.kind in "USO":
        flat = data.astype(object)
        allowed = (str, bytes, type(None)) if missing else (str, bytes)
        wrong = [value for value in flat.ravel().tolist() if not isinstance(value, allowed)]
        if not wrong:
            return flat
        shown = "null" if wrong[0] is None else f"{_kind_of(wrong[0])} such as {_shown(wrong[0])}"
    else:
        shown = _named(data.dtype)
    raise errors.SpecError(f"{where}: expected BYTES (strings), got {shown}.", hint="Write the values in quotes.")


def _numbers(data: messages.Array, to: str, where: str) -> messages.Array:
    """An object or string array as a plain numeric one, missing values as NaN."""
    values = data.ravel().tolist()
    wrong = next((value for value in values if not isinstance(value, bool | int | float | None)), None)
    if wrong is not None:
        raise errors.SpecError(
            f"{where}: expected {to}, got {_kind_of(wrong)} such as {_shown(wrong)}.",
            hint="Send numbers without quotes; a string is never turned into a number.",
        )
    if any(value is None for value in values):
        if not to.startswith("FP"):
            raise errors.SpecError(f"{where}: expected {to}, got null.", hint=f"{to} has no missing value.")
        values = [np.nan if value is None else value for value in values]
    numbers = np.asarray(values) if values else np.empty(0, dtype=messages.NUMPY_OF[to])
    if numbers.dtype.kind not in _NUMBER_KINDS:
        raise errors.SpecError(f"{where}: expected {to}, got an integer beyond 64 bits.")
    return numbers.reshape(data.shape)


def _convert(data: messages.Array, target: np.dtype[Any], to: str, where: str) -> messages.Array:
    with np.errstate(all="ignore"):
        cast_data = data.astype(target)
        changed = _changed(data, cast_data)
    if not changed.any():
        return cast_data
    value = data[changed].ravel()[0]
    came = _named(data.dtype)
    raise errors.SpecError(
        f"{where}: expected {to}, got {came} with a value that {to} cannot hold: {_shown(value.item())}.",
        hint=f"Send values that fit {to}.",
    )


def _changed(before: messages.Array, after: messages.Array) -> messages.Array:
    """Where a cast lost what must not be lost; rounding among floats, and of large integers to floats, is allowed."""
    if after.dtype.kind == "f":
        return np.asarray(np.isinf(after) & np.isfinite(before))
    if before.dtype.kind == "f":
        return np.asarray(~np.isfinite(before) | (np.trunc(before) != before) | _outside(before, after.dtype))
    return np.asarray(_outside(before, after.dtype))


def _outside(data: messages.Array, target: np.dtype[Any]) -> messages.Array:
    """Where whole numbers lie outside an integer or boolean type; compared without overflow."""
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if data.dtype.kind == "f":
        # 2**63 - 1 is no float; the bound above it is, and is itself outside.
        return np.asarray((data < float(low)) | (data >= float(high + 1)))
    if data.dtype.kind == "b":
        return np.zeros(data.shape, dtype=bool)
    info = np.iinfo(data.dtype)
    below = data < low if low > info.min else np.zeros(data.shape, dtype=bool)
    above = data > high if high < info.max else np.zeros(data.shape, dtype=bool)
    return np.asarray(below | above)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
