"""scikit-learn's scalers and SimpleImputer before a compiled model, as the NumPy operations they are.

Each goes element by element, so thresholds behind it can be told in the space of the inputs, for the proof to try. The
operations are in scikit-learn's own order and precision: where it works in place, single precision is rounded after
each; where it turns the operand into the input's precision first, so does this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel, sk_linear


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
    """Operations with one operand a feature: subtract, divide, multiply or add. ``narrow``: the operand is turned into
    the input's precision first."""

    operations: Sequence[tuple[np.ufunc, messages.Array]]
    narrow: bool = False
    fills: bool = False

    def apply(self, matrix: messages.Array) -> messages.Array:
        if matrix.dtype == np.float64:
            for operation, operand in self.operations:
                matrix = operation(matrix, operand)
            return matrix
        kind = matrix.dtype
        for operation, operand in self.operations:
            by = operand.astype(kind) if self.narrow else operand
            matrix = operation(matrix, by).astype(kind, copy=False)
        return matrix

    def slope(self, features: int) -> messages.Array:
        found = np.ones(features)
        for operation, operand in self.operations:
            if operation in (np.multiply, np.divide):
                found = operation(found, operand)
        return found

    def offset(self, features: int) -> messages.Array:
        found: messages.Array = self.apply(np.zeros((1, features)))[0]
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Filling:
    """A number a feature for what is missing."""

    values: messages.Array
    fills: bool = True

    def apply(self, matrix: messages.Array) -> messages.Array:
        gaps = np.isnan(matrix)
        return np.where(gaps, self.values.astype(matrix.dtype, copy=False), matrix) if gaps.any() else matrix

    def slope(self, features: int) -> messages.Array:
        return np.ones(features)

    def offset(self, features: int) -> messages.Array:
        # What it fills in has to stay within the same limits as what is given.
        return np.abs(self.values)


_Step = _Scaling | _Filling


def _standard(step: Any) -> _Step:
    operations: list[tuple[np.ufunc, messages.Array]] = []
    if step.with_mean:
        operations.append((np.subtract, step.mean_))
    if step.with_std:
        operations.append((np.divide, step.scale_))
    return _Scaling(operations, narrow=True)


def _robust(step: Any) -> _Step:
    operations: list[tuple[np.ufunc, messages.Array]] = []
    if step.with_centering:
        operations.append((np.subtract, step.center_))
    if step.with_scaling:
        operations.append((np.divide, step.scale_))
    return _Scaling(operations)


def _min_max(step: Any) -> _Step:
    return _Scaling([(np.multiply, step.scale_), (np.add, step.min_)])


def _max_abs(step: Any) -> _Step:
    return _Scaling([(np.divide, step.scale_)])


def _imputer(step: Any) -> _Step:
    values = np.asarray(step.statistics_)
    plain = isinstance(step.missing_values, float) and np.isnan(step.missing_values) and not step.add_indicator
    if not plain or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise kernel.Unsupported("its SimpleImputer does more than to fill in a number a feature")
    return _Filling(values)


_KNOWN: Mapping[str, Callable[[Any], _Step]] = {
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "SimpleImputer": _imputer,
}


def _of(step: Any) -> _Step:
    kind = type(step).__name__
    if type(step).__module__.split(".")[0] != "sklearn" or kind not in _KNOWN or getattr(step, "clip", False):
        raise kernel.Unsupported(f"its step {kind} has no compiled form")
    return _KNOWN[kind](step)


def read(steps: Sequence[Any]) -> list[_Step]:
    """The steps before the last of a pipeline. Raises ``kernel.Unsupported`` for those that are not known."""
    return [_of(step) for step in steps if step is not None and step != "passthrough"]


def before(steps: Sequence[Any], last: kernel.Kernel) -> kernel.Kernel:
    """``last`` behind steps, the first to be applied first."""
    found = read(steps)
    if not found:
        return last
    if last.missing:
        raise kernel.Unsupported("missing values pass through its scaler")
    borders = dict(last.thresholds)
    # Single precision is the narrowest that any final step takes; what a step makes of a number must fit in there.
    limit = min(sk_linear.LIMIT, float(np.finfo(np.float32).max))
    for step in reversed(found):
        slope, offset = step.slope(last.features), step.offset(last.features)
        limit = (limit / 2 - float(np.abs(offset).max())) / max(float(np.abs(slope).max()), 1.0)
        if isinstance(step, _Scaling):
            borders = {at: (values - offset[at]) / slope[at] for at, values in borders.items() if slope[at]}
    if not limit > 0:
        raise kernel.Unsupported("its steps go beyond single precision")
    fills = any(step.fills for step in found)

    def scores(matrix: messages.Array) -> messages.Array:
        for step in found:
            matrix = step.apply(matrix)
        return last.scores(matrix)

    guard = kernel.within_or_missing(limit) if fills else kernel.within(limit)
    return dataclasses.replace(last, scores=scores, guard=guard, thresholds=borders, missing=fills)
