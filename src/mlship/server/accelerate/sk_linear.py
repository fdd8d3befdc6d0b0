"""scikit-learn's linear models as the few NumPy operations they are, without what surrounds those.

Of the 180 us that scikit-learn takes for one row of a scaled logistic regression, the arithmetic is 5: the rest checks
what the server has checked before. The operations, their order and the arrays are scikit-learn's own, so that BLAS is
called the same way and gives the same bits.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel

CONVERTER = "numpy"
# No product of sums overflows below it; beyond it the original answers, with its own words and warnings.
LIMIT = 1e100


def classifier(fitted: Any, kept: kernel.Form | None = None) -> kernel.Kernel:
    """A linear classifier: a score a class, or one for the second of two. Nothing of it is worth keeping."""
    named = kernel.labels(fitted.classes_)

    def predict(scores: messages.Array) -> messages.Array:
        return named(scores > 0 if scores.ndim == 1 else scores.argmax(axis=1))

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
    if not (isinstance(fitted.coef_, np.ndarray) and np.abs(fitted.coef_).max(initial=0) < LIMIT):
        raise kernel.Unsupported("its coefficients are sparse or beyond measure")
    return kernel.Kernel(CONVERTER, int(fitted.n_features_in_), scores, finish, kernel.within(LIMIT))


def _softmax(scores: messages.Array) -> messages.Array:
    found: messages.Array = scores - scores.max(axis=1).reshape(-1, 1)
    np.exp(found, out=found)
    found /= found.sum(axis=1).reshape(-1, 1)
    return found


def _two(scores: messages.Array) -> messages.Array:
    second = importlib.import_module("scipy.special").expit(scores)
    found: messages.Array = np.stack([1 - second, second], axis=1)
    return found
