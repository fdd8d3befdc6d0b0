"""scikit-learn's trees, forests and boosted trees as ensembles; the finishing touches are scikit-learn's own.

Forests divide the sum of their trees, as ``BaseForest.predict_proba`` does; boosting turns scores into probabilities
by the fitted loss, so that nothing is computed in a second way. Attributes used: ``tree_`` (documented),
``_predictors``, ``_baseline_prediction``, ``_raw_predict_init`` and ``_loss`` (private: where a version has others,
the conversion fails and the original serves).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlship.protocol import messages
from mlship.server.accelerate import kernel, trees


def _of_tree(tree: Any, values: messages.Array, target: int = 0) -> trees.Tree:
    return trees.Tree(tree.feature, tree.threshold, tree.children_left, tree.children_right, values, target)


def _single_target(fitted: Any) -> None:
    if getattr(fitted, "n_outputs_", 1) != 1:
        raise kernel.Unsupported("it has several targets")


def _rounded(run: kernel.Step) -> kernel.Step:
    """scikit-learn's trees see their inputs in single precision and compare them with thresholds in double."""
    return lambda matrix: run(matrix.astype(np.float32).astype(np.float64))


def _kernel(
    ensemble: trees.Ensemble,
    finish: Mapping[str, kernel.Step],
    *,
    wrap: Callable[[kernel.Step], kernel.Step] = _rounded,
) -> kernel.Kernel:
    return kernel.Kernel(
        converter=trees.CONVERTER,
        features=ensemble.features,
        scores=wrap(trees.compiled(ensemble)),
        finish=finish,
        guard=kernel.SINGLE,
        thresholds=trees.thresholds(ensemble),
    )


def classifier(fitted: Any) -> kernel.Kernel:
    """A decision tree, or a forest of them: the mean of the trees' class frequencies."""
    _single_target(fitted)
    members = getattr(fitted, "estimators_", [fitted])
    count, classes = len(members), len(fitted.classes_)
    parts = [
        _of_tree(member.tree_, member.tree_.value[:, 0, number], number)
        for member in members
        for number in range(classes)
    ]
    ensemble = trees.Ensemble(parts, targets=classes, features=int(fitted.n_features_in_))
    named = kernel.labels(fitted.classes_)

    def mean(scores: messages.Array) -> messages.Array:
        return scores / count if hasattr(fitted, "estimators_") else scores

    return _kernel(
        ensemble,
        {"predict": lambda scores: named(np.argmax(mean(scores), axis=1)), "predict_proba": mean},
    )


def regressor(fitted: Any) -> kernel.Kernel:
    """A decision tree, or a forest of them: the mean of the trees' values."""
    _single_target(fitted)
    members = getattr(fitted, "estimators_", [fitted])
    count = len(members)
    parts = [_of_tree(member.tree_, member.tree_.value[:, 0, 0]) for member in members]
    ensemble = trees.Ensemble(parts, targets=1, features=int(fitted.n_features_in_))
    return _kernel(ensemble, {"predict": lambda scores: scores.ravel() / count})


def boosted(fitted: Any) -> kernel.Kernel:
    """Gradient boosting: a starting score, then each tree's value times the learning rate."""
    start = fitted._raw_predict_init(np.zeros((2, fitted.n_features_in_), dtype=np.float32))
    if type(fitted.init_).__name__ not in ("str", "DummyClassifier", "DummyRegressor"):
        raise kernel.Unsupported("its starting score is a model of its own")
    parts = [trees.constant(value, number) for number, value in enumerate(start[0])]
    for stage in fitted.estimators_:
        for number, member in enumerate(stage):
            parts.append(_of_tree(member.tree_, fitted.learning_rate * member.tree_.value[:, 0, 0], number))
    ensemble = trees.Ensemble(parts, targets=start.shape[1], features=int(fitted.n_features_in_))
    if not hasattr(fitted, "classes_"):
        return _kernel(ensemble, {"predict": np.ravel})
    return _kernel(ensemble, _boosted_classes(fitted, at_zero=True))


def histogram(fitted: Any) -> kernel.Kernel:
    """Histogram-based gradient boosting: double precision throughout, missing values have a side of their own."""
    if getattr(fitted, "is_categorical_", None) is not None and np.any(fitted.is_categorical_):
        raise kernel.Unsupported("it branches on categories")
    start = np.ravel(fitted._baseline_prediction)
    parts = [trees.constant(value, number) for number, value in enumerate(start)]
    for stage in fitted._predictors:
        parts += [_of_nodes(member.nodes, number) for number, member in enumerate(stage)]
    ensemble = trees.Ensemble(parts, targets=len(start), features=int(fitted.n_features_in_))
    if hasattr(fitted, "classes_"):
        finish = _boosted_classes(fitted, at_zero=False)
    else:
        finish = {"predict": lambda scores: fitted._loss.link.inverse(scores.ravel())}
    return kernel.Kernel(
        converter=trees.CONVERTER,
        features=ensemble.features,
        scores=_doubled(trees.compiled(ensemble)),
        finish=finish,
        guard=kernel.anything,
        thresholds=trees.thresholds(ensemble),
        missing=True,
    )


def _doubled(run: kernel.Step) -> kernel.Step:
    return lambda matrix: run(matrix.astype(np.float64, copy=False))


def _of_nodes(nodes: Any, target: int) -> trees.Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return trees.Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        value=nodes["value"],
        target=target,
        missing_left=nodes["missing_go_to_left"],
    )


def _boosted_classes(fitted: Any, *, at_zero: bool) -> dict[str, kernel.Step]:
    """``at_zero``: whether a score of exactly zero means the second class."""
    named = kernel.labels(fitted.classes_)

    def decision(scores: messages.Array) -> messages.Array:
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(scores: messages.Array) -> messages.Array:
        if scores.shape[1] > 1:
            return named(np.argmax(scores, axis=1))
        return named(((scores.ravel() >= 0) if at_zero else (scores.ravel() > 0)).astype(np.int64))

    return {"predict": predict, "predict_proba": fitted._loss.predict_proba, "decision_function": decision}
