"""Finds a plausible row for a fitted model in the model itself: what it learned says what its data looks like.

For the warm-up, the printed curl and the example route. Scalers remember means, trees split where the data lies,
nearest neighbours keep whole rows; where nothing is remembered, zeros do. Attribute names are those of scikit-learn,
read by ``getattr`` so that lookalikes work too and no library is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mlship.protocol import messages

_MAX_TREES = 50
_TINY = 1e-12
# Attributes that are one value a feature, and those that are rows of which the mean is taken.
_VECTORS = ("mean_", "center_", "statistics_", "location_")
_ROWS = ("_fit_X", "support_vectors_", "cluster_centers_", "theta_", "means_", "centroids_", "quantiles_")


def inner(estimator: Any) -> Any:
    """The fitted estimator that sees the data first: a pipeline's first step, a search's best estimator."""
    for _ in range(10):
        steps = getattr(estimator, "steps", None)
        if isinstance(steps, list) and steps:
            real = [step for _, step in steps if step is not None and step != "passthrough"]
            estimator = real[0] if real else estimator
            if not real:
                return estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator
    return estimator


def typical(estimator: Any, features: int) -> tuple[float, ...]:
    """Plausible values, one a feature; zeros when the model remembers nothing."""
    for source in (_vectors, _ranges, _rows, _trees):
        values = source(inner(estimator), features)
        if values is not None and values.shape == (features,) and np.isfinite(values).all():
            return rounded(values)
    nested = getattr(estimator, "estimators_", None) or getattr(estimator, "estimator", None)
    candidates = nested if isinstance(nested, list) else [nested]
    first = next((item for item in candidates if getattr(item, "n_features_in_", None) == features), None)
    return typical(first, features) if first is not None and first is not estimator else (0.0,) * features


def rounded(values: messages.Array) -> tuple[float, ...]:
    """Four significant digits: enough to be plausible, short enough to be read."""
    return tuple(float(f"{value:.4g}") if abs(value) > _TINY else 0.0 for value in values)


def thresholds(pairs: Iterable[tuple[messages.Array, messages.Array]], features: int) -> messages.Array | None:
    """The median split of each feature, from arrays of feature numbers and of thresholds; zero where never split."""
    numbers, values = [], []
    for number, value in pairs:
        numbers.append(np.asarray(number))
        values.append(np.asarray(value, dtype=np.float64))
    if not numbers:
        return None
    number, value = np.concatenate(numbers), np.concatenate(values)
    usable = (number >= 0) & np.isfinite(value)
    if not usable.any():
        return None
    found = np.zeros(features)
    for feature in np.unique(number[usable]):
        if feature < features:
            found[int(feature)] = np.median(value[usable & (number == feature)])
    return found


def _vectors(estimator: Any, features: int) -> messages.Array | None:
    for name in _VECTORS:
        value = getattr(estimator, name, None)
        if isinstance(value, np.ndarray) and value.shape == (features,) and value.dtype.kind in "fiu":
            return value.astype(np.float64)
    return None


def _ranges(estimator: Any, features: int) -> messages.Array | None:
    low, high = getattr(estimator, "data_min_", None), getattr(estimator, "data_max_", None)
    if isinstance(low, np.ndarray) and isinstance(high, np.ndarray):
        return (low + high) / 2.0
    peak = getattr(estimator, "max_abs_", None)
    return peak / 2.0 if isinstance(peak, np.ndarray) else None


def _rows(estimator: Any, features: int) -> messages.Array | None:
    for name in _ROWS:
        value = getattr(estimator, name, None)
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == features and len(value):
            middle = value[0] if name in ("_fit_X", "support_vectors_") else np.median(value, axis=0)
            return np.asarray(middle, dtype=np.float64)
    return None


def _trees(estimator: Any, features: int) -> messages.Array | None:
    members = getattr(estimator, "estimators_", None)
    if isinstance(members, list | np.ndarray):
        trees = [getattr(member, "tree_", None) for member in np.asarray(members, dtype=object).ravel()[:_MAX_TREES]]
    else:
        trees = [getattr(estimator, "tree_", None)]
    pairs = [(tree.feature, tree.threshold) for tree in trees if tree is not None and hasattr(tree, "threshold")]
    return thresholds(pairs or _histogram_trees(estimator), features)


def _histogram_trees(estimator: Any) -> list[tuple[messages.Array, messages.Array]]:
    """The splits of scikit-learn's histogram gradient boosting."""
    pairs = []
    for predictors in getattr(estimator, "_predictors", ())[:_MAX_TREES]:
        for predictor in predictors:
            nodes = predictor.nodes
            splits = nodes[nodes["is_leaf"] == 0]
            pairs.append((splits["feature_idx"].astype(np.int64), splits["num_threshold"]))
    return pairs
