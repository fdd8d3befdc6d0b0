"""scikit-learn's linear models and scalers as the few NumPy operations they are, without what surrounds those.

Of the 180 us that scikit-learn takes for one row of a scaled logistic regression, the arithmetic is 5: the rest checks
what the server has checked before. The operations, their order and the arrays are scikit-learn's own, so that BLAS is
called the same way and gives the same bits.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel

CONVERTER = "numpy"
# No product of sums overflows below it; beyond it the original answers, with its own words and warnings.
_LIMIT = 1e100


def classifier(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A linear classifier: a score a class, or one for the second of two. Nothing of it is worth keeping."""
    named = kernel.labels(fitted.classes_)

    def predict(scores: messages.Array) -> messages.Array:
        return named((scores > 0).astype(np.int64) if scores.ndim == 1 else np.argmax(scores, axis=1))

    finish: dict[str, kernel.Step] = {"predict": predict, "decision_function": lambda scores: scores}
    if type(fitted).__name__ == "LogisticRegression":
        finish["predict_proba"] = _two if len(fitted.classes_) == 2 else _softmax
    coefficients, intercept = fitted.coef_.T, fitted.intercept_

    def scores(matrix: messages.Array) -> messages.Array:
        found: messages.Array = matrix @ coefficients + intercept
        return found.reshape(-1) if found.shape[1] == 1 else found

    return _kernel(fitted, scores, finish)


def regressor(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A linear regression, of one target or several. Nothing of it is worth keeping."""
    coefficients = fitted.coef_ if fitted.coef_.ndim == 1 else fitted.coef_.T
    intercept = fitted.intercept_

    def scores(matrix: messages.Array) -> messages.Array:
        found: messages.Array = matrix @ coefficients + intercept
        return found

    return _kernel(fitted, scores, {"predict": lambda scores: scores})


def _kernel(fitted: Any, scores: kernel.Step, finish: dict[str, kernel.Step]) -> kernel.Kernel:
    if not (isinstance(fitted.coef_, np.ndarray) and np.abs(fitted.coef_).max(initial=0) < _LIMIT):
        raise kernel.Unsupported("its coefficients are sparse or beyond measure")
    return kernel.Kernel(CONVERTER, int(fitted.n_features_in_), scores, finish, kernel.within(_LIMIT))


def _softmax(scores: messages.Array) -> messages.Array:
    found: messages.Array = scores - scores.max(axis=1).reshape(-1, 1)
    np.exp(found, out=found)
    found /= found.sum(axis=1).reshape(-1, 1)
    return found


def _two(scores: messages.Array) -> messages.Array:
    second = importlib.import_module("scipy.special").expit(scores)
    found: messages.Array = np.stack([1 - second, second], axis=1)
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Scaling:
    """``(x - minus) / over`` or ``x * times + plus``, one number a feature; None: left out."""

    minus: messages.Array | None = None
    over: messages.Array | None = None
    times: messages.Array | None = None
    plus: messages.Array | None = None

    def apply(self, matrix: messages.Array) -> messages.Array:
        found = matrix
        # By names and not by a loop: each of these is a tenth of what one row takes.
        if self.minus is not None:
            found = found - self.minus.astype(found.dtype, copy=False)
        if self.over is not None:
            found = found / self.over.astype(found.dtype, copy=False)
        if self.times is not None and self.plus is not None:
            # scikit-learn multiplies in place by double precision: single is rounded after each operation.
            found = (found * self.times).astype(found.dtype, copy=False)
            found = (found + self.plus).astype(found.dtype, copy=False)
        return found

    @property
    def slope(self) -> messages.Array | float:
        if self.times is not None:
            return self.times
        return 1.0 if self.over is None else 1.0 / self.over

    def offset(self, features: int) -> messages.Array:
        found: messages.Array = self.apply(np.zeros((1, features)))[0]
        return found


def check(steps: Sequence[Any]) -> None:
    """Raise ``kernel.Unsupported`` for steps that ``scaled`` does not know."""
    for step in steps:
        if step is not None and step != "passthrough":
            _scaling(step)


def _scaling(step: Any) -> _Scaling:
    kind = type(step).__name__
    if type(step).__module__.split(".")[0] == "sklearn" and kind == "StandardScaler":
        return _Scaling(minus=step.mean_ if step.with_mean else None, over=step.scale_ if step.with_std else None)
    if type(step).__module__.split(".")[0] == "sklearn" and kind == "MinMaxScaler" and not step.clip:
        return _Scaling(times=step.scale_, plus=step.min_)
    raise kernel.Unsupported(f"its step {kind} has no compiled form")


def scaled(steps: Sequence[Any], last: kernel.Kernel) -> kernel.Kernel:
    """``last`` behind scalers, the first to be applied first."""
    scalings = [_scaling(step) for step in steps if step is not None and step != "passthrough"]
    if not scalings:
        return last
    if last.missing:
        raise kernel.Unsupported("missing values pass through its scaler")
    borders = dict(last.thresholds)
    # Single precision is the narrowest that any final step takes; what a scaler makes of a number must fit in there.
    limit = min(_LIMIT, float(np.finfo(np.float32).max))
    for scaling in reversed(scalings):
        slope = np.broadcast_to(np.asarray(scaling.slope, dtype=np.float64), last.features)
        offset = scaling.offset(last.features)
        limit = (limit / 2 - float(np.abs(offset).max())) / max(float(np.abs(slope).max()), 1.0)
        borders = {at: (values - offset[at]) / slope[at] for at, values in borders.items() if slope[at]}
    if not limit > 0:
        raise kernel.Unsupported("its scaler goes beyond single precision")

    def scores(matrix: messages.Array) -> messages.Array:
        for scaling in scalings:
            matrix = scaling.apply(matrix)
        return last.scores(matrix)

    return dataclasses.replace(last, scores=scores, guard=kernel.within(limit), thresholds=borders)
