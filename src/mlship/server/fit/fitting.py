"""One array against one ``TensorSpec``: its rank, its dimensions, its datatype. Used by ``binding`` and ``columns``."""

from __future__ import annotations

from collections.abc import Sequence

from mlship import errors
from mlship.protocol import messages
from mlship.server.fit import casts


def fit(data: messages.Array, spec: messages.TensorSpec, *, label: str, missing: bool = False) -> messages.Array:
    """``data`` in the datatype of ``spec``, its shape checked.

    A column vector [n,1] is taken for [n] and the other way round: both are ways to write one column.

    Args:
        missing: as in ``casts.cast``.

    Raises:
        SpecError: with expected and got.
    """
    where = f'{label}, input "{spec.name}"'
    shaped = _shaped(data, spec.shape)
    if shaped is None:
        raise errors.SpecError(
            f"{where}: expected shape {shape(spec.shape)}, got {shape(data.shape)}.", hint=_hint(data.shape, spec.shape)
        )
    return casts.cast(shaped, to=spec.datatype, where=where, missing=missing)


def shape(dimensions: Sequence[int]) -> str:
    """``[-1,4]``"""
    return f"[{','.join(str(size) for size in dimensions)}]"


def _shaped(data: messages.Array, expected: tuple[int, ...]) -> messages.Array | None:
    if _matches(data.shape, expected):
        return data
    for other in ((-1,), (-1, 1)):
        if len(expected) == len(other) and _matches(data.shape, (-1, 1) if other == (-1,) else (-1,)):
            reshaped = data.reshape(other)
            return reshaped if _matches(reshaped.shape, expected) else None
    return None


def _matches(got: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(got) == len(expected) and all(want in (-1, size) for size, want in zip(got, expected, strict=True))


def _hint(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if len(got) + 1 == len(expected) and _matches((1, *got), expected):
        return "This looks like one row: put it into a list of rows, as [[...]]."
    return ""
